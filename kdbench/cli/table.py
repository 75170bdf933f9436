"""``kdbench table``."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from kdbench.errors import ConfigError, KdbenchError
from kdbench.escape import csv, visible
from kdbench.paths import expanded


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument(
        "folder",
        nargs="?",
        default="",
        type=expanded,
        help="a grid's folder, any folder above finished runs, or a file of rows",
    )
    parser.add_argument(
        "--select", action="append", help="epoch to report: last (default), best, or selected (by validation accuracy)"
    )
    parser.add_argument(
        "--baseline", default="", help="method that gains are measured against (default: the grid's, or KD)"
    )
    parser.add_argument("--paper", default="", metavar="1..7|all", help="print a table of the HCD paper")
    parser.add_argument("--source", default="both", help="with --paper: reported, ours, delta, or both (default)")
    parser.add_argument(
        "--format", default="", help="md (default of files and pipes), text (of a terminal), csv, latex or html"
    )
    parser.add_argument(
        "--grid",
        default="",
        type=expanded,
        metavar="GRID.yaml",
        help="with --paper: grid file whose recipes your runs are checked against",
    )
    parser.add_argument("--stats", action="store_true", help="print intervals, paired differences, ranks and tests")
    parser.add_argument("--plots", default="", type=expanded, metavar="FOLDER", help="write pictures there")
    parser.add_argument("--picture", default="png", help="with --plots: png (default), pdf or svg")
    parser.add_argument(
        "--out", default="", type=expanded, metavar="FOLDER", help="also write the table there, in every format"
    )

    parser.add_argument(
        "--rows",
        default="",
        type=expanded,
        metavar="FILE.csv",
        help="also write a row for each run, which table and report read",
    )


def run(args: argparse.Namespace) -> int:
    """Print the table, and write it where asked.

    Raises:
        ConfigError: no folder, or arguments that do not go together.
    """
    rules = list(dict.fromkeys(args.select or ["last"]))
    if len(rules) > 1:
        raise ConfigError(
            f"--select {' and '.join(rules)}: two selection rules are never mixed in one table; render one for each"
        )
    args.select = rules[0]
    if args.paper:
        return _paper(args)
    if args.rows:
        _write_rows(args)
    for option, given in (("--grid", args.grid), ("--source", args.source != "both")):
        if given:
            raise ConfigError(f"{option} needs --paper 1..7 or all")
    if args.picture != "png" and (not args.plots or args.stats):
        raise ConfigError("--picture needs --plots, without --stats")
    if not args.folder:
        raise ConfigError("name a results folder, or a table of the paper with --paper 1..7 --source reported")
    if args.stats:
        return _stats(args)
    return _comparison(args)


def _write_rows(args: argparse.Namespace) -> None:
    from kdbench.bench.results.labels import load_grid_results
    from kdbench.bench.results.rows_file import is_rows_file, rows_as_csv

    if not args.rows.endswith(".csv"):
        raise ConfigError(f"--rows {args.rows!r}: expects a name that ends in .csv")
    if not args.folder or is_rows_file(args.folder):
        raise ConfigError("--rows writes the rows of a results folder: name one")
    _write(Path(args.rows), rows_as_csv(*load_grid_results(args.folder)))


def _paper(args: argparse.Namespace) -> int:
    import pandas as pd

    from kdbench.bench.grids.find import find_grid
    from kdbench.bench.paper.declared import declared_of
    from kdbench.bench.paper.own_runs import OwnRuns
    from kdbench.bench.paper.render import FORMATS, check_format, render, to_frame
    from kdbench.bench.paper.table import build_paper_table

    args.format = args.format or "md"
    check_format(args.format)
    numbers = range(1, 8) if args.paper == "all" else [_number(args.paper)]
    if args.stats:
        raise ConfigError("--stats works on a folder of results: leave out --paper")
    grid = find_grid(args.grid) if args.grid else ""
    runs = OwnRuns(args.folder, args.select) if args.folder and args.source != "reported" else None
    tables = []
    for number in numbers:
        # of several tables, a grid speaks for those that it declares
        own = grid if grid and (args.paper != "all" or declared_of(grid).declares(number)) else ""
        table = build_paper_table(number, source=args.source, select=args.select, grid=own, runs=runs)
        tables.append(table)
        if args.format != "csv":
            print(render(table, args.format))
        if args.out:
            for form in FORMATS:
                suffix = "tex" if form == "latex" else form
                _write(Path(args.out) / f"table{number}.{suffix}", render(table, form))
    if args.format == "csv":  # one frame, one header
        print(csv(pd.concat([to_frame(table) for table in tables])))
    if args.plots:
        from kdbench.bench.pictures.published_and_own import plot_reported

        file = _folder(args.plots) / "reported_and_ours.png"
        print(
            f"written: {file}"
            if plot_reported(tables, file)
            else "nothing to draw: no cell has both a published figure and one of yours"
        )
    return 0


def _comparison(args: argparse.Namespace) -> int:
    from kdbench.bench.comparison.render import FORMATS, TEXT, check_format, render_table
    from kdbench.bench.comparison.table import build_table
    from kdbench.bench.pictures.accuracy import plot_table

    form = args.format or (TEXT if sys.stdout.isatty() else "md")
    check_format(form)
    table = build_table(args.folder, select=args.select, baseline=args.baseline)
    print(render_table(table, form, width=shutil.get_terminal_size().columns))
    if args.out:
        out = _folder(args.out)
        for each, suffix in FORMATS.items():
            _write(out / f"table.{suffix}", render_table(table, each))
        plot_table(table, out / "table.png")
        print(f"written: {out / 'table.md'}, {', '.join(f'table.{s}' for s in [*FORMATS.values()][1:])}, table.png")
    if args.plots:
        from kdbench.bench.pictures.every import plot_all

        for file in plot_all(args.folder, table, _folder(args.plots), args.picture):
            print(f"written: {file}")
    return 0


def _stats(args: argparse.Namespace) -> int:
    from kdbench.bench.comparison.report import ranks, report
    from kdbench.bench.comparison.table import build_table
    from kdbench.bench.grids.grid_record import GRID_FILE
    from kdbench.bench.pictures.ranks import plot_ranks
    from kdbench.bench.results.labels import grids_below

    blocks = not (Path(args.folder) / GRID_FILE).is_file() and grids_below(args.folder) > 0
    table = build_table(args.folder, select=args.select, baseline=args.baseline, blocks=blocks)
    text = report(table)
    print(text)
    if args.plots:
        try:
            found = ranks(table)
        except KdbenchError as error:
            print(f"no diagram of ranks: {visible(error)}")
        else:
            plot_ranks(found, _folder(args.plots) / "ranks.png")
            print(f"written: {Path(args.plots) / 'ranks.png'}")
    if args.out:
        _write(_folder(args.out) / "statistics.md", text)
    return 0


def _number(word: str) -> int:
    if not word.isdigit():
        raise ConfigError(f"--paper {word!r}: expected a number from 1 to 7, or all")
    return int(word)


def _folder(name: str) -> Path:
    folder = Path(name)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _write(file: Path, text: str) -> None:
    from kdbench.files import write_atomically

    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, text)
