"""What the wrapper gives beyond logits: stages, maps before activations, class maps, regions, the network in pieces."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from wrapped_networks import ALL, CLASSES, network

from kdbench.errors import ModelError
from kdbench.models.feature_model.model import FeatureModel
from kdbench.models.feature_model.regions import sdd_pool

EXTRAS = {"stages", "prefix", "classifier", "pre_activation", "bn_affine", "cams", "region_maps", "region_logits"}
GAP = {"cams", "region_maps", "region_logits"}
OFD = {"pre_activation", "bn_affine"}
#: what each network gives besides logits, penultimate, stages, prefix and classifier
GIVES = {
    "small_cnn": GAP | OFD,
    "small_vit": GAP - {"cams"},
    "small_vit_token": set(),
    "small_vit_gap": GAP,
    "small_mixer": GAP,
    "resnet20": GAP | OFD,
    "wrn_16_2": GAP | OFD,
    "vgg8": GAP | OFD,
    "MobileNetV2": GAP,
    "ShuffleV1": GAP | OFD,
    "ShuffleV2": GAP | {"pre_activation"},
    "resnet18": GAP | OFD,
    "resnet50": GAP | OFD,
    "resnet10t": GAP | OFD,
    "convnext": GAP - {"cams"},
    "swin": GAP,
    "swinv2": GAP,
    "deit": {"head_logits"},
    "efficientnet": GAP,
    "mobilenetv1": GAP | OFD,
    "mobilenetv3": set(),
    "regnet": GAP,
}
#: two classifiers, or more than a linear layer behind the penultimate vector
COMPOSITE = {"deit", "mobilenetv3"}
BY_PLACES = [key for key in ALL if "region_logits" in GIVES[key]]
PREACT = [key for key in ALL if "pre_activation" in GIVES[key]]


def images(size: int = 3) -> Tensor:
    return torch.rand(size, 3, 32, 32, generator=torch.Generator().manual_seed(5))


def by_stages(model: FeatureModel, x: Tensor) -> tuple[list[tuple[Tensor, Tensor | None]], Tensor, Tensor]:
    x = model.begin(x)
    pairs = [model.to_map(-1, x)]
    for i in range(len(model.spec.stages)):
        x = model.run_stage(i, x)
        pairs.append(model.to_map(i, x))
    output = model.finish(x)
    return pairs, output.penultimate, output.logits


@pytest.mark.parametrize("key", ALL)
def test_provides_names_exactly_what_is_there(key: str) -> None:
    model = network(key).eval()
    plain = set() if key in COMPOSITE else {"classifier"}
    assert model.spec.provides == {"logits", "penultimate", "stages", "prefix"} | plain | GIVES[key]
    output = model(images(), need=model.spec.provides)
    for kind in EXTRAS:
        assert (getattr(output, kind) is not None) == (kind in model.spec.provides), kind
    assert [tuple(m.shape[1:]) for m in output.stages] == [(s.channels, *s.grid) for s in model.spec.stages]
    assert [p.shape[1] for p in output.prefix] == [s.prefix_tokens for s in model.spec.stages]
    for kind in EXTRAS - model.spec.provides:
        with pytest.raises(ModelError, match=kind):
            model(images(), need={kind})


@pytest.mark.parametrize("key", ALL)
def test_nothing_is_given_that_was_not_asked_for(key: str) -> None:
    model = network(key).eval()
    assert all(getattr(model(images()), kind) is None for kind in EXTRAS)
    for kind in EXTRAS & model.spec.provides:
        output = model(images(), need={kind})
        assert [k for k in EXTRAS if getattr(output, k) is not None] == [kind]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("key", ALL)
def test_the_pieces_make_the_forward_pass(key: str, training: bool) -> None:
    whole = network(key).train(training)
    pieces = copy.deepcopy(whole)
    torch.manual_seed(3)
    expected = whole(images(), need={"stages", "prefix"})
    torch.manual_seed(3)
    pairs, penultimate, logits = by_stages(pieces, images())
    assert torch.equal(logits, expected.logits)
    assert torch.equal(penultimate, expected.penultimate)
    stem = whole.spec.stem
    assert pairs[0][0].shape[1:] == (stem.channels, *stem.grid)
    for (feature_map, prefix), stage, tokens in zip(pairs[1:], expected.stages, expected.prefix, strict=True):
        assert torch.equal(feature_map, stage)
        assert torch.equal(tokens, tokens[:, :0] if prefix is None else prefix)
    for (name, a), b in zip(whole.state_dict().items(), pieces.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("key", ALL)
def test_maps_are_those_of_the_backbones_own_interface(key: str) -> None:
    model = network(key).eval()
    x = model.prepare(images())
    indices = [int(s.name) for s in model.spec.stages if s.name != "-1"]
    features, maps = model.backbone.forward_intermediates(x, indices=indices)
    output = model(images(), need={"stages"})
    for ours, theirs in zip(output.stages, [*maps, features], strict=False):
        assert torch.equal(ours, theirs)
    assert torch.equal(output.logits, model.backbone(x))
    assert torch.equal(model(images()).logits, model.backbone(x))


@pytest.mark.parametrize("key", ALL)
def test_from_map_is_the_inverse_of_to_map(key: str) -> None:
    model = network(key).eval()
    x = model.begin(images())
    for i in range(-1, len(model.spec.stages)):
        x = x if i < 0 else model.run_stage(i, x)
        feature_map, prefix = model.to_map(i, x)
        back = model.from_map(i, feature_map.clone(), prefix)
        assert torch.equal(back, x)
        if prefix is not None:
            with pytest.raises(ModelError, match="prefix tokens"):
                model.from_map(i, feature_map, None)


@pytest.mark.parametrize("key", [key for key in ALL if "cams" in GIVES[key]])
def test_class_activation_maps_average_to_the_logits_without_bias(key: str) -> None:
    model = network(key).eval()
    output = model(images(), need={"cams", "region_maps"})
    classifier = model.backbone.get_classifier()
    nn.init.normal_(classifier.bias)
    assert output.cams.shape[1] == CLASSES
    assert output.cams.shape[2:] == output.region_maps.shape[2:]
    logits = model(images()).logits
    torch.testing.assert_close(output.cams.mean((2, 3)) + classifier.bias, logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("key", BY_PLACES)
def test_region_logits_are_the_head_on_pooled_regions(key: str) -> None:
    model = network(key).eval()
    nn.init.normal_(model.backbone.get_classifier().bias)
    output = model(images(), need={"region_logits", "region_maps"})
    assert output.region_logits.shape == (3, CLASSES, 21)
    regions = sdd_pool(output.region_maps)
    if "cams" in GIVES[key]:
        expected = model.backbone.get_classifier()(regions.transpose(1, 2)).transpose(1, 2)
        torch.testing.assert_close(output.region_logits, expected)
    side = output.region_maps.shape[2]
    if side % 4 == 0 or side in (1, 2):  # elsewhere the pooling to 4x4 weighs places unequally
        torch.testing.assert_close(output.region_logits[:, :, 0], output.logits, rtol=1e-4, atol=1e-5)


def test_a_pooling_head_sees_each_region_as_an_image_of_its_own() -> None:
    """Region 1 of the 2x2 scale is the upper left quarter."""
    model = network("small_vit").eval()
    last = model(images(), need={"region_maps"}).region_maps
    quarter = last[:, :, :2, :2].flatten(2).transpose(1, 2)
    expected = model.backbone.forward_head(quarter)
    torch.testing.assert_close(model(images(), need={"region_logits"}).region_logits[:, :, 1], expected)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("key", PREACT)
def test_maps_before_the_activation(key: str, training: bool) -> None:
    plain = network(key).train(training)
    model = copy.deepcopy(plain)
    torch.manual_seed(3)
    output = model(images(), need={"stages", "pre_activation"})
    torch.manual_seed(3)
    expected = plain(images(), need={"stages"})
    assert torch.equal(output.logits, expected.logits)
    for ours, theirs, before in zip(output.stages, expected.stages, output.pre_activation, strict=True):
        assert torch.equal(ours, theirs)
        assert before.shape == ours.shape
        assert (before < 0).any()
        if key == "mobilenetv1":
            assert torch.equal(F.relu6(before), ours)
        elif key != "wrn_16_2":  # its stages end before the activation
            assert torch.equal(F.relu(before), ours)
    for a, b in zip(model.state_dict().values(), plain.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    sum(before.square().mean() for before in output.pre_activation).backward()
    first = next(model.backbone.parameters())
    assert first.grad is not None
    assert first.grad.isfinite().all()
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())


@pytest.mark.parametrize("key", [key for key in PREACT if "bn_affine" in GIVES[key]])
def test_affine_is_that_of_the_layer_in_front(key: str) -> None:
    model = network(key).eval()
    norms = [dict(model.backbone.named_modules())[name] for name in model._pieces.norms]
    for number, bn in enumerate(norms):
        nn.init.constant_(bn.weight, number + 2.0)
        nn.init.constant_(bn.bias, -number - 3.0)
    outputs: dict[str, Tensor] = {}
    for name, bn in zip(model._pieces.norms, norms):
        bn.register_forward_hook(lambda m, i, o, name=name: outputs.update({name: o.clone()}))
    found = model(images(), need={"bn_affine", "pre_activation"})
    for number, affine in enumerate(found.bn_affine):
        assert affine.shape == (2, model.spec.pre_activation[number].channels)
        assert not affine.requires_grad
        assert (affine[0] == number + 2.0).all()
        assert (affine[1] == -number - 3.0).all()
    if key == "wrn_16_2":
        for name, before in zip(model._pieces.norms, found.pre_activation):
            torch.testing.assert_close(before, outputs[name])


def test_copies_and_pickles_run_their_own_weights() -> None:
    model = network("swin").eval()
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):  # noqa: S301 - our own bytes
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.zero_()
        assert other(images(), need={"stages"}).logits.abs().sum() == 0


def test_networks_without_a_plan_say_so() -> None:
    from kdbench.models.zoo import create_model

    model = create_model("timm:levit_128s", num_classes=3, seed=0)
    assert model.spec.stem is None
    for call in (lambda: model.begin(images()), lambda: model.finish(images()), lambda: model.to_map(0, images())):
        with pytest.raises(ModelError, match="cannot be run stage by stage"):
            call()


def test_stages_out_of_order_are_refused() -> None:
    """Methods pair stages from the deepest."""
    from kdbench.models.zoo import create_model

    for stages in ([2, 0], [1, 1], [-1, 2]):
        with pytest.raises(ModelError, match="go from shallow to deep"):
            create_model("resnet20", num_classes=3, seed=0, stages=stages)
