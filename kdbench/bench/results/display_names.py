"""The names that published tables give to methods, data sets and networks, by the names under which kdbench knows them."""

from __future__ import annotations

import functools

from kdbench.models.networks.paper_names import PAPER

#: names that the tables give to methods, by the name under which they are registered
METHOD_NAMES = {
    "vanilla": "Scratch",
    "vitkd": "ViTKD",
    "diffkd": "DiffKD",
    "none": "Scratch",
    "catkd": "CAT-KD",
    "ca_mkd": "CA-MKD",
    "deit": "DeiT",
    "reviewkd": "ReviewKD",
    "fitnet": "FitNet",
    "mldr_kd": "MLDR-KD",
    "semckd": "SemCKD",
    "simkd": "SimKD",
    "tekap": "TeKAP",
    "sdd_dkd": "SDD",
}
#: what else the networks of the tables are called, besides their registered names, aliases and timm architectures
_ALIASES: dict[str, tuple[str, ...]] = {
    "Swin-T": ("swin_tiny", "swin_t"),
    "ViT-S": ("vit_small",),
    "Mixer-B/16": ("mixer_b16",),
    "DeiT-T": ("deit_tiny",),
    "ResNet34": ("torchvision:resnet34",),
    "ResNet50": ("torchvision:resnet50",),
    "MobileNetV1": ("mobilenetv1", "timm:mobilenetv1_100"),
    "ShuffleNetV2": ("shufflenetv2", "shufflev2", "torchvision:shufflenet_v2_x1_0"),
    "VGG8": ("vgg8",),
    "ResNet20": ("resnet20",),
}
DATASETS = {
    "cifar100": "CIFAR-100",
    "imagenet": "ImageNet-1K",
    "cub200": "CUB-200-2011",
    "aircraft": "FGVC-Aircraft",
}


def paper_dataset(name: str) -> str:
    """The name that the tables give to a data set."""
    return DATASETS.get(name.casefold(), name)


def paper_network(name: str) -> str:
    """The name that the tables give to a network: ``timm:swin_tiny_patch4_window7_224.ms_in1k`` is ``Swin-T``.

    This is the architecture: which pretrained tag a run had is a matter of its recipe. Letter case is ignored; a name that
    no table has comes back in lower case.
    """
    folded = name.casefold()
    return known_network(name) or folded


def known_network(name: str) -> str:
    """As :func:`paper_network`, but empty for a name that no table has."""
    folded = name.casefold()
    bare = folded.partition(".")[0] if folded.startswith("timm:") else folded
    return _paper_names().get(folded) or _paper_names().get(bare, "")


def paper_method(name: str) -> str:
    """The name that the tables give to a method."""
    return METHOD_NAMES.get(name.casefold(), name)


@functools.cache
def _paper_names() -> dict[str, str]:
    names: dict[str, str] = {}
    for registered, network in PAPER.items():
        name = registered.removeprefix("paper:").removeprefix("mdistiller:")
        architecture = f"timm:{network.tag.partition('.')[0]}"
        names |= {alias.casefold(): name for alias in (name, registered, architecture, *network.aliases)}
    names |= {alias: name for name, aliases in _ALIASES.items() for alias in aliases}
    return names
