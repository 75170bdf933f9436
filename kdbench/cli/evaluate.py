"""``kdbench eval``."""

from __future__ import annotations

import argparse
from pathlib import Path

from kdbench.cli.options import add_config_arguments, config_from
from kdbench.errors import ConfigError
from kdbench.paths import expanded


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument(
        "--run",
        default=None,
        type=expanded,
        metavar="FOLDER",
        help="evaluate the student of this run folder, under its configuration",
    )
    parser.add_argument(
        "--weights", default="", type=expanded, metavar="FILE", help="evaluate these weights instead of STUDENT.WEIGHTS"
    )
    add_config_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate and print one line."""
    if args.run is not None:
        folder = Path(args.run)
        if not (folder / "config.yaml").is_file():
            raise ConfigError(f"--run {args.run}: no config.yaml there; name the folder of a run")
        args.cfg = str(folder / "config.yaml")
        args.weights = args.weights or str(folder / "student.safetensors")
    from kdbench.engine.run import evaluate

    cfg = config_from(args, "read")
    result = evaluate(cfg, args.weights)
    print(f"top-1 {result.top1:.2f}  top-5 {result.top5:.2f}  loss {result.loss:.4f}  ({result.images} images)")
    return 0
