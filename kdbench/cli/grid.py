"""``kdbench grid``."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdbench.cli.dry_run import dry_run
from kdbench.cli.live import live_board
from kdbench.errors import ConfigError
from kdbench.escape import visible
from kdbench.paths import expanded
from kdbench.stopping import watched

if TYPE_CHECKING:
    from kdbench.bench.grids.status import Status


_BATCH = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("grid", type=expanded, metavar="GRID", help="grid file, or the name of one in configs/grids/")
    parser.add_argument(
        "--prefix", default="runs", type=expanded, help="folder in which the grid gets its own folder (default: runs)"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=0,
        help="number of workers (default: as many as fit into the memory of the GPUs, or one per core)",
    )
    parser.add_argument("--threads", type=int, default=0, help="number of threads in each worker")
    parser.add_argument("--dry-run", action="store_true", help="print the cells and their estimated cost, then stop")
    parser.add_argument(
        "--no-probe", action="store_true", help="with --dry-run: list runs and images, but do not time anything"
    )
    # what --dry-run does by itself; the word is still accepted
    parser.add_argument("--probe", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument(
        "--write-configs",
        type=expanded,
        default="",
        metavar="FOLDER",
        help="with --dry-run: write the resolved configuration of each run to this folder",
    )
    parser.add_argument(
        "--smoke", action="store_true", help="train every cell for two steps on random data; keep nothing"
    )
    parser.add_argument("--batch", type=int, default=_BATCH, help="with --smoke: batch size (default: 2)")
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="with --smoke: only cells whose label contains this text"
    )
    parser.add_argument("--status", action="store_true", help="print the progress of the grid, then stop")
    parser.add_argument("--watch", action="store_true", help="with --status: refresh every two seconds")
    parser.add_argument("--json", action="store_true", help="with --status: print JSON")
    parser.add_argument("--retry", action="store_true", help="run again what is recorded as failed")
    parser.add_argument("--executor", default="local", help="where runs are executed: local (default), ray or slurm")
    parser.add_argument("--gpus", type=float, default=-1.0, help="GPUs for each run (with --executor ray or slurm)")
    parser.add_argument("--cpus", type=int, default=0, help="CPU cores for each run (with --executor ray or slurm)")
    parser.add_argument(
        "--processes",
        type=int,
        default=1,
        metavar="N",
        help="processes for each run, started by torchrun, one GPU or core each (default: 1)",
    )
    parser.add_argument(
        "--cohort",
        default="auto",
        metavar="auto|off|N",
        help="the most runs of one teacher and seed that train together on its one pass, with unchanged results (default: auto)",
    )
    parser.add_argument(
        "--engine",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option for ray.init, or for submitit's executor",
    )
    parser.add_argument("opts", nargs="*", metavar="KEY=VALUE", help="overrides for every cell and teacher")


def run(args: argparse.Namespace) -> int:
    """Run the grid; exit code 1 where a cell failed.

    Raises:
        ConfigError: arguments out of range, or a grid that is wrong.
    """
    for name, least in (("jobs", 0), ("threads", 0), ("batch", 1), ("processes", 1)):
        if getattr(args, name) < least:
            raise ConfigError(f"--{name} expects a number of at least {least}, got {getattr(args, name)}")
    _check_companions(args)
    from kdbench.bench.running.cohorts import cohort_size

    cohort_size(args.cohort)
    if args.status:
        return _status(args)
    from kdbench.bench.grids.find import find_grid

    file = find_grid(args.grid)
    if args.smoke:
        from kdbench.bench.running.smoke import smoke

        started = time.perf_counter()
        settings = {"batch": args.batch, "jobs": args.jobs, "overrides": args.opts, "only": args.only}
        found = smoke(file, imports=tuple(args.imports), announce=_say, **settings)
        seconds = time.perf_counter() - started
        print(f"{len(found.seconds)} runs passed, {len(found.failed)} failed, {seconds:.0f} s")
        return 0 if found.ok else 1
    if args.dry_run:
        return dry_run(file, args)
    with watched():  # from its first look at the file to its last line
        return _run(file, args)


def _check_companions(args: argparse.Namespace) -> None:
    """Refuse options that act only beside others."""
    alone = (args.status, args.dry_run, args.smoke)
    if sum(map(bool, alone)) > 1:
        raise ConfigError("--status, --dry-run and --smoke do different things: give one of them")
    needs = {
        "--write-configs": (args.write_configs, "--dry-run", args.dry_run),
        "--no-probe": (args.no_probe, "--dry-run", args.dry_run),
        "--only": (args.only, "--smoke", args.smoke),
        "--batch": (args.batch != _BATCH, "--smoke", args.smoke),
        "--watch": (args.watch, "--status", args.status),
        "--json": (args.json, "--status", args.status),
        "--engine": (args.engine, "--executor ray or slurm", args.executor != "local"),
        "--gpus": (args.gpus >= 0, "--executor ray or slurm", args.executor != "local"),
        "--cpus": (args.cpus > 0, "--executor ray or slurm", args.executor != "local"),
    }
    for option, (given, companion, there) in needs.items():
        if given and not there:
            raise ConfigError(f"{option} needs {companion}")
    if args.json and args.watch:
        raise ConfigError("--json and --watch do different things: give one of them")
    if args.status and args.opts:
        raise ConfigError(f"--status shows what the folder holds; {args.opts[0]} would change nothing, leave it out")


def _run(file: str, args: argparse.Namespace) -> int:
    from kdbench.bench.grids.grid_file import load_grid
    from kdbench.bench.running.cohorts import cohort_size
    from kdbench.bench.running.pools.cluster_pools import make_pool
    from kdbench.bench.running.run_grid import run_grid

    cohort = cohort_size(args.cohort)
    grid = load_grid(file, args.opts)
    pool = make_pool(
        args.executor,
        folder=Path(args.prefix) / grid.name,
        jobs=args.jobs,
        gpus=args.gpus,
        cpus=args.cpus,
        options=args.engine,
        processes=args.processes,
    )
    with live_board(Path(args.prefix) / grid.name) as (say, board):
        report = run_grid(
            grid,
            prefix=args.prefix if pool is None else str(Path(args.prefix).absolute()),
            jobs=args.jobs,
            threads=args.threads,
            imports=tuple(args.imports),
            announce=say,
            foretell=say,
            began=None if board is None else board.follow,
            retry=args.retry,
            pool=pool,
            processes=args.processes,
            cohort=cohort,
        )
    if report.failed:
        print(f"{len(report.failed)} runs failed; the same command with --retry runs them again", file=sys.stderr)
    print(f"results: {report.folder}   table: kdbench table {report.folder}")
    return 0 if report.ok else 1


def _status(args: argparse.Namespace) -> int:
    from rich.console import Console

    from kdbench.bench.grids.find import folder_of
    from kdbench.bench.grids.status import grid_status

    folder = folder_of(args.grid, args.prefix)
    status = grid_status(folder)  # refuses a folder without a grid
    if args.json:
        print(json.dumps(status.as_dict(), indent=1))
        return 0
    if args.watch and sys.stdout.isatty():
        with contextlib.suppress(KeyboardInterrupt), live_board(folder):
            while status.total["waiting"] + status.total["running"]:
                time.sleep(2)
                status = grid_status(folder)
    Console().print(status_table(status))
    return 0


def status_table(status: Status) -> Any:
    """A rich renderable: a line a pair, then teachers, running runs and the reasons of failures."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from kdbench.bench.grids.status import STATES, grouped

    table = Table("pair", *STATES, title=Text(visible(status.name)))
    for pair, counts in status.pairs.items():
        table.add_row(Text(visible(pair)), *(str(counts[state] or "") for state in STATES))
    total = status.total
    table.add_section()
    table.add_row("all", *(str(total[state]) for state in STATES))
    if status.trials:
        table.add_row("trials", *(str(status.trials[state]) for state in STATES))
    told = ("done", "running")  # the latter are below, with their progress
    lines = [f"teacher {name}: {state}" for name, state in status.teachers.items() if state not in told]
    lines += [f"running: {label} ({host})" for label, host in status.running.items()]
    lines += grouped(status.failed)
    return Group(table, *(Text(visible(line)) for line in lines))


def _say(line: str) -> None:
    """Print a line at once."""
    print(visible(line), flush=True)
