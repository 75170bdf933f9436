"""``kdbench cache``."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

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


def run(args: argparse.Namespace) -> int:
    """List or remove."""
    from kdbench.data.teacher_cache.cache import ACCURACY, WEIGHTS, cache_folders

    keys = [word for word in args.opts if "=" not in word]
    root = _root(args, [word for word in args.opts if "=" in word])
    folders = {folder.name: folder for folder in cache_folders(root)}
    if args.action == "ls":
        if keys:
            raise KdbenchError(f"cache ls lists every cache in a folder and does not take {keys[0]!r}")
        _list(root, folders)
        return 0
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


def _list(root: Path, folders: dict[str, Path]) -> None:
    from kdbench.data.teacher_cache.cache import TeacherCache, folder_bytes

    if not folders:
        print(f"no caches in {root}")
    for name, folder in folders.items():
        meta = TeacherCache(root, name, 0).read_meta() or {}
        key = meta.get("key", {})
        teacher = key["teacher"].get("name", "?") if isinstance(key.get("teacher"), dict) else "?"
        views = len(list(folder.glob("view*.bin")))
        about = f"seed {key.get('aug_seed', '?')}, {key.get('dtype', '?')}, batch {key.get('batch_size', '?')}"
        print(visible(f"{name}  {teacher}  {views} views  {folder_bytes(folder) / 1e6:.1f} MB  {about}"))
