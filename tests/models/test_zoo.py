"""Names to networks: paper names, shared names, origins, published weights, and what a wrong name is told."""

from __future__ import annotations

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import nn

import kdbench
from kdbench.catalogue import _read
from kdbench.errors import ConfigError, ModelError, UnknownNameError
from kdbench.models.feature_model.stage_choice import choose_stages
from kdbench.models.names import find_entry, list_models
from kdbench.models.zoo import create_model

#: name: millions of parameters with 100 classes, input
PAPER = {
    "Swin-T": (27.60, 224),
    "ViT-S": (21.70, 224),
    "DeiT-T": (5.54, 224),
    "Mixer-B/16": (59.19, 224),
    "ResMLP-S12": (15.00, 224),
    "ConvNeXt-T": (27.90, 224),
    "paper:ResNet18": (11.23, 224),
    "ResNet34": (21.34, 224),
    "paper:ResNet50": (23.71, 224),
    "MobileNetV1": (3.31, 224),
    "paper:MobileNetV2": (2.35, 224),
    "Swin-Nano": (9.14, 224),
    "Swin-Pico": (5.16, 224),
    "VGG8": (3.97, 32),
    "ResNet20": (0.2783, 32),
    "ShuffleNetV2": (1.3561, 224),
    "DINOv2 (ViT-S)": (21.67, 224),
    "DINOv2 (ViT-L)": (303.33, 224),
    "SigLIP2 (ViT-B)": (92.96, 224),
    "SigLIP2 (ViT-L)": (316.06, 256),
}


@pytest.mark.parametrize("name", PAPER)
def test_paper_names(name: str) -> None:
    millions, size = PAPER[name]
    row = next(row for row in _read()["models"] if row["name"].lower() == name.lower())
    assert row["params"] == pytest.approx(1e6 * millions, rel=2e-3)
    assert row["input"] == size
    assert find_entry(name.upper()) is find_entry(name.lower())


def test_aliases_are_found_and_not_listed() -> None:
    assert find_entry("dinov2-vit-s") is find_entry("DINOv2 (ViT-S)")
    assert "DINOv2 (ViT-S)" in list_models("dino*")
    assert "DINOv2-ViT-S" not in list_models("dino*")
    assert find_entry("SigLIP2-ViT-L").headless
    for size in ("Nano", "Pico"):  # OFA-KD's own names
        assert find_entry(f"swin_{size.lower()}_patch4_window7_224") is find_entry(f"Swin-{size}")


@pytest.mark.parametrize(
    ("name", "sizes", "built"),
    [
        ("ResNet18", {}, "ResNet18"),
        ("ResNet18", {"data_size": 32}, "ResNet18"),
        ("ResNet18", {"data_size": 63}, "ResNet18"),
        ("resnet18", {"data_size": 64}, "paper:ResNet18"),
        ("ResNet50", {"data_size": 32, "input_size": 224}, "paper:ResNet50"),
        ("ResNet50", {"data_size": 224, "input_size": 32}, "ResNet50"),
        ("MobileNetV2", {"input_size": 96}, "paper:MobileNetV2"),
        ("cifar:mobilenetv2", {"input_size": 96}, "MobileNetV2"),
        ("timm:resnet18", {"input_size": 32}, "timm:resnet18"),
        ("vgg8", {"input_size": 224}, "vgg8"),
    ],
)
def test_which_network_a_shared_name_means(name: str, sizes: dict[str, int], built: str) -> None:
    with torch.device("meta"):
        model = create_model(name, num_classes=5, **sizes)
    assert model.spec.name == built


def test_students_of_224_pixels() -> None:
    for name in ("VGG8", "ResNet20", "ShuffleNetV2", "MobileNetV2"):
        with torch.device("meta"):
            spec = create_model(name, num_classes=10, input_size=224).spec
        assert spec.input_size == (224, 224)
        assert 3 <= len(spec.stages) <= 4


@pytest.mark.parametrize(
    "name", ["Swin-T", "ViT-S", "DeiT-T", "Mixer-B/16", "ResMLP-S12", "paper:MobileNetV2", "Swin-Pico"]
)
def test_ofakds_stages_know_paper_names(name: str) -> None:
    with torch.device("meta"):
        backbone = find_entry(name).build(num_classes=5)
    chosen = choose_stages(backbone, name, "ofakd")
    isotropic = not name.startswith(("Swin", "paper"))
    assert chosen == ((1, 3, 9, 11) if isotropic else (1, 2, 3, -1) if name.startswith("paper") else (0, 1, 2, 3))


