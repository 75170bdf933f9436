"""``kdbench train``."""

from __future__ import annotations

import argparse

from kdbench.cli.options import add_config_arguments, config_from
from kdbench.cli.progress import training_progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument(
        "--resume",
        action="store_true",
        help="accepted for mdistiller's sake: every run resumes from its checkpoint; warns if there is none",
    )
    add_config_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Train and print one line."""
    from kdbench.engine.run import train

    cfg = config_from(args, "train")
    with training_progress(cfg.SOLVER.EPOCHS, enabled=not args.quiet) as progress:
        result = train(cfg, progress=progress, resume=args.resume)
    best = f"best {result.top1_best:.2f}, epoch {result.best_epoch}"
    print(f"{result.method}: top-1 {result.student_top1:.2f} ({best})  {result.folder}")
    return 0
