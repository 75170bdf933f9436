"""The outcome of a run: ``result.json``, its fields and its one reader. Nothing here imports torch."""

from __future__ import annotations

import html
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from kdbench.engine.run_folder import RunFolder
from kdbench.files import sha256_of, stored, write_atomically
from kdbench.seal import sealed, unsealed

# What a field may hold; read_record checks values by these names.
Name = str  # not empty
Text = str
Percent = float  # 0 to 100
Count = int  # 0 or more, of 64 bits
Amount = float  # 0 or more
Facts = dict[str, Any]
Names = list[str]


@dataclass(frozen=True)
class RunResult:
    """Outcome of a run; ``result.json`` holds the same.

    Accuracies are percent on the test split. ``best`` is the best epoch's by test accuracy: it is optimistic and is never
    mixed with ``last`` in a table. ``selected`` is the test accuracy at the best validation epoch, where a validation
    part was held out, else None. ``top1`` is that of the student which the run left: of its last epoch, or with
    ``SOLVER.KEEP: best`` of ``kept_epoch``, the best by validation.
    """

    run_id: Name
    method: Name
    teacher: Text
    student: Name
    dataset: Name
    seed: Count
    top1_last: Percent
    top5_last: Percent
    top1_best: Percent
    top5_best: Percent
    best_epoch: Count
    #: that were trained: all, or those before it was stopped
    epochs: Count
    top1_selected: Percent | None
    teacher_top1: Percent | None
    student_params: Count
    #: of one image's forward pass, see :func:`kdbench.models.feature_model.flops.forward_flops`; None where it cannot be counted
    student_flops: Count | None = field(default=None, kw_only=True)
    extra_params: Count
    seconds: Amount
    teacher_sha256: Text
    data_fingerprint: Text
    environment: Facts
    #: of ``student.safetensors`` as it was exported; empty where the run is older than this field
    student_sha256: Text = field(default="", kw_only=True)
    #: of ``metrics.jsonl`` as it was when the run was done; empty where the run is older than this field
    metrics_sha256: Text = field(default="", kw_only=True)
    #: steps that were not finite and changed nothing (``SOLVER.NON_FINITE: skip``); None where the run is older than this field
    skipped_steps: Count | None = field(default=None, kw_only=True)
    #: of the run, those before the first epoch (:meth:`kdbench.Distiller.phases`); None where nothing was trained there, or the run
    #: is older than this field
    phase_seconds: Amount | None = field(default=None, kw_only=True)
    #: test accuracy of ``student.safetensors``, and the epoch of its weights; None where the run is older than these fields
    top1: Percent | None = field(default=None, kw_only=True)
    top5: Percent | None = field(default=None, kw_only=True)
    kept_epoch: Count | None = field(default=None, kw_only=True)
    #: why it was stopped early (``SOLVER.PATIENCE``); None where it was not
    stopped: Text | None = field(default=None, kw_only=True)
    #: names of the classes, in the order of the network's outputs
    classes: Names = field(default_factory=list)
    #: where the run lies; not in the file
    folder: str = ""
    #: fields of the file that this version does not know; they are left in it
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def student_top1(self) -> float:
        """Test accuracy of ``student.safetensors``; of an older run, which always left its last epoch, that epoch's."""
        return self.top1_last if self.top1 is None else self.top1

    @property
    def student_top5(self) -> float:
        """The same, top-5."""
        return self.top5_last if self.top5 is None else self.top5

    @classmethod
    def read(cls, folder: RunFolder) -> RunResult:
        """Read a finished run.

        Raises:
            OSError, ValueError: the file cannot be read, or is no result, or that of another run.
        """
        record = read_record(folder.result)
        if record["run_id"] != folder.path.name:
            raise ValueError(f"it is the result of {record['run_id']!r:.200}")
        known: dict[str, Any] = {name: record.get(name) for name in FIELDS}
        known["classes"] = known["classes"] or []
        for name in ("student_sha256", "metrics_sha256"):
            known[name] = known[name] or ""
        more = {key: value for key, value in record.items() if key not in known}
        return cls(**known, folder=str(folder.path), more=more)

    def _repr_html_(self) -> str:
        """For notebooks: the figures of the run, a line each."""
        lines: dict[str, Any] = {
            "run": self.run_id,
            "method": self.method,
            "teacher -> student": f"{self.teacher or 'none'} -> {self.student} on {self.dataset}, seed {self.seed}",
            "top-1, last epoch": f"{self.top1_last:.2f} %",
            "top-1, best epoch": f"{self.top1_best:.2f} % (epoch {self.best_epoch} of {self.epochs}; optimistic)",
            "top-1 by validation": None if self.top1_selected is None else f"{self.top1_selected:.2f} %",
            "teacher's top-1": None if self.teacher_top1 is None else f"{self.teacher_top1:.2f} %",
            "parameters": f"{self.student_params:,} (and {self.extra_params:,} of the method)",
            "FLOPs": None if self.student_flops is None else f"{self.student_flops:,} for each image",
            "folder": self.folder,
        }
        rows = (
            f'<tr><th style="text-align:left">{html.escape(k)}</th><td style="text-align:left">{html.escape(v)}</td></tr>'
            for k, v in lines.items()
            if v is not None
        )
        return f"<table>{''.join(rows)}</table>"

    def student_fault(self, folder: RunFolder) -> str:
        """What is wrong with the exported student by its content; empty where it is what was written, or that is not known."""
        return _fault(folder.student, self.student_sha256)

    def damage(self, folder: RunFolder, *, student: bool) -> str:
        """What the run has to write again of what it left; empty for nothing. The metrics can be written again where the checkpoint
        is still there; without it the whole run would be the price of its curve.

        Args:
            folder: of the run.
            student: whether to look at the exported student, too, a large file.
        """
        fault = self.student_fault(folder) if student else ""
        return fault or (_fault(folder.metrics, self.metrics_sha256) if folder.checkpoint.is_file() else "")

    def write(self, file: Path) -> None:
        """Write ``result.json`` as a whole or not at all."""
        record = asdict(self)
        record = sealed({**{name: record[name] for name in FIELDS}, **self.more})
        with stored(file):
            write_atomically(file, json.dumps(record, indent=1, allow_nan=False) + "\n")


