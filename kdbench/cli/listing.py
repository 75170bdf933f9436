"""``kdbench list``."""

from __future__ import annotations

import argparse
import fnmatch
import json
import shutil
from collections.abc import Sequence
from typing import Any

from kdbench.domains import show
from kdbench.errors import KdbenchError, did_you_mean
from kdbench.plugins import DATASETS, METHODS, MODELS, entry_points
from kdbench.static_index import read_index

#: of timm's and torchvision's names more than this many are only named: a spec takes a moment, and there are 1,400
_MANY = 20
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
    rows = [row for row in rows if fnmatch.fnmatch(str(row["name"]).lower(), args.pattern.lower())]
    if args.json:
        print(json.dumps(rows, indent=1))
    elif not rows:
        print(f"no {args.kind} match {args.pattern!r}")
    else:
        _print(rows, wide=args.detail)
    return 0 if rows else 1


def _plugins(args: argparse.Namespace, group: str) -> bool:
    return bool(args.imports) or bool(entry_points(group))


def _methods(args: argparse.Namespace) -> list[dict[str, Any]]:
    if bool(args.teacher) != bool(args.student):
        raise KdbenchError("list methods: --teacher and --student need each other; name both")
    if args.student:
        return _verdicts(args.teacher, args.student)
    index = read_index("distillers", "register_distiller")
    if _plugins(args, METHODS) or not index.whole:
        from kdbench.distillers.registry import distillers

        classes = [distillers.get(name) for name in distillers.names()]
        found = [(c.name, vars_of(c), " ".join((c.__doc__ or "").split("\n\n")[0].split())) for c in classes]
    else:
        found = [(d.name, d.attributes, d.summary) for d in index.entries]
    rows = []
    for name, attributes, summary in found:
        row: dict[str, Any] = {"name": name, "verified": attributes.get("verified", "unverified")}
        if args.detail or args.json:
            row["teacher gives"] = ", ".join(sorted(attributes.get("teacher_needs", {"logits"}))) or "-"
            row["student gives"] = ", ".join(sorted(attributes.get("student_needs", {"logits"})))
            row["reference"] = attributes.get("reference", "")
            row["presets"] = ", ".join(attributes.get("presets", {}))
            row["batch from"], row["classes from"] = attributes.get("min_batch", 1), attributes.get("min_classes", 2)
            row["domains"] = ", ".join(f"{key} {show(domain)}" for key, domain in attributes.get("domains", {}).items())
        row["about"] = summary
        rows.append(row)
    return rows


def _verdicts(teacher: str, student: str) -> list[dict[str, Any]]:
    import torch

    from kdbench.distillers.base import DataInfo
    from kdbench.distillers.create import judge_methods
    from kdbench.models.zoo import create_model

    specs = [create_model(name, num_classes=100, seed=0).spec for name in (student, teacher)]
    info = DataInfo(100, 50_000, torch.arange(50_000) % 100)
    verdicts = judge_methods(specs[0], specs[1], info)
    return [{"name": name, "defined": "no" if reason else "yes", "reason": reason} for name, reason in verdicts.items()]


def vars_of(cls: type) -> dict[str, Any]:
    """A method's declarations as a dictionary."""
    names = (
        "verified",
        "teacher_needs",
        "student_needs",
        "reference",
        "presets",
        "domains",
        "min_batch",
        "min_classes",
    )
    return {name: getattr(cls, name) for name in names if hasattr(cls, name)}


def _models(args: argparse.Namespace) -> list[dict[str, Any]]:
    from kdbench.models.catalog import build_catalog, describe, read_catalog

    if args.pattern.startswith(("timm:", "torchvision:")):
        from kdbench.models.names import list_models

        names = list_models(args.pattern)
        if len(names) > _MANY and not (args.detail or args.json):
            return [{"name": name} for name in names]
        rows = [describe(name) for name in names]
    else:
        rows = build_catalog() if _plugins(args, MODELS) else read_catalog()
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
    if _plugins(args, DATASETS):
        from kdbench.data.source import datasets

        return [{"name": n, "about": (datasets.get(n).__doc__ or "").split("\n\n")[0]} for n in datasets.names()]
    return [{"name": d.name, "about": d.summary} for d in read_index("data", "register_dataset").entries]


def _print(rows: Sequence[dict[str, Any]], *, wide: bool) -> None:
    """Aligned columns; the last one is cut at the terminal's width unless ``wide``."""
    columns = list(rows[0])
    widths = {c: max(len(c), *(len(str(row[c])) for row in rows)) for c in columns}
    limit = 10**6 if wide else shutil.get_terminal_size((100, 24)).columns
    for row in [{c: c for c in columns}, *rows]:
        line = "  ".join(str(row[c]).ljust(widths[c]) for c in columns).rstrip()
        print(line if len(line) <= limit else line[: limit - 1] + "…")
