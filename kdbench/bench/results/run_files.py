"""The files that a run writes a line an epoch: ``metrics.jsonl`` and ``timing.jsonl``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kdbench.engine.result import recorded_fault


def read_lines(file: Path) -> list[dict[str, Any]]:
    """The lines of a ``.jsonl`` file. A last line without an end is being written, or was when its run was killed: it is left
    out. A file that is not there has no lines.

    Raises:
        OSError: the file cannot be read.
        ValueError: a line is not a JSON object.
    """
    if not file.is_file():
        return []
    text = file.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    try:
        lines = [json.loads(line) for line in whole.splitlines() if line]
    except RecursionError:
        raise ValueError(f"{file}: a line is too deep") from None
    if not all(isinstance(line, dict) for line in lines):
        raise ValueError(f"{file}: a line is not a JSON object")
    return lines


def read_metrics(folder: str | Path) -> list[dict[str, Any]]:
    """The lines of a run's ``metrics.jsonl``; of a run that is done, only if they are those that it wrote.

    Raises:
        OSError: the file cannot be read.
        ValueError: a line is not a JSON object, or the file was changed since the run was done.
    """
    file = Path(folder) / "metrics.jsonl"
    if fault := recorded_fault(file) if file.is_file() else "":
        raise ValueError(fault)
    return read_lines(file)


def timing_of(folder: str | Path, *, filling: bool = False) -> dict[str, float]:
    """Means over a run's epochs from ``timing.jsonl``; the first epoch, which warms up, is left out where there are more.

    Epochs in which a GPU trained several runs at once (``together``) have the time and the memory of all of them: they are left
    out, and where there are no others, so are the run's figures. So are the seconds of epochs that stored a teacher's outputs for
    later runs, which is no cost of the method, unless ``filling``: for what a run as it is will take.

    Returns:
        ``seconds_per_epoch``, ``images_per_second``, ``data_share`` (of the seconds, 0 to 1), and ``peak_gpu_bytes`` and
        ``peak_rss_bytes`` where they were recorded; empty without the file, and where it cannot be read.
    """
    try:
        lines = read_lines(Path(folder) / "timing.jsonl")
        own = [line for line in lines if not is_shared(line)]
        used = [line for line in own_epochs(lines) if filling or line.get("cache") != "fills"]
        means = _means(used) if used or not lines else {}
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
        return {}
    for key, recorded in (("peak_gpu_bytes", own), ("peak_rss_bytes", lines)):
        peaks = [line[key] for line in recorded if isinstance(line.get(key), (int, float))]
        means |= {key: float(max(peaks))} if peaks else {}
    return means


def is_shared(line: Mapping[str, Any]) -> bool:
    """Whether a line of ``timing.jsonl`` has the seconds of several runs that were trained at once."""
    return int(line.get("together", 1)) > 1


def own_epochs(lines: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Lines with the run's own seconds; the first epoch, which warms up, only where there is no other."""
    return [line for line in lines[1:] or lines if not is_shared(line)]


def is_cost_mixed(folder: str | Path) -> bool:
    """Whether epochs of a run have seconds that are not its method's own: a GPU trained others at once, or they filled a cache."""
    try:
        lines = read_lines(Path(folder) / "timing.jsonl")
        return any(is_shared(line) or line.get("cache") == "fills" for line in lines)
    except (OSError, ValueError, TypeError):
        return False


def _means(lines: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    seconds = [float(line["seconds"]) for line in lines]
    return {
        "seconds_per_epoch": sum(seconds) / len(seconds),
        "images_per_second": sum(float(line["images_per_second"]) for line in lines) / len(lines),
        "data_share": sum(float(line["data_seconds"]) for line in lines) / max(sum(seconds), 1e-12),
    }
