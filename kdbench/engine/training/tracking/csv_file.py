"""``metrics.csv`` in the run's folder: a row an epoch, as spreadsheets read it."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdbench.engine.training.tracking.tracker import TrackedRun, Tracker, plain_values, register_tracker
from kdbench.files import stored, write_atomically


@register_tracker("csv")
class CsvFile(Tracker):
    """Writes the file anew at every epoch, so that it is whole at any moment and after a resume: columns ``epoch``, those of
    ``metrics.jsonl``, and ``train/<term>``; no times, so that equal runs have equal files."""

    def on_start(self, run: TrackedRun) -> None:
        """Write what was evaluated before."""
        self._file: Path = run.folder / "metrics.csv"
        self._rows: list[dict[str, Any]] = [_row(line) for line in run.history]
        self._write()

    def on_epoch(self, line: Mapping[str, Any], timing: Mapping[str, Any]) -> None:
        """Another row."""
        self._rows.append(_row(line))
        self._write()

    def _write(self) -> None:
        columns = dict.fromkeys(name for row in self._rows for name in row)
        text = io.StringIO()
        writer = csv.DictWriter(text, list(columns) or ["epoch"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        with stored(self._file):
            write_atomically(self._file, text.getvalue())


def _row(line: Mapping[str, Any]) -> dict[str, Any]:
    return {"epoch": line["epoch"], **plain_values(line)}
