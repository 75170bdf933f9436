"""``kdbench new-method``."""

from __future__ import annotations

import argparse

from kdbench.escape import visible
from kdbench.paths import expanded


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("name", metavar="NAME", help="name of the method, as configurations will name it")
    parser.add_argument("--out", default=".", type=expanded, metavar="DIR", help="folder for the files (default: here)")


def run(args: argparse.Namespace) -> int:
    """Write the files, and say what to do with them."""
    from kdbench.scaffold.method import new_method

    files = new_method(args.name, args.out)
    for file in files:
        print(visible(f"written: {file}"))
    print(visible(f"next: pytest {files[1]}; kdbench train --import {files[0]} --distiller {args.name} ..."))
    return 0
