"""A published table filled with the paper's figures, this project's own, or both side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdbench.bench.comparison.cell import Cell, Gain, gain_over
from kdbench.bench.paper.cell import NOT_PRINTED, SOURCES, PaperCell
from kdbench.bench.paper.declared import Declarations
from kdbench.bench.paper.layouts import Layout, OnlyGain, Panel, Slot, WithGain, layout
from kdbench.bench.paper.own_runs import MISSING, OwnRuns
from kdbench.bench.paper.published import SOURCE, Key, published
from kdbench.bench.results.environments import mixed_environments
from kdbench.bench.results.frames import left_out
from kdbench.bench.results.select import check_select, rule_text
from kdbench.errors import KdbenchError, did_you_mean

NOT_DECLARED = "no recipe is declared for this cell: the own run was compared with none"
_MAX_TOLD = 4  # differences from the declared recipe that a footnote names


@dataclass
class FilledPanel:
    """A panel with its cells."""

    panel: Panel
    rows: list[list[PaperCell]]


@dataclass
class PaperTable:
    """A published table with figures in it; see :func:`build_paper_table`."""

    layout: Layout
    source: str
    select: str
    panels: list[FilledPanel]
    notes: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def cells(self) -> list[PaperCell]:
        """Every cell that is the figure or the gain of something."""
        return [c for p in self.panels for row in p.rows for c in row if c.key is not None or c.gain_of is not None]

    def caption(self) -> str:
        """What the numbers are."""
        rule = rule_text(self.select)
        what = {
            "reported": "Figures as published.",
            "ours": f"Own figures {rule}: mean ± standard deviation over seeds (number of seeds).",
            "delta": f"Own mean {rule} less the published figure.",
            "both": f"Published figure | own mean ± standard deviation over seeds (number of seeds) {rule} | own less published.",
        }[self.source]
        return f"Table {self.layout.number} of {SOURCE}. {self.layout.caption} {what}"


def build_paper_table(
    number: int,
    folder: str | Path = "",
    *,
    source: str = "both",
    select: str = "last",
    grid: str | Path = "",
    runs: OwnRuns | None = None,
) -> PaperTable:
    """Fill one of Tables 1-7.

    Args:
        number: 1 to 7.
        folder: any folder above finished runs; needed unless ``source`` is ``reported``.
        source: ``reported``, ``ours``, ``delta`` or ``both``.
        select: which of our accuracies: ``last``, ``best`` or ``selected``. The paper does not say which its own are.
        grid: grid file that declares the recipe of every cell; empty = ``configs/grids/table<number>.yaml``, if at hand.
        runs: results that were read already, for several tables of one folder.

    Raises:
        KdbenchError: no such table, source, folder or selection.
    """
    if source not in SOURCES:
        raise KdbenchError(f"--source {source!r} is none of {', '.join(SOURCES)}{did_you_mean(source, SOURCES)}")
    check_select(select)
    shape = layout(number)
    if source == "reported":
        runs, declared = None, None
    else:
        if runs is None and not folder:
            raise KdbenchError(f"--source {source} needs a results folder: kdbench table FOLDER --paper {number}")
        runs = runs or OwnRuns(folder, select)
        if runs.select != select:
            raise KdbenchError(
                f"results were read for --select {runs.select}: two selection rules are never mixed in one table"
            )
        declared = Declarations(number, grid)
    filler = _Filler(runs, declared, source)
    panels = [FilledPanel(p, [[filler.cell(slot) for slot in row] for row in p.rows]) for p in shape.panels]
    table = PaperTable(shape, source, select, panels, filler.notes)
    if source != "ours":
        table.remarks += shape.notes
    if runs is not None:
        table.remarks += [*_remarks(runs, declared, table), *mixed_environments(filler.environments())]
    return table


class _Filler:
    """Turns slots into cells and numbers the footnotes in order of appearance."""

    def __init__(self, runs: OwnRuns | None, declared: Declarations | None, source: str) -> None:
        self.runs, self.declared, self.source = runs, declared, source
        self.notes: list[str] = []
        self._figures = published()
        self._found: dict[Key, Cell | None] = {}

    def cell(self, slot: Slot) -> PaperCell:
        if isinstance(slot, str):
            return PaperCell(text=slot)
        if isinstance(slot, OnlyGain):
            reported, own = self._gains(slot.key, slot.over)
            note = self._figures[slot.key].note if self._prints else ""
            marks = self._marks(note if "gain of" in note else "", own.note, _deviation(own.deviations))
            return PaperCell(
                gain_of=slot.key,
                over=slot.over,
                reported_gain=reported,
                ours_gain=own.value,
                marks=marks,
                other_recipe=bool(own.deviations),
                absence=NOT_PRINTED if own.note else MISSING,
            )
        key = slot.key if isinstance(slot, WithGain) else slot
        ours = self._ours(key)
        figure = self._figures[key]
        reported, own = self._gains(key, slot.over) if isinstance(slot, WithGain) else (None, Gain())
        marks = self._marks(figure.note if self._prints else "", *self._remarks(ours, key), own.note)
        return PaperCell(
            key,
            key if isinstance(slot, WithGain) else None,
            slot.over if isinstance(slot, WithGain) else "",
            reported=figure.value,
            ours=ours,
            reported_gain=reported,
            ours_gain=own.value,
            marks=marks,
            other_recipe=ours is not None and bool(ours.deviations),
            absence=MISSING if self.runs is None else self.runs.absence(key),
        )

    def environments(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """(cell, environment) of every run that a figure of the table stands for."""
        for key, ours in self._found.items():
            for environment in ours.made_in.values() if ours is not None else ():
                yield f"{key.teacher} -> {key.student} / {key.method}", environment

    @property
    def _prints(self) -> bool:
        return self.source != "ours"

    def _remarks(self, ours: Cell | None, key: Key) -> list[str]:
        """Footnotes to own figures."""
        if ours is None:
            return []
        notes = [_deviation(ours.deviations)]
        if ours.teacher_count > 1:
            notes.append(f"own runs under {ours.teacher_count} teachers of different weights")
        if not ours.checked and self.declared is not None and self.declared.of(key) is not None:
            notes.append(NOT_DECLARED)
        return notes

    def _gains(self, key: Key, over: str) -> tuple[float | None, Gain]:
        base = key.of(over)
        reported = (self._figures[key].value, self._figures[base].value)
        gain = reported[0] - reported[1] if reported[0] is not None and reported[1] is not None else None
        return gain, gain_over(self._ours(key), self._ours(base))

    def _ours(self, key: Key) -> Cell | None:
        if self.runs is None:
            return None
        if key not in self._found:  # asked for anew by every gain over it
            self._found[key] = self.runs.find(key, None if self.declared is None else self.declared.of(key))
        return self._found[key]

    def _marks(self, *notes: str) -> tuple[int, ...]:
        numbers = []
        for note in filter(None, notes):
            if note not in self.notes:
                self.notes.append(note)
            numbers.append(self.notes.index(note) + 1)
        return tuple(numbers)


def _deviation(told: tuple[str, ...]) -> str:
    if not told:
        return ""
    rest = f" and {len(told) - _MAX_TOLD} more" if len(told) > _MAX_TOLD else ""
    return f"own run under another recipe than declared: {', '.join(told[:_MAX_TOLD])}{rest}"


def _remarks(runs: OwnRuns, declared: Declarations | None, table: PaperTable) -> list[str]:
    lines = (
        ["The paper does not say whether its figures are of the last or of the best epoch."]
        if table.source != "ours"
        else []
    )
    if declared is None or declared.own is None:
        lines.append("No declared recipes were at hand (--grid): own runs were not compared with them.")
    return lines + left_out(len(runs.skipped), runs.unfinished)