def _fault(file: Path, sha256: str) -> str:
    if not sha256:
        return ""
    try:
        same = sha256_of(file) == sha256
    except OSError as error:
        return f"{file} cannot be read ({error.strerror})"
    return "" if same else f"{file} is not what was written"


def recorded_fault(file: Path) -> str:
    """What is wrong with the student or the metrics of a run by the result beside it; empty where the file is what was written, or
    nothing says what that was."""
    name = {"student.safetensors": "student_sha256", "metrics.jsonl": "metrics_sha256"}.get(file.name, "")
    try:
        recorded = read_record(file.with_name("result.json")).get(name) if name else ""
    except (OSError, ValueError):
        return ""
    return _fault(file, recorded or "")


#: kind of each field of ``result.json`` by its name, in the file's order
FIELDS: Mapping[str, str] = {
    f.name: str(f.type).partition(" ")[0] for f in fields(RunResult) if f.name not in ("folder", "more")
}
#: without these a file is no result of a run
_NEEDED = ("run_id", "method", "teacher", "student", "dataset", "seed", "top1_last")


def read_record(file: Path) -> dict[str, Any]:
    """A ``result.json``, with the fields that this version does not know; one that is missing and not needed is None.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged, or no result of kdbench; the message says which.
    """
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise ValueError("not JSON") from None
    if not isinstance(record, dict) or any(key not in record for key in _NEEDED):
        raise ValueError("not a kdbench result")
    record = unsealed(record)
    for key, kind in FIELDS.items():
        value = record.get(key)
        if (value is not None or key in _NEEDED) and not _is_sound(kind, value):
            raise ValueError(f"its {key} is {value!r:.40}")
    return record


def _is_sound(kind: str, value: Any) -> bool:
    if kind == "Facts":
        return isinstance(value, dict)
    if kind == "Names":
        return isinstance(value, list) and all(isinstance(name, str) for name in value)
    if kind in ("Name", "Text"):
        return isinstance(value, str) and (bool(value) or kind == "Text")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    if kind == "Count":
        # as a 64-bit number, which is what a column of a frame holds
        return isinstance(value, int) and 0 <= value < 2**63
    return 0 <= value <= (100 if kind == "Percent" else sys.float_info.max)
