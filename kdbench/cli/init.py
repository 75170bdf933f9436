"""``kdbench init``."""

from __future__ import annotations

import argparse

from kdbench.errors import ConfigError
from kdbench.escape import visible
from kdbench.paths import expanded


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("folder", type=expanded, metavar="DIR", help="folder for the files; what is there stays")
    parser.add_argument(
        "--data", default="digits", help="a data set, or folder:<path> of images by class (default: digits)"
    )
    parser.add_argument("--teacher", default="", help="network of the teacher (default: one that fits the data set)")
    parser.add_argument("--student", default="", help="network of the student (default: one that fits the data set)")


def run(args: argparse.Namespace) -> int:
    """Write the files, and say what to do with them."""
    from kdbench.scaffold.project import new_project

    if not args.folder.strip():
        raise ConfigError("DIR expects the name of a folder, got an empty one")
    for file in new_project(
        args.folder, data=args.data, teacher=args.teacher, student=args.student, imports=args.imports
    ):
        print(visible(f"written: {file}"))
    print(visible(f"next: cd {args.folder} && kdbench grid grid.yaml"))
    return 0
