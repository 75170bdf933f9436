"""``kdbench report``."""

from __future__ import annotations

import argparse
from pathlib import Path

from kdbench.errors import ConfigError
from kdbench.escape import visible
from kdbench.paths import expanded


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument(
        "folder", type=expanded, metavar="FOLDER", help="a grid's folder, or any folder above finished runs"
    )
    parser.add_argument("--select", default="last", help="epoch to report: last (default), best, or selected")
    parser.add_argument(
        "--baseline", default="", help="method that differences are measured from (default: the grid's, or KD)"
    )
    parser.add_argument(
        "--out", default="", type=expanded, metavar="FILE", help="page to write (default: FOLDER/report.html)"
    )


def run(args: argparse.Namespace) -> int:
    """Write the page.

    Raises:
        ConfigError: the page's name does not end in .html.
    """
    from kdbench.bench.pictures.page import build_report
    from kdbench.files import stored, write_atomically

    file = Path(args.out or Path(args.folder) / "report.html")
    if file.suffix != ".html":
        raise ConfigError(f"--out {args.out!r}: expects a name that ends in .html")
    page = build_report(args.folder, select=args.select, baseline=args.baseline)
    with stored(file, resumes=False):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, page)
    print(visible(f"written: {file}"))
    return 0
