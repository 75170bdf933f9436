"""Which ways of training are compared, on the small and on the large pair, each against a plain loop in the same call."""

from __future__ import annotations

import functools
import importlib.util
import statistics
import time
from pathlib import Path
from typing import Any

from kdbench.bench.speed.gpu.checks.runs import teacher_file
from kdbench.bench.speed.gpu.rates.turns import by_turns
from kdbench.bench.speed.gpu.settings import SEVEN, Pair, Settings
from kdbench.distillers.create import uses_teacher

#: the candidate to which the others are compared
PLAIN = "plain loop"
FLOAT, HALF = {"PRECISION": "fp32"}, {"PRECISION": "bf16", "CHANNELS_LAST": True}
_MANY = 1_000_000
#: why a candidate is missing on a CPU
TAKES_GPU = "takes a GPU"
#: seconds of a part's time that are kept for ending it
_RESERVE = 3.0


def small(settings: Settings, folder: Path, seconds: float) -> dict[str, Any]:
    """The small pair: precisions, captured and step by step, cache, cohorts, larger batches, other projects' trainers.

    Args:
        settings: the pair, the peers.
        folder: for files.
        seconds: that it may take.

    Returns:
        ``pair``, ``batch``, ``base`` (the candidate that is 1), ``rows`` (``name``, ``rate`` in images/s summed over students,
        ``low``, ``high``, ``ratio``, ``members``) and ``missing`` (name -> why).
    """
    table = _Table(settings, settings.small, folder, seconds, f"{PLAIN}, fp32")
    make, half = table.specs, "bf16 channels_last"
    specs = {table.base: make.plain("fp32"), f"{PLAIN}, TF32": make.plain("tf32")}
    specs[f"{PLAIN}, {half}"] = make.plain("bf16", channels_last=True)
    for words, solver in (("fp32", FLOAT), ("TF32", {"PRECISION": "tf32"}), (half, HALF)):
        specs[f"KD, {words}, captured"] = make.runs(solver)
        specs[f"KD, {words}, step by step"] = make.runs({**solver, "GRAPH": "off"})
    specs[f"KD, {half}, not deterministic"] = make.runs(HALF, deterministic=False)
    specs[f"KD, {half}, warm cache"] = make.runs(HALF, cache=True)
    specs[f"cohort of 4, {half}"] = make.runs(HALF, [{"KD.TEMPERATURE": t} for t in (2.0, 3.0, 4.0, 5.0)])
    specs[f"cohort of 7, {half}"] = make.runs(HALF, [{"DISTILLER.TYPE": name} for name in SEVEN])
    larger = settings.small.large_batch
    if larger:
        specs[f"{PLAIN}, {half}, batch {larger}"] = make.plain("bf16", larger, channels_last=True)
        specs[f"KD, {half}, captured, batch {larger}"] = make.runs(HALF, batch=larger)
    specs |= {peer_name(file): make.peer(file) for file in settings.peers}
    if not settings.is_gpu:  # what differs from the others on a GPU alone
        for name in [n for n in specs if any(word in n for word in ("captured", "TF32", "deterministic"))]:
            del specs[name]
            table.missing[name] = TAKES_GPU
    return table.read(specs)


def large(settings: Settings, folder: Path, seconds: float) -> dict[str, Any]:
    """The large pair in bfloat16 and channels_last; arguments and result as :func:`small`'s. The cohort, which needs most memory,
    is read after the single runs, with a plain loop of its own."""
    table = _Table(settings, settings.large, folder, seconds, PLAIN)
    make = table.specs
    specs = {PLAIN: make.plain("bf16", channels_last=True)}
    specs |= {name: make.runs(HALF, [{"DISTILLER.TYPE": name}]) for name in ("KD", "OFA", "HCD")}
    specs["student alone"] = make.runs(HALF, [{"DISTILLER.TYPE": "Vanilla"}])
    if settings.is_gpu:
        specs["KD, not deterministic"] = make.runs(HALF, deterministic=False)
    else:
        table.missing["KD, not deterministic"] = TAKES_GPU
    specs["KD, warm cache"] = make.runs(HALF, cache=True)
    table.read(specs, share=0.55)
    cohort = make.runs(HALF, [{"DISTILLER.TYPE": name} for name in SEVEN])
    return table.read({PLAIN: make.plain("bf16", channels_last=True), "cohort of 7": cohort})


