"""Published figures: Tables 1-7 of the HCD paper (Xu et al., AAAI 2026, arXiv 2511.10942), as ``reference/paper_results.csv``
holds them. They are cited beside this project's own results and never take their place."""

from __future__ import annotations

import csv
import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources

SOURCE = "Xu et al., Heterogeneous Complementary Distillation, AAAI 2026 (arXiv 2511.10942)"
#: names that the tables give to methods, by the name under which they are registered
METHOD_NAMES = {
    **{"vanilla": "Scratch", "none": "Scratch", "catkd": "CAT-KD", "reviewkd": "ReviewKD", "fitnet": "FitNet"},
    **{"tekap": "TeKAP"},
}
#: registered names and timm tags, by the name that the tables give to the network
_NETWORKS: dict[str, tuple[str, ...]] = {
    "Swin-T": ("swin_tiny", "swin_t", "timm:swin_tiny_patch4_window7_224"),
    "ViT-S": ("vit_small", "timm:vit_small_patch16_224"),
    "Mixer-B/16": ("mixer_b16", "timm:mixer_b16_224"),
    "DeiT-T": ("deit_tiny", "timm:deit_tiny_patch16_224"),
    "ResNet18": ("timm:resnet18",),
    "ResNet34": ("timm:resnet34", "torchvision:resnet34"),
    "ResNet50": ("timm:resnet50", "torchvision:resnet50"),
    "MobileNetV1": ("timm:mobilenetv1_100",),
    "MobileNetV2": ("timm:mobilenetv2_100",),
    "ShuffleNetV2": ("shufflev2",),
    "DINOv2 (ViT-S)": ("timm:vit_small_patch14_dinov2",),
    "DINOv2 (ViT-L)": ("timm:vit_large_patch14_dinov2",),
    "SigLIP2 (ViT-B)": ("timm:vit_base_patch16_siglip_224",),
    "SigLIP2 (ViT-L)": ("timm:vit_large_patch16_siglip_256",),
}
_PAPER_NAME = {alias.casefold(): name for name, aliases in _NETWORKS.items() for alias in (name, *aliases)}
DATASETS = {
    "cifar100": "CIFAR-100",
    "imagenet": "ImageNet-1K",
    "cub200": "CUB-200-2011",
    "aircraft": "FGVC-Aircraft",
}


@dataclass(frozen=True)
class Key:
    """What a cell of a published table is the figure of.

    Attributes:
        table: 1 to 7.
        dataset, teacher, student, method: as the paper writes them; ``Teacher`` and ``Scratch`` are methods, too.
        metric: ``top1``, ``top5`` (percent) or ``seconds_per_epoch``.
    """

    table: int
    dataset: str
    teacher: str
    student: str
    method: str
    metric: str = "top1"

    def of(self, method: str) -> Key:
        """The same place under another method."""
        return replace(self, method=method)


@dataclass(frozen=True)
class Figure:
    """A published figure. ``value`` is None where the paper prints none, or where the print cannot be read."""

    value: float | None
    note: str = ""


@functools.cache
def published() -> Mapping[Key, Figure]:
    """Every published figure; read once."""
    text = resources.files("kdbench.bench").joinpath("reference/paper_results.csv").read_text(encoding="utf-8")
    figures = {}
    for row in csv.DictReader(text.splitlines()):
        key = Key(int(row["table"]), *(row[c] for c in ("dataset", "teacher", "student", "method", "metric")))
        figures[key] = Figure(float(row["value"]) if row["value"] else None, row["note"])
    return figures


def paper_dataset(name: str) -> str:
    """The name that the tables give to a data set."""
    return DATASETS.get(name.casefold(), name)


def paper_network(name: str) -> str:
    """The name that the tables give to a network: ``timm:swin_tiny_patch4_window7_224.ms_in1k`` is ``Swin-T``.

    Letter case is ignored; a name that no table has comes back in lower case.
    """
    folded = name.casefold()
    found = _PAPER_NAME.get(folded)
    if found is None and folded.startswith("timm:"):
        found = _PAPER_NAME.get(folded.rsplit(".", 1)[0])
    return found or _student_name(folded)


def paper_method(name: str) -> str:
    """The name that the tables give to a method."""
    return METHOD_NAMES.get(name.casefold(), name)


def _student_name(folded: str) -> str:
    return {"vgg8": "VGG8", "resnet20": "ResNet20"}.get(folded, folded)