@pytest.mark.parametrize(
    ("size", "millions", "chosen"), [("base", 85.84, (1, 3, 9, 11)), ("large", 303.5, (1, 3, 21, 23))]
)
def test_ofakds_beit_is_timms(size: str, millions: float, chosen: tuple[int, ...]) -> None:
    entry = find_entry(f"timm:beitv2_{size}_patch16_224")
    with torch.device("meta"):
        backbone = entry.build(num_classes=100)
    assert entry.family == "vit"
    assert sum(p.numel() for p in backbone.parameters()) == pytest.approx(1e6 * millions, rel=2e-3)
    assert choose_stages(backbone, entry.name, "ofakd") == chosen


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("timm:resnt18", ["timm:resnt18", "did you mean", "timm:resnet18"]),
        ("timm:resnet18.a1_in2k", ["a1_in2k", "resnet18", "a1_in1k"]),
        ("torchvision:shufflenet_v2", ["torchvision:shufflenet_v2", "did you mean 'shufflenet_v2_x"]),
        ("cifar:resnet57", ["cifar:resnet57", "resnet56"]),
        ("Swim-T", ["Swim-T", "Swin-T"]),
    ],
)
def test_wrong_names_are_told_the_nearest(name: str, words: list[str]) -> None:
    with pytest.raises(UnknownNameError) as error:
        create_model(name, num_classes=3)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "resnet20", "stages": [7]}, ["resnet20", "0 to 2", "7"]),
        ({"name": "resnet20", "stages": "ofakt"}, ["ofakt", "ofakd"]),
        ({"name": "resnet20", "stages": "ofakd"}, ["resnet20", "ofakd", "indices"]),
        ({"name": "vgg8", "input_size": 2}, ["vgg8", "2x2", "INPUT_SIZE"]),
        ({"name": "timm:vgg11_bn", "input_size": 8}, ["vgg11_bn", "8x8", "INPUT_SIZE"]),
        ({"name": "resnet20", "depth": 3}, ["resnet20", "depth"]),
        ({"name": "resnet20", "norm": "imagnet"}, ["imagnet", "imagenet"]),
        ({"name": "resnet20", "norm": [[0, 0, 0], [1, 0, 1]]}, ["resnet20", "std"]),
        ({"name": "resnet20", "weights": "pretrained"}, ["resnet20", "no published weights"]),
        ({"name": "resnet20", "weights": "nowhere.pth"}, ["nowhere.pth"]),
    ],
)
def test_bad_input_is_one_line(arguments: dict, words: list[str]) -> None:
    with pytest.raises(ModelError) as error:
        create_model(num_classes=3, **arguments)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_probing_leaves_shared_modules_where_they_were() -> None:
    """CoaT calls one MLP under three names."""
    model = create_model("timm:coat_tiny", num_classes=3, seed=0)
    assert all(p.device.type == "cpu" for m in model.modules() for p in m._parameters.values() if p is not None)


def published(tmp_path, name: str, classes: int, **options) -> tuple[nn.Module, dict]:
    """A stand-in for a file on the hub, and the options that point timm to it."""
    torch.manual_seed(7)
    network = timm.create_model(name, num_classes=classes, **options)
    torch.save(network.state_dict(), tmp_path / "published.pth")
    return network, {"pretrained_cfg_overlay": {"file": str(tmp_path / "published.pth"), "num_classes": classes}}


def test_published_weights_of_the_same_width(tmp_path) -> None:
    theirs, overlay = published(tmp_path, "resnet10t", 6)
    model = create_model("timm:resnet10t", num_classes=6, weights="pretrained", **overlay)
    assert not model.fresh_head
    assert model.statistics[0] == (0.485, 0.456, 0.406)
    for key, value in theirs.state_dict().items():
        assert torch.equal(model.backbone.state_dict()[key], value), key


def test_published_backbones_get_a_fresh_head_from_the_seed(tmp_path) -> None:
    """Position embeddings are brought to this input size; the head depends on the seed alone."""
    _, overlay = published(tmp_path, "vit_small_patch14_dinov2.lvd142m", 0, img_size=56, depth=1)
    options = {"input_size": 28, "depth": 1, **overlay}
    models = [create_model("DINOv2-ViT-S", num_classes=4, weights="pretrained", seed=s, **options) for s in (1, 1, 2)]
    assert all(model.fresh_head for model in models)
    first, second, other = (model.backbone.state_dict() for model in models)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])
    assert all(torch.equal(first[key], other[key]) for key in first if not key.startswith("head."))
    assert not create_model("DINOv2-ViT-S", num_classes=4, seed=1, input_size=28, depth=1).fresh_head


