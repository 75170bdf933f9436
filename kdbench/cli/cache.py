"""``kdbench cache``."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from kdbench.errors import KdbenchError, did_you_mean


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("action", choices=("ls", "rm"), help="list caches, or remove some")
    parser.add_argument("keys", nargs="*", help="with rm: keys as ls prints them, or 'all'")
    parser.add_argument("--dir", default="runs/.teacher-cache", help="folder of the caches (default: runs/.teacher-cache)")


def run(args: argparse.Namespace) -> int:
    """List or remove."""
    from kdbench.data.teacher_cache import TeacherCache, cache_folders, folder_bytes

    root = Path(args.dir)
    folders = {folder.name: folder for folder in cache_folders(root)}
    if args.action == "ls":
        if not folders:
            print(f"no caches in {root}")
        for name, folder in folders.items():
            meta = TeacherCache(root, name, 0).read_meta() or {}
            key = meta.get("key", {})
            teacher = key.get("teacher", {}).get("name", "?")
            views = len(list(folder.glob("view*.bin")))
            about = f"seed {key.get('aug_seed', '?')}, {key.get('dtype', '?')}, batch {key.get('batch_size', '?')}"
            print(f"{name}  {teacher}  {views} views  {folder_bytes(folder) / 1e6:.1f} MB  {about}")
        return 0
    if not args.keys:
        raise KdbenchError("kdbench cache rm: name keys as `kdbench cache ls` prints them, or 'all'")
    keys = list(folders) if args.keys == ["all"] else args.keys
    for key in keys:
        if key not in folders:
            raise KdbenchError(f"no cache {key!r} in {root}{did_you_mean(key, folders)}")
    for key in keys:
        shutil.rmtree(folders[key])
        print(f"removed {key}")
    return 0
