"""``kdbench reproduce``."""

from __future__ import annotations

import argparse
from pathlib import Path

from kdbench.cli import grid as grid_verb
from kdbench.errors import ConfigError
from kdbench.escape import visible
from kdbench.paths import expanded

_GRID = "known-answers"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb: those of ``kdbench grid``, and its own."""
    grid_verb.add_arguments(parser)
    for action in parser._actions:
        if action.dest == "grid":  # the shipped one needs no name
            action.nargs, action.default, action.required = "?", _GRID, False
            action.help = f"grid file with PUBLISHED figures, or the name of one in configs/grids/ (default: {_GRID})"
    parser.add_argument("--judge", action="store_true", help="run nothing: judge the runs that there are")
    parser.add_argument(
        "--select", default="best", help="epoch to judge: best (default; what the authors' trainers report) or last"
    )
    parser.add_argument(
        "--out",
        default="",
        type=expanded,
        metavar="FILE",
        help="page to write (default: known-answers.md in the grid's folder)",
    )


def run(args: argparse.Namespace) -> int:
    """Run the grid, judge it, write the page; exit code 1 where a run failed or a figure was not reproduced.

    Raises:
        ConfigError: arguments that do not go together, or a grid without known answers.
    """
    from kdbench.bench.grids.find import find_grid
    from kdbench.bench.grids.grid_file import load_grid
    from kdbench.bench.paper.known_answers import NO, judge, page
    from kdbench.files import stored, write_atomically

    if "=" in args.grid:  # an override, where the grid was left out
        args.opts, args.grid = [args.grid, *args.opts], _GRID
    if args.select not in ("best", "last"):
        raise ConfigError(f"--select {args.select!r}: expects best or last")
    if args.out and not args.out.endswith(".md"):
        raise ConfigError(f"--out {args.out!r}: expects a name that ends in .md")
    other = next((o for o in ("status", "smoke", "dry_run") if getattr(args, o)), "")
    if args.judge and other:
        raise ConfigError(f"--judge and --{other.replace('_', '-')} do different things: give one of them")
    file = find_grid(args.grid)
    grid = load_grid(file, weights=not args.judge, networks=not args.judge)
    folder = Path(args.prefix) / grid.name
    judge(grid, folder, args.select)  # refuses a grid without known answers before anything runs
    failed = 0 if args.judge else grid_verb.run(args)
    if other:
        return failed
    answers = judge(grid, folder, args.select)
    text, out = page(grid, answers, args.select), Path(args.out or folder / "known-answers.md")
    print(text)
    if args.out or folder.is_dir():
        with stored(out, resumes=False):
            out.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(out, text)
        print(visible(f"written: {out}"))
    return 1 if failed or any(answer.verdict == NO for answer in answers) else 0
