"""``kdbench eval``."""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdbench.cli.options import add_config_arguments, config_from
from kdbench.errors import ConfigError
from kdbench.escape import visible
from kdbench.paths import expanded

if TYPE_CHECKING:
    from kdbench.bench.one_run.outputs import Outputs

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument(
        "--run",
        default=None,
        type=expanded,
        metavar="FOLDER",
        help="evaluate the student of this run folder, under its configuration (the option's name may be left out)",
    )
    parser.add_argument(
        "--weights", default="", type=expanded, metavar="FILE", help="evaluate these weights instead of STUDENT.WEIGHTS"
    )
    parser.add_argument(
        "--json", action="store_true", help="print JSON, with calibration and agreement with the teacher"
    )
    parser.add_argument("--per-class", action="store_true", help="show the accuracy of each class")
    parser.add_argument("--confusion", action="store_true", help="show which classes are taken for which")
    parser.add_argument(
        "--predictions", default="", type=expanded, metavar="FILE", help="write the prediction for each image (.csv)"
    )
    add_config_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate and print one line, or what was asked for besides.

    Raises:
        ConfigError: no run there, or a file of predictions that is no .csv.
    """
    if args.run is None and args.opts and (Path(args.opts[0]) / "config.yaml").is_file():
        args.run = args.opts.pop(0)
    if args.run is not None:
        folder = Path(args.run)
        if not (folder / "config.yaml").is_file():
            raise ConfigError(f"--run {args.run}: no config.yaml there; name the folder of a run")
        from kdbench.engine.identity.inputs import import_again
        from kdbench.engine.run_folder import RunFolder

        import_again(RunFolder(folder))
        args.cfg = str(folder / "config.yaml")
        args.weights = args.weights or str(folder / "student.safetensors")
    if args.predictions and not args.predictions.endswith(".csv"):
        raise ConfigError(f"--predictions {args.predictions!r}: expects a name that ends in .csv")
    cfg = config_from(args, "read")
    if args.json or args.per_class or args.confusion or args.predictions:
        return _in_detail(cfg, args)
    from kdbench.engine.run import evaluate

    result = evaluate(cfg, args.weights)
    print(f"top-1 {result.top1:.2f}  top-5 {result.top5:.2f}  loss {result.loss:.4f}  ({result.images} images)")
    return 0


def _in_detail(cfg: Any, args: argparse.Namespace) -> int:
    import pandas as pd

    from kdbench.bench.one_run.outputs import outputs_of, prediction_rows, summary, teachers_outputs, teachers_weights
    from kdbench.escape import csv
    from kdbench.files import stored, write_atomically

    if args.run is not None and not any("TEACHER.WEIGHTS" in word for word in args.opts):
        named = cfg.TEACHER.WEIGHTS
        cfg.defrost()
        cfg.TEACHER.WEIGHTS = teachers_weights(args.run, named)
        cfg.freeze()
        if named and not cfg.TEACHER.WEIGHTS:
            log.warning("the teacher's weights %s are not there (TEACHER.WEIGHTS=<file>): it is left out", named)
    found, teacher = outputs_of(cfg, args.weights), teachers_outputs(cfg)
    numbers = summary(found, teacher)
    if args.predictions:
        file = Path(args.predictions)
        with stored(file, resumes=False):
            write_atomically(file, csv(pd.DataFrame(prediction_rows(found, teacher))))
    if args.json:
        if args.per_class:
            numbers["per_class"] = [{"class": c, "images": n, "top1": top1} for c, n, top1 in found.per_class()]
        if args.confusion:
            numbers |= {"classes": found.classes, "confusion": found.confusion().tolist()}
        print(json.dumps(numbers, indent=1))
        return 0
    line = (
        f"top-1 {numbers['top1']:.2f}  top-5 {numbers['top5']:.2f}  NLL {numbers['nll']:.4f}  ECE {numbers['ece']:.4f}"
    )
    if teacher is not None:
        line += f"  agrees with its teacher ({numbers['teacher_top1']:.2f}) on {numbers['agreement']:.2f}%"
    print(f"{line}  ({numbers['images']} images)")
    if args.per_class:
        _print_classes(found)
    if args.confusion:
        _print_confusion(found)
    if args.predictions:
        print(f"written: {args.predictions}")
    return 0


def _print_classes(found: Outputs) -> None:
    rows = [(visible(name), images, top1) for name, images, top1 in found.per_class()]
    width = max(len("class"), *(len(name) for name, _, _ in rows))
    print(f"\n{'class':<{width}}  images   top-1")
    for name, images, top1 in rows:
        print(f"{name:<{width}}  {images:>6}  {'     -' if top1 is None else f'{top1:6.2f}'}")


def _print_confusion(found: Outputs, most: int = 20) -> None:
    """The pairs of classes that are confused most: a matrix of 1000 classes is for the file or for JSON."""
    matrix = found.confusion()
    pairs = [
        (int(matrix[i, j]), found.classes[i], found.classes[j])
        for i in range(len(matrix))
        for j in range(len(matrix))
        if i != j and matrix[i, j]
    ]
    pairs.sort(key=lambda pair: -pair[0])
    print(
        "\nimages  of class -> taken for"
        + (f" (the {most} most frequent; --json has all)" if len(pairs) > most else "")
    )
    for count, right, wrong in pairs[:most]:
        print(f"{count:>6}  {visible(right)} -> {visible(wrong)}")
