"""``kdbench completion``."""

from __future__ import annotations

import argparse

from kdbench.errors import ConfigError, KdbenchError, did_you_mean

_SHELLS = ("bash", "zsh", "tcsh")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("shell", nargs="?", default="bash", help="bash (default), zsh or tcsh")


def run(args: argparse.Namespace) -> int:
    """Print a script that completes verbs and options: ``eval "$(kdbench completion bash)"``.

    Raises:
        ConfigError: an unknown shell.
        KdbenchError: shtab, which writes it, is not installed.
    """
    if args.shell not in _SHELLS:
        raise ConfigError(f"{args.shell!r} is none of {', '.join(_SHELLS)}{did_you_mean(args.shell, _SHELLS)}")
    try:
        import shtab
    except ImportError:
        raise KdbenchError("shtab is not installed: pip install 'kdbench[completion]'") from None

    from kdbench.cli.main import VERBS, build_parser

    print(shtab.complete(build_parser(list(VERBS)), args.shell))
    return 0
