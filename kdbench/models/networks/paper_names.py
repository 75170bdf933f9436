"""The names that papers give to the networks of the tables, each with the timm tag behind it; importing this is cheap."""

from __future__ import annotations

from dataclasses import dataclass

#: the smallest image for which a name shared with the 32x32 networks means the paper's network
LARGE_IMAGE = 64
#: names that mdistiller gives to 32x32 networks and papers to others
SHARED = {"ResNet18": "paper:ResNet18", "ResNet50": "paper:ResNet50", "MobileNetV2": "paper:MobileNetV2"}


@dataclass(frozen=True)
class PaperNetwork:
    """A network of the tables.

    Attributes:
        tag: its timm name with the tag of its published weights.
        family: ``cnn``, ``vit`` or ``mlp``.
        size: side of the images that it was designed for.
        fixed: it takes no other size unless it is built for it.
        headless: the published weights hold no classifier.
        aliases: further names.
        plain_residuals: the last batch normalisation of a residual block starts at one, where timm starts it at zero.
    """

    tag: str
    family: str
    size: int = 224
    fixed: bool = True
    headless: bool = False
    aliases: tuple[str, ...] = ()
    plain_residuals: bool = False


def _cnn(tag: str, *, fixed: bool = False) -> PaperNetwork:
    return PaperNetwork(tag, "cnn", fixed=fixed)


_DINO, _SIGLIP = "vit_{}_patch14_dinov2.lvd142m", "vit_{}_patch16_siglip_{}.v2_webli"
PAPER = {
    "Swin-T": PaperNetwork("swin_tiny_patch4_window7_224.ms_in1k", "vit"),
    "ViT-S": PaperNetwork("vit_small_patch16_224.augreg_in21k_ft_in1k", "vit"),
    "DeiT-T": PaperNetwork("deit_tiny_patch16_224.fb_in1k", "vit"),
    "Mixer-B/16": PaperNetwork("mixer_b16_224.goog_in21k_ft_in1k", "mlp"),
    "ResMLP-S12": PaperNetwork("resmlp_12_224.fb_in1k", "mlp"),
    "ConvNeXt-T": _cnn("convnext_tiny.fb_in1k"),
    "paper:ResNet18": _cnn("resnet18.a1_in1k"),
    # torchvision's first weights, as mdistiller and the papers load them: 73.31% and 76.13% top-1
    "ResNet34": _cnn("resnet34.tv_in1k"),
    "paper:ResNet50": _cnn("resnet50.tv_in1k"),
    "paper:MobileNetV2": _cnn("mobilenetv2_100.ra_in1k"),
    "DINOv2 (ViT-S)": PaperNetwork(_DINO.format("small"), "vit", headless=True, aliases=("DINOv2-ViT-S",)),
    "DINOv2 (ViT-L)": PaperNetwork(_DINO.format("large"), "vit", headless=True, aliases=("DINOv2-ViT-L",)),
    "SigLIP2 (ViT-B)": PaperNetwork(_SIGLIP.format("base", 224), "vit", headless=True, aliases=("SigLIP2-ViT-B",)),
    "SigLIP2 (ViT-L)": PaperNetwork(
        _SIGLIP.format("large", 256), "vit", 256, headless=True, aliases=("SigLIP2-ViT-L",)
    ),
    # mdistiller@a08d46f, models/imagenet/resnet.py
    **{
        f"mdistiller:ResNet{depth}": PaperNetwork(f"resnet{depth}.tv_in1k", "cnn", fixed=False, plain_residuals=True)
        for depth in (18, 34, 50)
    },
}
#: of the tables, but without a published timm tag
OWN = ("Swin-Nano", "Swin-Pico", "ShuffleNetV2", "MobileNetV1")
