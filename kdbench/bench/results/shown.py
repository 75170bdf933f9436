"""What a run's folder says of it: state, accuracies, loss terms, curve, configuration, times, files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from kdbench.bench.results.run_files import read_lines, timing_of
from kdbench.config.defaults import defaults
from kdbench.config.files import flatten, merge_trees
from kdbench.config.load import load_config, to_dict
from kdbench.engine.result import read_record, recorded_fault
from kdbench.engine.run_folder import RunFolder
from kdbench.errors import ConfigError, KdbenchError
from kdbench.files import file_size

_BARS = "▁▂▃▄▅▆▇█"
_WIDEST = 60  # epochs of a curve that are shown


def shown_run(folder: str | Path) -> dict[str, Any]:
    """All that is known of a run, as JSON can hold it.

    Returns:
        ``name``, ``folder``, ``state`` (``done``, or the epoch that it has reached); ``result``: the fields of ``result.json``
        where it is done; ``curve``: the lines of ``metrics.jsonl``; ``changed``: keys that are not at kdbench's
        default; ``fault``: what of it is not what was written; ``timing``: means of ``timing.jsonl``; ``files``: bytes by name.

    Raises:
        ConfigError: there is no run, or its files cannot be read.
    """
    run = RunFolder(folder)
    if not run.config.is_file():
        raise ConfigError(f"{folder}: no config.yaml there; name the folder of a run")
    try:
        tree = yaml.safe_load(run.config.read_text(encoding="utf-8"))
        curve = read_lines(run.metrics)
        result = read_record(run.result) if run.result.is_file() else None
        cfg = to_dict(load_config(run.config, purpose="read"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{folder}: cannot be read ({' '.join(str(error).split())[:200]})") from None
    except KdbenchError:  # a method from outside, which is not here: all that its file says
        cfg = tree
    epochs = cfg.get("SOLVER", {}).get("EPOCHS", 0)
    reached = curve[-1]["epoch"] if curve else 0
    return {
        "name": run.path.name,
        "folder": str(run.path),
        "state": "done" if run.done else f"epoch {reached} of {epochs}",
        "fault": next(filter(None, map(recorded_fault, (run.student, run.metrics))), "") if result is not None else "",
        "result": None if result is None else {key: value for key, value in result.items() if key != "classes"},
        "curve": curve,
        "changed": changed_keys(cfg),
        "timing": timing_of(run.path),
        "files": {file.name: file_size(file) for file in sorted(run.path.iterdir()) if file.is_file()},
    }


def changed_keys(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys whose values are not kdbench's defaults; of a method's node those that are not the method's."""
    from kdbench.catalogue import methods

    base: dict[str, Any] = defaults()
    known = methods()
    for part in str(tree.get("DISTILLER", {}).get("TYPE", "")).split("+"):
        if part.strip().upper() in {name.upper() for name in known.names()}:
            method = known.get(part.strip())
            base = merge_trees(base, {method.name.upper(): to_dict(method.defaults)})
    before = {setting.key: _plain(setting.value) for setting in flatten(base, "")}
    now = {setting.key: _plain(setting.value) for setting in flatten(tree, "")}
    return {key: value for key, value in now.items() if before.get(key) != value}


def _plain(value: Any) -> Any:
    return [_plain(part) for part in value] if isinstance(value, (list, tuple)) else value


def describe(run: Mapping[str, Any]) -> list[str]:
    """A run in lines for a terminal."""
    result, curve, timing = run["result"], run["curve"], run["timing"]
    lines = [run["name"], f"  folder   {run['folder']}", f"  state    {run['state']}"]
    if run["fault"]:
        lines.append(f"  fault    {run['fault']}; the same command that trained it mends it")
    if result is not None:
        pair = f"{result['teacher']} -> {result['student']}" if result["teacher"] else result["student"]
        lines.append(f"  run      {result['method']}, {pair}, {result['dataset']}, seed {result['seed']}")
        last = f"top-1 {result['top1_last']:.2f} at the last epoch"
        if result.get("top1_best") is not None:
            last += f", best {result['top1_best']:.2f} (epoch {result['best_epoch']})"
        if result.get("top1_selected") is not None:
            last += f", {result['top1_selected']:.2f} by the validation part"
        lines.append(f"  accuracy {last}")
        if result.get("stopped"):
            lines.append(f"  stopped  after epoch {result['epochs']}: {result['stopped']}")
        if result.get("kept_epoch") not in (None, result.get("epochs")):
            lines.append(
                f"  kept     weights of epoch {result['kept_epoch']}, top-1 {result['top1']:.2f} (SOLVER.KEEP)"
            )
        if result.get("teacher_top1") is not None:
            lines.append(f"  teacher  top-1 {result['teacher_top1']:.2f}")
        if result.get("skipped_steps"):
            lines.append(f"  skipped  {result['skipped_steps']} steps that were not finite")
        if result.get("student_params") is not None:
            lines.append(f"  student  {result['student_params']:,} parameters" + _flops(result.get("student_flops")))
    if curve:
        lines.append(f"  curve    {sparkline([line['top1'] for line in curve])}")
        terms = ", ".join(f"{name} {value:.4g}" for name, value in curve[-1].get("train", {}).items())
        lines.append(f"  terms    {terms} (means of epoch {curve[-1]['epoch']})")
    if timing:
        words = [f"{timing[key]:{form}} {unit}" for key, form, unit in _TIMES if key in timing]
        lines.append(f"  time     {', '.join(words)}" + (f", {result['seconds']:.0f} s in all" if result else ""))
    if result is not None and isinstance(result.get("environment"), dict):
        made = result["environment"]
        told = [f"{key} {made[key]}" for key in ("kdbench", "torch", "timm", "device", "gpu") if made.get(key)]
        lines.append(f"  made in  {', '.join(told)}")
    lines.append("  keys that are not at their defaults")
    lines += [f"    {key}: {json.dumps(value, default=str)}" for key, value in run["changed"].items()]
    lines.append("  files")
    lines += [f"    {size:>12,}  {name}" for name, size in run["files"].items()]
    return lines


_TIMES = (("seconds_per_epoch", ".3g", "s an epoch"), ("images_per_second", ",.0f", "images a second"))


def _flops(flops: int | None) -> str:
    return "" if flops is None else f", {flops / 1e6:,.1f} million operations an image"


def sparkline(values: Sequence[float]) -> str:
    """A curve as one line of text, with its first and last value; of many epochs some."""
    step = max(1, -(-len(values) // _WIDEST))
    some = [*values[::step], *([values[-1]] if (len(values) - 1) % step else [])]
    low, high = min(values), max(values)
    bars = "".join(_BARS[round((value - low) / ((high - low) or 1) * (len(_BARS) - 1))] for value in some)
    return f"{values[0]:.1f} {bars} {values[-1]:.1f}"
