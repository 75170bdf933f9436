"""The files that a run writes a line an epoch: ``metrics.jsonl`` and ``timing.jsonl``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


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
    lines = [json.loads(line) for line in whole.splitlines() if line]
    if not all(isinstance(line, dict) for line in lines):
        raise ValueError(f"{file}: a line is not a JSON object")
    return lines


def timing_of(folder: str | Path) -> dict[str, float]:
    """Means over a run's epochs from ``timing.jsonl``; the first epoch, which warms up, is left out where there are more.

    Returns:
        ``seconds_per_epoch``, ``images_per_second``, ``data_share`` (of the seconds, 0 to 1), and ``peak_gpu_bytes`` and
        ``peak_rss_bytes`` where they were recorded; empty without the file, and where it cannot be read.
    """
    try:
        lines = read_lines(Path(folder) / "timing.jsonl")
        used = lines[1:] or lines
        seconds = [float(line["seconds"]) for line in used]
        means = {
            "seconds_per_epoch": sum(seconds) / len(seconds),
            "images_per_second": sum(float(line["images_per_second"]) for line in used) / len(used),
            "data_share": sum(float(line["data_seconds"]) for line in used) / max(sum(seconds), 1e-12),
        }
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
        return {}
    for key in ("peak_gpu_bytes", "peak_rss_bytes"):
        peaks = [line[key] for line in lines if isinstance(line.get(key), (int, float))]
        means |= {key: float(max(peaks))} if peaks else {}
    return means
