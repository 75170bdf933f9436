"""timm's encoders without a classifier, and the networks whose grids come from the positions of tokens."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import timm
import torch

from kdbench.errors import ModelError
from kdbench.models.backbone.intermediates import run_intermediates
from kdbench.models.zoo import create_model

pytestmark = pytest.mark.skipif(
    not timm.is_model("deepseek_vit_412m_enc"), reason="this timm is older than these encoders"
)
_SMALL = {"embed_dim": 32, "depth": 5, "num_heads": 2}
_GEMMA = {**_SMALL, "head_dim": 16, "intermediate_size": 48, "position_embedding_size": 12}
#: name: options of a small copy, side of the image, shape of the encoder's own output, grid of the last stage
ENCODERS: dict[str, tuple[dict[str, Any], int, tuple[int, ...], tuple[int, int]]] = {
    "qwen3_vit_88m_enc": ({**_SMALL, "out_features": 24}, 64, (4, 24), (4, 4)),
    "deepseek_vit_412m_enc": ({**_SMALL, "out_features": 24}, 98, (9, 24), (7, 7)),
    "gemma4_vit_167m_enc": (_GEMMA, 96, (4, 32), (6, 6)),
    "gemma4_vit_570m_enc": (_GEMMA, 96, (4, 32), (6, 6)),
    "mobilenetv5_300m_enc": ({"channel_multiplier": 0.1}, 64, (2048, 16, 16), (2, 2)),
}
#: what the values of a head say, which a network without weights does not know
NEEDS_VALUES = {"head": "", "provides": frozenset()}


def build(name: str, **more: Any):
    options, side, _, _ = ENCODERS[name]
    return create_model(f"timm:{name}", num_classes=5, seed=0, norm="none", input_size=side, **options, **more).eval()


def encoder(name: str) -> Any:
    return timm.create_model(name, **ENCODERS[name][0])


def check_shapes(model, described) -> None:
    """A real forward pass gives what the spec says, and the spec is that of the meta device."""
    assert replace(described, **NEEDS_VALUES) == replace(model.spec, **NEEDS_VALUES)
    with torch.no_grad():
        output = model(torch.rand(1, 3, *model.input_size), need={"stages", "prefix"})
        bare = model.backbone(model.prepare(torch.rand(2, 3, *model.input_size)))
    assert [tuple(m.shape[1:]) for m in output.stages] == [(s.channels, *s.grid) for s in described.stages]
    assert output.penultimate.shape == (1, described.penultimate)
    assert output.logits.shape == (1, described.num_classes)
    assert bare.shape == (2, described.num_classes)


@pytest.mark.parametrize("name", ENCODERS)
def test_the_classifier_reads_the_mean_of_the_encoders_own_output(name: str) -> None:
    _, _, shape, grid = ENCODERS[name]
    model = build(name)
    network = model.backbone.network
    if getattr(network, "std_bias", None) is not None:
        network.std_bias.normal_()
    x = torch.rand(2, 3, *model.input_size)
    with torch.no_grad():
        own = network(x)
        full, bare = model(x, need=model.spec.provides), model(x)
    assert own.shape[1:] == shape
    mean = own.mean((2, 3) if own.dim() == 4 else 1)
    torch.testing.assert_close(full.penultimate, mean)
    torch.testing.assert_close(full.logits, torch.nn.functional.linear(mean, model.backbone.head.weight))
    torch.testing.assert_close(bare.logits, full.logits)
    assert model.spec.stages[-1].grid == grid
    assert model.spec.head == "gap"
    assert ("cams" in model.spec.provides) == (own.dim() == 4)


@pytest.mark.parametrize("name", ENCODERS)
def test_the_meta_device_says_what_a_forward_pass_gives(name: str) -> None:
    with torch.device("meta"):
        described = build(name).spec
    check_shapes(build(name), described)


@pytest.mark.parametrize("name", ENCODERS)
def test_every_parameter_learns_and_a_copy_has_its_own(name: str) -> None:
    model = build(name).train()
    twin = copy.deepcopy(model)
    before = copy.deepcopy(model.backbone.state_dict())
    twin(torch.rand(2, 3, *twin.input_size)).logits.square().sum().backward()
    assert not [key for key, p in twin.named_parameters() if p.grad is None]
    with torch.no_grad():
        for p in twin.parameters():
            p.add_(1.0)
    assert all(torch.equal(before[key], value) for key, value in model.backbone.state_dict().items())
    twin.freeze_backbone()
    assert [key for key, p in twin.named_parameters() if p.requires_grad] == [
        "backbone.head.weight",
        "backbone.head.bias",
    ]


def test_the_encoders_own_weights_fit(tmp_path) -> None:
    name = "qwen3_vit_88m_enc"
    theirs = encoder(name).state_dict()
    torch.save(theirs, tmp_path / "encoder.pth")
    own = build(name).backbone.state_dict()
    assert list(own) == [*theirs, "head.weight", "head.bias"]
    overlay = {"pretrained_cfg_overlay": {"file": str(tmp_path / "encoder.pth")}}
    file = str(tmp_path / "encoder.pth")
    for loaded in (build(name, weights=file, head="reset"), build(name, weights="pretrained", **overlay)):
        assert loaded.fresh_head
        found = loaded.backbone.state_dict()
        assert all(torch.equal(found[key], value) for key, value in theirs.items())
        assert torch.equal(found["head.weight"], own["head.weight"])
    with pytest.raises(ModelError, match=r"holds no classifier \(head.weight \[5, 24\]\); HEAD: reset"):
        build(name, weights=file)


def test_an_option_takes_the_projection_away() -> None:
    model = create_model(
        "timm:qwen3_vit_88m_enc", num_classes=5, seed=0, norm="none", input_size=64, global_pool="avg", **_SMALL
    )
    assert model.spec.penultimate == 32
    x = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(model(x).penultimate, model.backbone.network(x))


@pytest.mark.parametrize("name", ["gemma4_vit_167m", "gemma4_vit_167m_enc"])
def test_grids_are_those_that_timm_reads_from_the_positions(name: str) -> None:
    network: Any = timm.create_model(name, **_GEMMA).eval()
    x = torch.rand(2, 3, 48, 144)
    with torch.no_grad():
        features, maps = run_intermediates(network, x, [1, 4])
        theirs, their_maps = network.forward_intermediates(x, indices=[1, 4])
    assert maps[0].shape == (2, 32, 3, 9)
    assert torch.equal(features, theirs)
    assert all(torch.equal(a, b) for a, b in zip(maps, their_maps, strict=True))


@pytest.mark.parametrize(("name", "side"), [("qwen3_vit_88m_enc", 64), ("gemma4_vit_167m", 96)])
def test_published_sizes(name: str, side: int) -> None:
    with torch.device("meta"):
        described = create_model(f"timm:{name}", num_classes=10, input_size=side).spec
    check_shapes(create_model(f"timm:{name}", num_classes=10, input_size=side).eval(), described)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["mobilenetv5_300m_enc", "qwen3_vit_88m_enc", "gemma4_vit_167m", "gemma4_vit_167m_enc"]
)
def test_published_sizes_of_network_and_image(name: str) -> None:
    with torch.device("meta"):
        described = create_model(f"timm:{name}", num_classes=10).spec
    check_shapes(create_model(f"timm:{name}", num_classes=10).eval(), described)
