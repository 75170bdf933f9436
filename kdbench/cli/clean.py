"""``kdbench clean``."""

from __future__ import annotations

import argparse
import json

from kdbench.escape import visible
from kdbench.paths import expanded


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument(
        "folder", type=expanded, metavar="FOLDER", help="folder of a run or a grid, or any folder above them"
    )
    parser.add_argument("--yes", action="store_true", help="delete what is listed (without it, nothing is deleted)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """List what could go, and delete it where asked.

    Raises:
        KdbenchError: there is no such folder.
    """
    from kdbench.bench.running.litter import find_litter

    found = find_litter(args.folder, delete=args.yes)
    if args.json:
        litter = [{"path": str(one.path), "bytes": one.size, "why": one.why} for one in found.litter]
        held = [str(place) for place in found.held]
        print(json.dumps({"deleted": args.yes, "litter": litter, "left_alone": held}, indent=1))
        return 0
    for one in found.litter:
        print(visible(f"{_size(one.size):>9}  {one.path}  ({one.why})"))
    for place in found.held:
        print(visible(f"left alone: {place}, which a process is at, or which cannot be locked"))
    total = f"{len(found.litter)} files and folders, {_size(sum(one.size for one in found.litter))}"
    if not found.litter:
        print(visible(f"nothing to clean in {args.folder}"))
    else:
        print(f"{total}: deleted" if args.yes else f"{total}; nothing was deleted: --yes does it")
    return 0


def _size(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size} B"
