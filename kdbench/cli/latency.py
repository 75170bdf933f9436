"""``kdbench latency``: what networks of the zoo cost."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from kdbench.cli.options import add_measuring_arguments, whole_number
from kdbench.escape import visible


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("names", nargs="+", metavar="NAME", help="networks, as `kdbench list models` names them")
    parser.add_argument(
        "--size", type=whole_number(0, 8192), default=0, help="side of the images (0: each network's own)"
    )
    parser.add_argument("--classes", type=whole_number(1, 1_000_000), default=1000, help="number of classes (1000)")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:<index> or auto")
    add_measuring_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Print a row a network and size of batch."""
    from kdbench.bench.deployment.latency import latency_of, threads_of

    options = {"num_classes": args.classes, "size": args.size, "device": args.device}
    width = max(len("network"), *(len(visible(name)) for name in args.names))
    rows = []
    with threads_of(args.threads):
        for number, name in enumerate(args.names):
            found = latency_of(name, **options)
            rows.append(asdict(found))
            if args.json:
                continue
            if not number:
                print(f"{'network':<{width}}  million parameters  image  batch        ms   images/s  device")
            for one in found.latencies:
                print(
                    f"{visible(name):<{width}}  {found.params / 1e6:>18.2f}  {found.input_size[0]:>5}  {one.batch:>5}  "
                    f"{one.milliseconds:>8.2f}  {one.images_per_second:>9.1f}  {found.device}"
                )
    if args.json:
        print(json.dumps(rows, indent=1))
    return 0
