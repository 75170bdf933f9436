"""Rows and columns of Tables 1-7 as the paper prints them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from kdbench.bench.paper.published import Key
from kdbench.errors import KdbenchError

_CIFAR, _IMAGENET, _CUB, _AIRCRAFT = "CIFAR-100", "ImageNet-1K", "CUB-200-2011", "FGVC-Aircraft"
_LOGIT = ("KD", "DKD", "DIST", "OFA", "TeKAP", "LDRLD", "HCD")
#: of Table 3, after those in which its two halves differ
_THIRD = ("LSKD", "SDD", "WTTM", "TeKAP", "RLD", "LDRLD", "HCD")


@dataclass(frozen=True)
class OnlyGain:
    """A cell that holds ``key``'s figure less that of method ``over`` in the same place."""

    key: Key
    over: str = "KD"


@dataclass(frozen=True)
class WithGain:
    """A cell that holds a figure and, in parentheses, its gain over method ``over``."""

    key: Key
    over: str = "KD"


Slot = str | Key | OnlyGain | WithGain


@dataclass(frozen=True)
class Panel:
    """A block of rows under one heading.

    Attributes:
        columns: (group, name) of each column; the group may be empty.
        rows: one slot a column: text, or what the cell is the figure of.
        title: line above it.
    """

    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[Slot, ...], ...]
    title: str = ""


@dataclass(frozen=True)
class Layout:
    """One table of the paper; ``notes`` are remarks on the print as a whole."""

    number: int
    caption: str
    panels: tuple[Panel, ...]
    notes: tuple[str, ...] = field(default=())

    def figures(self) -> list[Key]:
        """Every figure that stands in it, in order of print."""
        return [
            slot if isinstance(slot, Key) else slot.key
            for panel in self.panels
            for row in panel.rows
            for slot in row
            if isinstance(slot, (Key, WithGain))
        ]


def layout(number: int) -> Layout:
    """The layout of a table.

    Raises:
        KdbenchError: there is no such table.
    """
    if number not in _TABLES:
        raise KdbenchError(f"--paper {number}: the paper has tables 1 to 7")
    return _TABLES[number]()


def _pairs_by_methods(
    number: int,
    dataset: str,
    pairs: tuple[tuple[str, str], ...],
    feature: tuple[str, ...],
    caption: str,
    notes: tuple[str, ...],
) -> Layout:
    methods = (*feature, *_LOGIT)
    columns = (
        *(("", "Teacher"), ("", "Student"), ("From Scratch", "T:Acc"), ("From Scratch", "S:Acc")),
        *(("Feature-based", m) for m in feature),
        *(("Logit-based", m) for m in _LOGIT),
        ("Logit-based", "Δ"),
    )
    rows: list[tuple[Slot, ...]] = []
    for teacher, student in pairs:
        cells = [Key(number, dataset, teacher, student, m) for m in ("Teacher", "Scratch", *methods)]
        rows.append((teacher, student, *cells, OnlyGain(cells[-1])))
    return Layout(number, caption, (Panel(columns, tuple(rows)),), notes)


def _table1() -> Layout:
    pairs = tuple((t, s) for s in ("ResNet18", "MobileNetV2") for t in ("Swin-T", "ViT-S", "Mixer-B/16"))
    caption = "Top-1 accuracy (%) of the student on CIFAR-100, heterogeneous pairs."
    notes = ("RSD is above HCD in every row; it counts as feature-based.",)
    return _pairs_by_methods(1, _CIFAR, pairs, ("FitNet", "RKD", "CRD", "PAT", "RSD"), caption, notes)


def _table2() -> Layout:
    pairs = (
        *(("Swin-T", "ResNet18"), ("Mixer-B/16", "ResNet18"), ("DeiT-T", "MobileNetV2")),
        *(("Swin-T", "MobileNetV2"), ("Mixer-B/16", "MobileNetV2")),
    )
    caption = "Top-1 accuracy (%) of the student on ImageNet-1K, heterogeneous pairs."
    notes = (
        "The print has 12 methods and 11 figures a row; the last figure less KD's is the printed gain, so it is HCD's and "
        "TeKAP's or LDRLD's is missing.",
    )
    return _pairs_by_methods(2, _IMAGENET, pairs, ("FitNet", "CC", "RKD", "CRD", "RSD"), caption, notes)


