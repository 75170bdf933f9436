"""``kdbench list``."""

from __future__ import annotations

import argparse
import fnmatch
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kdbench.catalogue import COMPARED, aliases_of, dataset_rows, methods, model_rows
from kdbench.domains import show
from kdbench.errors import KdbenchError, did_you_mean
from kdbench.escape import visible

#: of timm's and torchvision's names more than this many are only named: a spec takes a moment, and there are 1,400
_MANY = 20
#: letters of the last column below which others give way
_ROOM = 30
_KINDS = ("methods", "models", "datasets")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("kind", nargs="?", default="methods", help="methods (default), models or datasets")
    parser.add_argument("pattern", nargs="?", default="*", help="shell wildcard, for instance 'resnet*' or 'timm:vit*'")
    parser.add_argument("--teacher", default="", help="show which methods work for this teacher (needs --student)")
    parser.add_argument("--student", default="", help="show which methods work for this student (needs --teacher)")
    parser.add_argument("--detail", action="store_true", help="show more columns")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Print a list; exit code 1 where nothing matches the pattern."""
    if args.kind not in _KINDS:
        raise KdbenchError(f"list shows {', '.join(_KINDS)}, not {args.kind!r}{did_you_mean(args.kind, _KINDS)}")
    rows = {"methods": _methods, "models": _models, "datasets": _datasets}[args.kind](args)
    rows = [row for row in rows if _fits(args.kind, str(row["name"]), args.pattern.lower())]
    if args.json:
        print(json.dumps(rows, indent=1))
    elif not rows:
        print(f"no {args.kind} match {args.pattern!r}")
    else:
        _print(rows, wide=args.detail)
    return 0 if rows else 1


def _fits(kind: str, name: str, pattern: str) -> bool:
    """Whether a name, or another one by which a configuration may call the same, is asked for."""
    names = [name]
    if kind != "datasets" and ":" not in name:  # timm's and torchvision's are not registered
        names += aliases_of(kind, name)
    return any(fnmatch.fnmatch(known.lower(), pattern) for known in names)


def _methods(args: argparse.Namespace) -> list[dict[str, Any]]:
    if bool(args.teacher) != bool(args.student):
        raise KdbenchError("list methods: --teacher and --student need each other; name both")
    if args.student:
        return _verdicts(args.teacher, args.student)
    rows = []
    known, costs = methods(), _costs()
    for method in map(known.get, known.names()):
        row: dict[str, Any] = {"name": method.name, "year": method.year, "compares": method.compares}
        row["needs"] = ", ".join(sorted(method.teacher_needs)) if method.uses_teacher else "-"
        row["x KD"] = costs.get(method.name, "")
        if args.detail or args.json:
            row["verified"] = method.verified
            row["teacher gives"] = ", ".join(sorted(method.teacher_needs)) or "-"
            row["student gives"] = ", ".join(sorted(method.student_needs))
            row["images"] = ", ".join(("1", *method.looks))
            row["reference"] = method.reference
            row["presets"] = ", ".join(method.presets)
            row["batch from"], row["classes from"] = method.min_batch, method.min_classes
            row["domains"] = ", ".join(f"{key} {show(domain)}" for key, domain in method.domains.items())
        row["status"] = _status(method.verified)
        row["about"] = method.summary
        rows.append(row)
    return sorted(rows, key=lambda row: (COMPARED.index(row["compares"]), row["name"].lower()))


def _status(verified: str) -> str:
    """In a word, how far a loss was checked: with which code is for ``--detail``."""
    if "@" in verified or verified == "by definition":
        return "verified"
    return next((word for word in ("unverified", "re-derived") if verified.startswith(word)), "from the paper")


def _costs() -> dict[str, str]:
    """Time of a step as a multiple of KD's, by method, for the first measured pair: ResNet18 under Swin-T."""
    file = Path(__file__).resolve().parents[1] / "bench" / "methods" / "costs.json"
    try:
        pairs = json.loads(file.read_text(encoding="utf-8"))
        return {name: f"{ratio:.2f}" for name, ratio in pairs[0]["x KD"].items() if ratio is not None}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}


def _verdicts(teacher: str, student: str) -> list[dict[str, Any]]:
    import torch

    from kdbench.distillers.base import DataInfo
    from kdbench.distillers.create import judge_methods
    from kdbench.models.zoo import create_model

    specs = [create_model(name, num_classes=100, seed=0).spec for name in (student, teacher)]
    info = DataInfo(100, 50_000, torch.arange(50_000) % 100)
    verdicts = judge_methods(specs[0], specs[1], info)
    return [{"name": name, "defined": "no" if reason else "yes", "reason": reason} for name, reason in verdicts.items()]


def _models(args: argparse.Namespace) -> list[dict[str, Any]]:
    if args.pattern.startswith(("timm:", "torchvision:")):
        from kdbench.models.describe import describe
        from kdbench.models.names import list_models

        names = list_models(args.pattern)
        if len(names) > _MANY and not (args.detail or args.json):
            return [{"name": name} for name in names]
        rows = [describe(name) for name in names]
    else:
        rows = model_rows()
    shown = []
    for row in rows:
        size = f"{row['input']}" + ("+" if row["any_size"] else "")
        short = {"name": row["name"], "family": row["family"], "params": f"{row['params'] / 1e6:.2f} M", "input": size}
        short |= {"penultimate": row["penultimate"], "stages": " ".join(row["stages"])}
        if args.detail or args.json:
            short |= {"tag": row["tag"], "about": row["about"]}
        shown.append(short)
    return shown


def _datasets(args: argparse.Namespace) -> list[dict[str, Any]]:
    return list(dataset_rows())


def _print(rows: Sequence[dict[str, Any]], *, wide: bool) -> None:
    """Aligned columns; unless ``wide`` the last one is cut at the terminal's width, and where little of it would be left, what a
    method needs is left out."""
    rows = [{column: visible(value) for column, value in row.items()} for row in rows]
    columns = list(rows[0])
    widths = {c: max(len(c), *(len(row[c]) for row in rows)) for c in columns}
    limit = 10**6 if wide else shutil.get_terminal_size((100, 24)).columns
    if "needs" in columns and limit - sum(widths[c] + 2 for c in columns[:-1]) < _ROOM:
        columns.remove("needs")
    for row in [{c: c for c in columns}, *rows]:
        line = "  ".join(row[c].ljust(widths[c]) for c in columns).rstrip()
        print(line if len(line) <= limit else line[: limit - 1] + "…")
