"""``--cfg FILE``, the shorthands, and the tail of overrides, as in mdistiller."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from kdbench.errors import ConfigError
from kdbench.paths import expanded

_MOST_THREADS = 1024
_SHORTHANDS = {
    "distiller": "DISTILLER.TYPE",
    "teacher": "DISTILLER.TEACHER",
    "student": "DISTILLER.STUDENT",
    "seed": "EXPERIMENT.SEED",
}


def add_measuring_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of commands that measure latency."""
    parser.add_argument(
        "--threads",
        type=whole_number(0, _MOST_THREADS),
        default=0,
        metavar="N",
        help="threads of the measurements on a CPU (0: as many as PyTorch has)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments that make a configuration."""
    parser.add_argument("--cfg", default=None, type=expanded, metavar="FILE", help="configuration file (YAML)")
    for name, key in _SHORTHANDS.items():
        parser.add_argument(f"--{name}", default=None, help=f"short for {key}=...")
    parser.add_argument("opts", nargs="*", metavar="KEY=VALUE", help="overrides, written KEY=VALUE or KEY VALUE")


def config_from(args: argparse.Namespace, purpose: str = "") -> Any:
    """The configuration that the arguments describe; ``purpose`` as of :func:`kdbench.load_config`.

    Raises:
        ConfigError: it is wrong, or nothing was given.
    """
    from kdbench.config.load import load_config

    overrides = list(args.opts)
    for name, key in _SHORTHANDS.items():
        value = getattr(args, name)
        if value is not None:
            overrides += [key, value]
    if args.cfg is None and not overrides:
        raise ConfigError("nothing to do: give --cfg FILE, or overrides KEY=VALUE")
    return load_config(args.cfg, overrides, purpose=purpose)


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """The type of an option that is a whole number between two."""

    def parsed(word: str) -> int:
        try:
            number = int(word)
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"expects a whole number from {least} to {most}, got {word!r}")
        return number

    return parsed