def _table3() -> Layout:
    feature = ("AT", "OFD", "CRD", "ReviewKD", "FCFD", "CAT-KD", "RSD")
    panels = []
    for teacher, student, fourth in (("ResNet34", "ResNet18", "CTKD"), ("ResNet50", "MobileNetV1", "IPWD")):
        logit = ("KD", *(("CTKD", "DKD") if fourth == "CTKD" else ("IPWD", "DKD")), *_THIRD)
        columns = (
            *(("", "Metric"), ("From Scratch", "T:Acc"), ("From Scratch", "S:Acc")),
            *(("Features", m) for m in feature),
            *(("Logits", m) for m in logit),
            ("Logits", "Δ"),
        )
        rows: list[tuple[Slot, ...]] = []
        for metric, text in (("top1", "Top-1"), ("top5", "Top-5")):
            cells = [Key(3, _IMAGENET, teacher, student, m, metric) for m in ("Teacher", "Scratch", *feature, *logit)]
            rows.append((text, *cells, OnlyGain(cells[-1])))
        panels.append(Panel(columns, tuple(rows), f"{teacher} (teacher), {student} (student)"))
    caption = "Top-1 and top-5 accuracy (%) of the student on ImageNet-1K, homogeneous pairs."
    return Layout(3, caption, tuple(panels))


def _fine_grained(number: int, teachers: tuple[str, ...]) -> Layout:
    places = [(d, s) for d in (_CUB, _AIRCRAFT) for s in ("VGG8", "ResNet20", "MobileNetV2", "ShuffleNetV2")]
    metrics = (("top1", "Top-1"), ("top5", "Top-5"))
    columns = (("", "Teacher"), ("", "Method"), *((d, f"{s} {text}") for d, s in places for _, text in metrics))
    rows: list[tuple[Slot, ...]] = [
        (t, m, *(Key(number, d, t, s, m, metric) for d, s in places for metric, _ in metrics))
        for t in teachers
        for m in ("Teacher", "Scratch", "KD", "DKD", "WTTM", "RKKD", "LDRLD", "HCD")
    ]
    kind = teachers[0].split()[0]
    notes = (
        "RKKD is named in the paper without definition or citation; kdbench has no such method.",
        "VGG8, ResNet20 and MobileNetV2 'Scratch' on CUB-200-2011 differ between Tables 4 and 5 for the same student.",
    )
    caption = f"Accuracy (%) on fine-grained data sets, {kind} as the teacher. 'Teacher' is the teacher's own accuracy."
    return Layout(number, caption, (Panel(columns, tuple(rows)),), notes)


def _table6() -> Layout:
    counts = (1, 2, 4, 6, 8)
    columns = (("", ""), ("", "accuracy"), *(("HCD", f"n={n}") for n in counts))
    place = Key(1, _CIFAR, "Swin-T", "ResNet18", "Teacher")
    cells = [Key(6, _CIFAR, "Swin-T", "ResNet18", f"HCD(n={n})") for n in counts]
    times = [Key(6, c.dataset, c.teacher, c.student, c.method, "seconds_per_epoch") for c in cells]
    rows: tuple[tuple[Slot, ...], ...] = (
        ("T: Swin-T", place, *("" for _ in counts)),
        ("S: ResNet18", place.of("Scratch"), *cells),
        ("Time (s/epoch)", "-", *times),
    )
    notes = (
        "Times depend on hardware: those of the paper are of 8 RTX 3090. The accuracies on the left are Table 1's.",
    )
    return Layout(6, "Number of sub-logits n on CIFAR-100.", (Panel(columns, rows),), notes)


def _table7() -> Layout:
    pairs = (
        *(("Swin-T", "ResNet18"), ("Mixer-B/16", "MobileNetV2")),
        *(("Swin-T", "MobileNetV2"), ("ViT-S", "MobileNetV2")),
    )
    columns = (("", "KD"), ("", "KL sub"), ("", "orth"), *(("Top-1", f"{t} -> {s}") for t, s in pairs))

    def line(marks: str, method: str, make: Callable[[Key], Slot]) -> tuple[Slot, ...]:
        return (
            *("✓" if mark == "x" else "-" for mark in marks),
            *(make(Key(7, _CIFAR, t, s, method)) for t, s in pairs),
        )

    rows = (
        line("---", "Scratch", lambda key: key),
        line("x--", "KD", lambda key: key),
        line("xx-", "HCD(-orth)", WithGain),
        line("xxx", "HCD", WithGain),
    )
    notes = ("The first two rows repeat plain training and plain KD of Table 1; gains are over KD.",)
    return Layout(7, "Losses of HCD on CIFAR-100, top-1 accuracy (%).", (Panel(columns, rows),), notes)


_TABLES: dict[int, Callable[[], Layout]] = {
    1: _table1,
    2: _table2,
    3: _table3,
    4: lambda: _fine_grained(4, ("SigLIP2 (ViT-B)", "SigLIP2 (ViT-L)")),
    5: lambda: _fine_grained(5, ("DINOv2 (ViT-S)", "DINOv2 (ViT-L)")),
    6: _table6,
    7: _table7,
}
