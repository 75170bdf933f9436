"""``kdbench teacher``."""

from __future__ import annotations

import argparse

from kdbench.cli.options import add_config_arguments, config_from
from kdbench.cli.progress import training_progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument(
        "--linear-probe", action="store_true", help="train only the classifier, on a frozen pretrained backbone"
    )
    add_config_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Train the configuration's teacher and print its accuracy and the key that names its weights."""
    from kdbench.engine.train_teacher import train_teacher, weights_of

    cfg = config_from(args, "teacher")
    with training_progress(cfg.SOLVER.EPOCHS, enabled=not args.quiet) as progress:
        result = train_teacher(cfg, linear_probe=args.linear_probe, progress=progress)
    print(f"{result.student}: top-1 {result.student_top1:.2f} (best {result.top1_best:.2f}, epoch {result.best_epoch})")
    print(f"TEACHER.WEIGHTS={weights_of(result)}")
    return 0
