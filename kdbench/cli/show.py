"""``kdbench show``."""

from __future__ import annotations

import argparse
import json

from kdbench.escape import visible
from kdbench.paths import expanded


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("run", type=expanded, metavar="RUN", help="folder of a run")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Print what the run's folder says of it."""
    from kdbench.bench.results.shown import describe, shown_run

    found = shown_run(args.run)
    print(json.dumps(found, indent=1, default=str) if args.json else "\n".join(map(visible, describe(found))))
    return 0
