"""``kdbench cache``."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from kdbench.errors import KdbenchError, did_you_mean
from kdbench.escape import visible
from kdbench.paths import expanded


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("action", choices=("ls", "rm"), help="ls: list caches; rm: remove caches")
    parser.add_argument(
        "opts",
        nargs="*",
        metavar="KEY | KEY=VALUE",
        help="with rm: keys as ls prints them, or 'all'; overrides say where the caches are (CACHE.DIR=..., LOG.PREFIX=...)",
    )
    parser.add_argument(
        "--cfg", default=None, type=expanded, metavar="FILE", help="configuration file that says where the caches are"
    )
    parser.add_argument(
        "--dir",
        default="",
        type=expanded,
        help="folder that holds the caches (default: CACHE.DIR, else LOG.PREFIX/.teacher-cache)",
    )
    parser.add_argument("--json", action="store_true", help="with ls: print JSON")


def run(args: argparse.Namespace) -> int:
    """List or remove."""
    from kdbench.data.teacher_cache.cache import ACCURACY, WEIGHTS, cache_folders

    keys = [word for word in args.opts if "=" not in word]
    root = _root(args, [word for word in args.opts if "=" in word])
    folders = {folder.name: folder for folder in cache_folders(root)}
    if args.action == "ls":
        if keys:
            raise KdbenchError(f"cache ls lists every cache in a folder and does not take {keys[0]!r}")
        _list(root, folders, as_json=args.json)
        return 0
    if args.json:
        raise KdbenchError("--json needs ls")
    if not keys:
        raise KdbenchError("cache rm: name keys as `kdbench cache ls` prints them, or 'all'")
    if keys == ["all"]:
        # what is remembered of teachers' accuracies and files belongs to what 'all' makes anew
        folders |= {name: root / name for name in (ACCURACY, WEIGHTS) if (root / name).is_dir()}
        keys = list(folders)
    for key in keys:
        if key not in folders:
            raise KdbenchError(f"no cache {key!r} in {root}{did_you_mean(key, folders)}")
    for key in keys:
        shutil.rmtree(folders[key])
        print(f"removed {key}")
    return 0


def _root(args: argparse.Namespace, overrides: list[str]) -> Path:
    from kdbench.config.load import load_config
    from kdbench.data.teacher_cache.cache import cache_root

    cfg = load_config(args.cfg, overrides, purpose="read")
    return Path(args.dir) if args.dir else cache_root(cfg)


def _list(root: Path, folders: dict[str, Path], *, as_json: bool) -> None:
    rows = [_row(root, name, folder) for name, folder in folders.items()]
    if as_json:
        print(json.dumps(rows, indent=1))
    elif not rows:
        print(f"no caches in {root}")
    for row in () if as_json else rows:
        about = f"seed {row['aug_seed']}, {row['dtype']}, batch {row['batch_size']}"
        print(visible(f"{row['key']}  {row['teacher']}  {row['views']} views  {row['bytes'] / 1e6:.1f} MB  {about}"))


def _row(root: Path, name: str, folder: Path) -> dict[str, Any]:
    from kdbench.data.teacher_cache.cache import TeacherCache, folder_bytes

    meta = TeacherCache(root, name, 0).read_meta() or {}
    key = meta.get("key", {})
    teacher = key["teacher"].get("name", "?") if isinstance(key.get("teacher"), dict) else "?"
    views = len(list(folder.glob("view*.bin")))
    facts = {fact: key.get(fact, "?") for fact in ("aug_seed", "dtype", "batch_size")}
    return {"key": name, "teacher": teacher, "views": views, "bytes": folder_bytes(folder), **facts}
