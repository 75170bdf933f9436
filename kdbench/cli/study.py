"""``kdbench study``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from kdbench.errors import ConfigError, KdbenchError
from kdbench.escape import visible
from kdbench.paths import expanded


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("results", type=expanded, help="a grid's folder with many seeds, or a file of its rows")
    parser.add_argument("--select", default="last", help="epoch to report: last (default), best, or selected")
    parser.add_argument("--baseline", default="", help="the student alone (default: the method Vanilla)")
    parser.add_argument("--few", type=int, default=3, metavar="N", help="seeds of a usual table (default: 3)")
    parser.add_argument(
        "--costs", default="", type=expanded, metavar="FILE.csv", help="time of a step: columns pair, label, step"
    )
    parser.add_argument(
        "--page",
        default=[],
        action="append",
        type=expanded,
        metavar="PAGE.md",
        help="fill the sections that this page names, in place; may be given several times",
    )
    parser.add_argument("--plots", default="", type=expanded, metavar="FOLDER", help="write pictures there")
    parser.add_argument("--picture", default="png", help="with --plots: png (default), pdf or svg")


def run(args: argparse.Namespace) -> int:
    """Print the study, or fill a page.

    Raises:
        ConfigError: arguments that do not go together.
        KdbenchError: no results, or a page that names no section.
    """
    from kdbench.bench.comparison.study.page import fill, open_study, whole
    from kdbench.files import write_atomically

    if args.few < 1:
        raise ConfigError(f"--few {args.few}: expects a number of seeds from 1")
    if args.picture != "png" and not args.plots:
        raise ConfigError("--picture needs --plots")
    if args.plots:
        from kdbench.bench.pictures.every import check_format

        check_format(args.picture)
    study = open_study(args.results, select=args.select, baseline=args.baseline, costs=args.costs, few=args.few)
    filled = [_filled(name, lambda old: fill(old, study)) for name in args.page]
    for page, old, new in filled:
        if new != old:
            write_atomically(page, new)
        print(visible(f"{'written' if new != old else 'up to date'}: {page}"))
    if not args.page:
        print(whole(study))
    if args.plots:
        from kdbench.bench.pictures.every import plot_study

        folder = Path(args.plots)
        folder.mkdir(parents=True, exist_ok=True)
        for file in plot_study(study, folder, args.picture):
            print(visible(f"written: {file}"))
    return 0


def _filled(name: str, fill: Callable[[str], str]) -> tuple[Path, str, str]:
    """A page that may be written, its text, and that with its sections filled."""
    page = Path(name).resolve()  # a link stays one
    try:
        old = page.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--page {name!r} cannot be read: {error}") from None
    try:
        new = fill(old)
    except KdbenchError as error:
        raise KdbenchError(f"{name}: {error}") from None
    if new != old and not os.access(page, os.W_OK):
        raise ConfigError(f"--page {name!r} may not be written")
    return page, old, new
