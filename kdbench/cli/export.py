"""``kdbench export``: the student of a run as a file for other runtimes."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from kdbench.cli.options import add_measuring_arguments
from kdbench.errors import ConfigError
from kdbench.escape import visible
from kdbench.paths import expanded

if TYPE_CHECKING:
    from kdbench.bench.deployment.export import Exported


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("run", type=expanded, metavar="RUN", help="folder of a finished run")
    parser.add_argument("--to", required=True, metavar="FORMAT", help="onnx, torch.export or timm")
    parser.add_argument(
        "--out", required=True, type=expanded, metavar="FILE", help="name that ends in .onnx or .pt2; for timm a folder"
    )
    add_measuring_arguments(parser)
    parser.add_argument("--int8", action="store_true", help="weights and activations of 8 bits (with --to onnx)")
    parser.add_argument(
        "--card", default="", type=expanded, metavar="FILE.md", help="write a model card in Hugging Face's format, too"
    )
    parser.add_argument("opts", nargs="*", metavar="KEY=VALUE", help="overrides, for instance of DATASET.ROOT")


def run(args: argparse.Namespace) -> int:
    """Export, and print what was checked and measured.

    Raises:
        ConfigError: no run there, or a card that is no .md.
    """
    folder = Path(args.run)
    if not (folder / "config.yaml").is_file():
        raise ConfigError(f"{args.run}: no config.yaml there; name the folder of a run")
    if args.card and not args.card.endswith(".md"):
        raise ConfigError(f"--card {args.card!r}: expects a name that ends in .md")
    from kdbench.bench.deployment.export import export_run
    from kdbench.config.load import load_config
    from kdbench.engine.identity.inputs import import_again
    from kdbench.engine.run_folder import RunFolder

    import_again(RunFolder(folder))
    cfg = load_config(str(folder / "config.yaml"), list(args.opts), purpose="read")
    found = export_run(folder, cfg, args.to, args.out, quantised=args.int8, threads=args.threads)
    if args.card:
        from kdbench.bench.deployment.card import card
        from kdbench.files import stored, write_atomically

        with stored(Path(args.card)):
            write_atomically(Path(args.card), card(folder, cfg, found))
    if args.json:
        print(json.dumps({**asdict(found), "file": str(found.file)}, indent=1))
    else:
        _print(found)
    return 0


def _print(found: Exported) -> None:
    parity, side = found.parity, found.side
    print(
        f"written: {visible(str(found.file))} ({found.size / 1e6:.2f} MB; images (batch, 3, {side}, {side}) in [0, 1] -> logits "
        f"(batch, {found.classes}))"
    )
    print(
        f"top-1 {parity.top1:.2f} on {parity.images} test images, as PyTorch ({parity.student_top1:.2f}) and the run "
        f"({parity.recorded_top1:.2f}); largest difference of outputs {parity.difference:.1e}"
    )
    if found.int8_top1 is not None:
        print(f"top-1 {found.int8_top1:.2f} of the 8-bit file, {found.int8_top1 - parity.top1:+.2f}")
    for one in found.latencies:
        print(
            f"batch {one.batch:>3}: {one.milliseconds:9.3f} ms  {one.images_per_second:9.1f} images/s  ({found.runtime}, "
            f"{found.threads} thread{'s' * (found.threads > 1)})"
        )