def test_unreachable_weights_are_one_line(monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    overlay = {"pretrained_cfg_overlay": {"hf_hub_id": "", "url": "http://127.0.0.1:9/nothing.pth"}}
    with pytest.raises(ModelError, match="published weights of timm:resnet10t cannot be fetched") as error:
        create_model("timm:resnet10t", num_classes=6, weights="pretrained", **overlay)
    assert "\n" not in str(error.value)


def test_a_fresh_head_cannot_teach(tmp_path) -> None:
    _, overlay = published(tmp_path, "resnet10t", 3)
    cfg = kdbench.load_config(
        overrides={
            "DATASET.TYPE": "digits",
            "DISTILLER.TYPE": "KD",
            "DISTILLER.TEACHER": "timm:resnet10t",
            "DISTILLER.STUDENT": "small_cnn",
            "TEACHER.WEIGHTS": "pretrained",
            "TEACHER.INPUT_SIZE": 32,
            "TEACHER.OPTIONS": overlay,
            "LOG.PREFIX": str(tmp_path / "runs"),
        }
    )
    with pytest.raises(ConfigError, match=r"no classifier for 10 classes.*kdbench teacher"):
        kdbench.train(cfg)
    assert not (tmp_path / "runs").exists()


def test_files_in_timms_older_layouts_and_of_other_input_sizes_load(tmp_path, caplog):
    """Swin as timm 0.6 and its authors stored it; DINOv2 as published, at 518 pixels."""
    torch.manual_seed(0)
    swin = timm.create_model("swin_tiny_patch4_window7_224", num_classes=7)
    moved = {"layers.1.downsample": "layers.0.downsample", "layers.2.downsample": "layers.1.downsample"}
    moved |= {"layers.3.downsample": "layers.2.downsample", "head.fc": "head"}
    old = {}
    for key, value in swin.state_dict().items():
        start = next((s for s in moved if key.startswith(s)), "")
        old[moved[start] + key[len(start) :] if start else key] = value
    old["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(49, 49, dtype=torch.int64)
    old["layers.0.blocks.1.attn_mask"] = torch.zeros(64, 49, 49)
    torch.save({"state_dict": old}, tmp_path / "swin.pth")
    with caplog.at_level("INFO", "kdbench"):
        model = create_model("Swin-T", num_classes=7, weights=str(tmp_path / "swin.pth"), norm="imagenet")
    assert "adapted by timm" in caplog.text
    for key, value in swin.state_dict().items():
        assert torch.equal(model.backbone.state_dict()[key], value), key

    dino = timm.create_model("vit_small_patch14_dinov2", num_classes=0)
    assert dino.pos_embed.shape[1] == 1 + 37 * 37
    save_file(dino.state_dict(), tmp_path / "dino.safetensors")
    file = str(tmp_path / "dino.safetensors")
    model = create_model("DINOv2 (ViT-S)", num_classes=7, weights=file, norm="imagenet", head="reset")
    assert model.fresh_head
    assert model.backbone.pos_embed.shape[1] == 1 + 16 * 16
    assert torch.equal(model.backbone.blocks[3].mlp.fc1.weight, dino.blocks[3].mlp.fc1.weight)
    published = timm.create_model("vit_small_patch14_dinov2", num_classes=0, img_size=224)
    published.load_state_dict(checkpoint_filter_fn(dict(dino.state_dict()), published))
    torch.testing.assert_close(model.backbone.pos_embed, published.pos_embed)
    with pytest.raises(ModelError, match="holds no classifier"):
        create_model("DINOv2 (ViT-S)", num_classes=7, weights=file, norm="imagenet")


def test_the_filter_does_not_hide_what_is_wrong_with_a_file(tmp_path):
    other = timm.create_model("vit_tiny_patch16_224", num_classes=7)
    torch.save(other.state_dict(), tmp_path / "tiny.pth")
    with pytest.raises(ModelError, match=r"does not fit this network"):
        create_model("Swin-T", num_classes=7, weights=str(tmp_path / "tiny.pth"), norm="imagenet")
    with pytest.raises(ModelError, match=r"of another shape"):
        create_model("ViT-S", num_classes=7, weights=str(tmp_path / "tiny.pth"), norm="imagenet")
