"""Speed, measured as ratios within one process: ``python tools/bench.py step|losses|features|...``."""

from __future__ import annotations

import argparse
import importlib
import pkgutil

from tabulate import tabulate

import kdbench.bench.speed as speed
from kdbench.data.malloc import tune_malloc


def main() -> None:
    rooms = [m.name for m in pkgutil.iter_modules(speed.__path__) if m.name != "timing" and not m.ispkg]
    known = {{"wrapper": "features"}.get(room, room): room for room in rooms}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=list(known))
    parser.add_argument(
        "--rounds", type=int, default=0, help="rounds of interleaved timing (default: the measurement's own)"
    )
    args = parser.parse_args()
    tune_malloc()  # as every run does at its start
    extra = {"rounds": args.rounds} if args.rounds else {}
    print(
        tabulate(
            importlib.import_module(f"kdbench.bench.speed.{known[args.what]}").run(**extra),
            headers="keys",
            tablefmt="pipe",
        )
    )


if __name__ == "__main__":
    main()