def compiled(settings: Settings, folder: Path, seconds: float) -> dict[str, Any]:
    """``torch.compile`` against captured steps on the small pair, one reading; arguments and result as :func:`small`'s."""
    table = _Table(settings, settings.small, folder, seconds, "captured")
    if not settings.is_gpu:
        table.missing["SOLVER.COMPILE"] = TAKES_GPU
        return table.result()
    if importlib.util.find_spec("triton") is None:
        table.missing["SOLVER.COMPILE"] = "torch.compile needs triton, which is not installed"
        return table.result()
    make = table.specs
    specs = {"captured": make.runs(HALF), "SOLVER.COMPILE": make.runs({**HALF, "COMPILE": True})}
    return table.read(specs, rounds=1, starting=0.9)


def peer_name(file: str) -> str:
    """How an adapter's candidate is called: as its file."""
    return f"peer {Path(file).stem}"


class Specs:
    """Specifications for :mod:`kdbench.bench.speed.gpu.rates.candidate`.

    Args:
        settings: the device.
        pair: what is trained.
        folder: for teacher and runs.
        readings: that an epoch holds; 0 = as many as there are rounds.
    """

    def __init__(self, settings: Settings, pair: Pair, folder: Path, readings: int = 0) -> None:
        self.device, self.pair, self.folder, self.readings = settings.device, pair, folder, readings
        self.weights = teacher_file(folder, self.device, pair.teacher, pair.size, pair.classes, **dict(pair.options[0]))
        self._count = 0
        #: pixels of a random crop; the large images are flipped alone
        self.pad = 4 if pair.size < 100 else 0

    def runs(
        self,
        solver: dict[str, Any],
        members: list[dict[str, Any]] | None = None,
        *,
        batch: int = 0,
        cache: bool = False,
        deterministic: bool = True,
    ) -> dict[str, Any]:
        """A run of KD, or a cohort of ``members``."""
        self._count += 1
        batch = batch or self.pair.batch
        before, steps, _ = self.pair.window(batch, self.readings)
        given = self.settings(batch, self.folder / f"runs{self._count}")
        given |= {f"SOLVER.{key}": value for key, value in solver.items()}
        given |= {"RUNTIME.DETERMINISTIC": deterministic, "CACHE.ENABLED": cache, "CACHE.VIEWS": int(cache)}
        runs = [self.taught({**given, "DISTILLER.TYPE": "KD", **member}) for member in members or [{}]]
        window = {"before": before, "steps": steps, "epoch": 1 + cache}  # the first epoch fills the cache
        return {"kind": "runs", "device": self.device, "runs": runs, "batch": batch, "members": len(runs), **window}

    def settings(self, batch: int, prefix: Path) -> dict[str, Any]:
        """Keys of all runs."""
        pair = self.pair
        images = batch * pair.window(batch, self.readings)[2] // pair.repeat
        return {
            "DATASET.TYPE": "fake",
            "DATASET.OPTIONS": {"size": pair.size, "train": images, "test": 32, "num_classes": pair.classes},
            "DATASET.REPEAT": pair.repeat,
            "DATASET.NUM_WORKERS": 0,
            "DISTILLER.STUDENT": pair.student,
            "STUDENT.OPTIONS": dict(pair.options[1]),
            "STUDENT.NORM": "dataset",
            "AUGMENT.CROP": "pad" if self.pad else "none",
            "AUGMENT.FLIP": 0.5,
            **({"AUGMENT.PAD": self.pad} if self.pad else {}),
            "SOLVER.BATCH_SIZE": batch,
            "SOLVER.EPOCHS": _MANY,
            "SOLVER.EVAL_EVERY": _MANY,
            "SOLVER.LR": 0.001,
            "SOLVER.LR_DECAY_STAGES": [],
            "RUNTIME.DEVICE": self.device,
            "LOG.PREFIX": str(prefix),
        }

    def taught(self, settings: dict[str, Any]) -> dict[str, Any]:
        """With the teacher, for a method that has one."""
        if not uses_teacher(settings["DISTILLER.TYPE"]):
            return settings
        own = {"OPTIONS": dict(self.pair.options[0]), "WEIGHTS": self.weights, "NORM": "dataset"}
        teacher = {f"TEACHER.{key}": value for key, value in own.items()}
        return {**settings, "DISTILLER.TEACHER": self.pair.teacher, **teacher}

    def plain(self, precision: str, batch: int = 0, *, channels_last: bool = False) -> dict[str, Any]:
        """The plain loop."""
        pair, batch = self.pair, batch or self.pair.batch
        before, steps, whole = pair.window(batch, self.readings)
        networks = {"teacher": (pair.teacher, pair.options[0]), "student": (pair.student, pair.options[1])}
        sizes = {"size": pair.size, "classes": pair.classes, "images": batch * whole // pair.repeat, "pad": self.pad}
        how = {"precision": precision, "channels_last": channels_last, "weights": self.weights}
        window = {"before": before, "steps": steps, "batch": batch, "members": 1}
        return {"kind": "plain", "device": self.device, **networks, **sizes, **how, **window}

    def peer(self, file: str) -> dict[str, Any]:
        """Another project's trainer."""
        before, steps, _ = self.pair.window(self.pair.batch)
        window = {"before": before, "steps": steps, "batch": 0, "members": 1}
        return {"kind": "peer", "device": self.device, "file": str(Path(file).resolve()), **window}


class _Table:
    """Readings of a pair, as :func:`small` returns them.

    Args:
        settings: the device.
        pair: what is trained.
        folder: for files.
        seconds: that it may take.
        base: the candidate to which the others are compared.
    """

    def __init__(self, settings: Settings, pair: Pair, folder: Path, seconds: float, base: str) -> None:
        self.settings, self.pair, self.folder, self.base = settings, pair, folder, base
        self.end = time.monotonic() + seconds - _RESERVE
        self.rows: list[dict[str, Any]] = []
        self.missing: dict[str, str] = {}

    @functools.cached_property
    def specs(self) -> Specs:
        """Makes the candidates' specifications; at first use it makes the teacher."""
        return Specs(self.settings, self.pair, self.folder)

    def read(
        self, specs: dict[str, dict[str, Any]], *, share: float = 1.0, rounds: int = 0, starting: float = 0.7
    ) -> dict[str, Any]:
        """Read candidates by turns, in a share of the time that is left; returns :meth:`result`. A candidate that was read before
        is the base of the new ones, and keeps its row."""
        rates, missing = by_turns(
            specs,
            rounds or self.pair.rounds,
            share * (self.end - time.monotonic()),
            self.folder / "logs",
            starting=starting,
            together=self.settings.is_gpu,
        )
        known = {row["name"] for row in self.rows}
        self.rows += [row for row in rows_of(rates, self.base) if row["name"] not in known]
        self.missing |= missing
        return self.result()

    def result(self) -> dict[str, Any]:
        """What was found so far."""
        pair = self.pair
        about = {"pair": f"{pair.teacher} -> {pair.student}", "size": pair.size, "batch": pair.batch}
        return {**about, "base": self.base, "rows": self.rows, "missing": self.missing}


def rows_of(rates: dict[str, list[float]], base: str) -> list[dict[str, Any]]:
    """Median, lowest and highest rate of each candidate, and the median of its ratios to the base in the same rounds (None where
    the base is missing)."""
    rows = []
    for name, values in rates.items():
        pairs = [value / other for value, other in zip(values, rates.get(base, []))]
        row: dict[str, Any] = {"name": name, "rate": statistics.median(values), "low": min(values), "high": max(values)}
        rows.append({**row, "readings": len(values), "ratio": statistics.median(pairs) if pairs else None})
    return rows
