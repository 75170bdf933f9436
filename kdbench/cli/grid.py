"""``kdbench grid``."""

from __future__ import annotations

import argparse
import sys

from kdbench.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("grid", metavar="GRID.yaml", help="grid file, see configs/grids/")
    parser.add_argument("--prefix", default="runs", help="folder above the grid's folder (default: runs)")
    parser.add_argument("--jobs", type=int, default=0, help="worker processes (default: one per GPU, or per core)")
    parser.add_argument("--threads", type=int, default=0, help="threads of each worker")
    parser.add_argument("--dry-run", action="store_true", help="print the cells and stop")
    parser.add_argument("opts", nargs="*", metavar="KEY=VALUE", help="overrides put over every cell")


def run(args: argparse.Namespace) -> int:
    """Run the grid; exit code 1 where a cell failed."""
    from kdbench.bench.grid import run_grid
    from kdbench.bench.plan import load_grid

    if args.jobs < 0 or args.threads < 0:
        raise ConfigError(f"--jobs and --threads expect numbers from 0, got {args.jobs} and {args.threads}")
    grid = load_grid(args.grid, args.opts)
    if args.dry_run:
        for cell in grid.cells:
            print(cell.label)
        print(f"{len(grid.cells)} cells, {len(grid.teachers)} teachers")
        return 0

    def announce(line: str) -> None:
        print(line, flush=True)

    report = run_grid(
        grid, prefix=args.prefix, jobs=args.jobs, threads=args.threads, imports=tuple(args.imports), announce=announce
    )
    if report.failed:
        print(f"{len(report.failed)} runs failed; the same command tries them again", file=sys.stderr)
    print(f"results: {report.folder}   table: kdbench table {report.folder}")
    return 0 if report.ok else 1
