"""Published figures: Tables 1-7 of the HCD paper (Xu et al., AAAI 2026, arXiv 2511.10942), as ``reference/paper_results.csv``
holds them. They are cited beside this project's own results and never take their place."""

from __future__ import annotations

import csv
import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources

from kdbench.models.networks.paper_names import PAPER

SOURCE = "Xu et al., Heterogeneous Complementary Distillation, AAAI 2026 (arXiv 2511.10942)"
#: names that the tables give to methods, by the name under which they are registered
METHOD_NAMES = {
    **{"vanilla": "Scratch", "none": "Scratch", "catkd": "CAT-KD", "reviewkd": "ReviewKD", "fitnet": "FitNet"},
    **{"tekap": "TeKAP", "sdd_dkd": "SDD"},
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
    text = resources.files("kdbench.bench.paper").joinpath("published.csv").read_text(encoding="utf-8")
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
