"""``kdbench VERB ...``: parse, call, print. Nothing heavy is imported until a verb needs it."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import logging
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from kdbench.errors import KdbenchError, RunStoppedError, did_you_mean, shown
from kdbench.escape import visible
from kdbench.logs import at_level
from kdbench.output import lasting_output
from kdbench.plugins import import_plugins
from kdbench.processes.one_voice import is_silent, one_voice
from kdbench.stopping import EXIT_CODE, ignore, watched
from kdbench.streams import PlainFormatter, any_encoding

#: verb -> (module with ``add_arguments(parser)`` and ``run(args)``, one line of help)
VERBS: dict[str, tuple[str, str]] = {
    "train": ("kdbench.cli.train", "train one student, alone or under a teacher"),
    "teacher": ("kdbench.cli.teacher", "train a teacher: the whole network, or only its classifier"),
    "eval": ("kdbench.cli.evaluate", "measure the accuracy of trained weights"),
    "grid": ("kdbench.cli.grid", "train a grid of methods, teacher-student pairs and seeds"),
    "table": ("kdbench.cli.table", "show results as tables, statistics and pictures"),
    "study": ("kdbench.cli.study", "say what a comparison with many seeds shows, and what a few would have shown"),
    "report": ("kdbench.cli.report", "write a comparison as one page for a browser"),
    "reproduce": ("kdbench.cli.reproduce", "run cells with published figures and judge whether these come out"),
    "show": ("kdbench.cli.show", "show what a run's folder says of it"),
    "export": ("kdbench.cli.export", "write a run's student as ONNX, torch.export or timm file, checked and measured"),
    "latency": ("kdbench.cli.latency", "measure how long networks take for a batch"),
    "init": ("kdbench.cli.init", "write a configuration, a grid and a method to begin with"),
    "new-method": ("kdbench.cli.new_method", "write a method of your own, its test and its card"),
    "completion": ("kdbench.cli.completion", "print the completion script of a shell"),
    "cache": ("kdbench.cli.cache", "list or remove stored teacher outputs"),
    "clean": ("kdbench.cli.clean", "show or delete files that runs left behind and nobody needs"),
    "list": ("kdbench.cli.listing", "list methods, models or data sets"),
}
#: verbs whose work goes on where it was interrupted
_RESUMING = ("train", "teacher", "grid", "reproduce")
#: verbs that a signal stops between two steps
_STOPPING = ("train", "teacher")
_TRACEBACK = "--traceback"
_LONGEST = 5000  # letters of a message


class _Parser(argparse.ArgumentParser):
    """argparse with one-line errors and a suggestion for a misspelt verb or option."""

    def error(self, message: str) -> NoReturn:
        raise _UsageError(f"{message} (see {self.prog} --help)")


class _UsageError(KdbenchError):
    """Wrong words on the command line."""


def build_parser(verbs: Sequence[str]) -> argparse.ArgumentParser:
    """The parser, with the arguments of the given verbs filled in."""
    parser = _Parser(prog="kdbench", description="Compare knowledge-distillation methods under equal conditions.")
    parser.add_argument("--version", action="store_true", help="print the version")
    commands = parser.add_subparsers(dest="verb", metavar="VERB", parser_class=_Parser)
    for verb, (module, text) in VERBS.items():
        command = commands.add_parser(verb, help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False)
        if verb in verbs:
            common(command)
            importlib.import_module(module).add_arguments(command)
    return parser


def common(parser: argparse.ArgumentParser) -> None:
    """Options of every verb."""
    parser.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=[],
        metavar="MODULE",
        help="import a module or .py file that registers your own methods, models or data sets",
    )
    parser.add_argument("--quiet", action="store_true", help="print warnings only")
    parser.add_argument(
        _TRACEBACK,
        action="store_true",
        help="show the traceback of an unexpected error, instead of writing it to a file in the temporary folder",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 2 for an error of the user's, 70 for an unexpected one, 75 for a run that a signal
    stopped and that goes on, 130 for an interrupt.

    No work is lost for the sake of what is printed of it: where stdout cannot be written, the command goes on to its end, and only
    then says so, with exit code 2; a reader that has gone (``kdbench list | head``) is no error.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    help_shown: SystemExit | None = None
    with lasting_output("stderr"):
        with lasting_output() as output:
            try:
                code = _run(words, own=argv is None)
            except SystemExit as end:  # argparse's, of --help
                code, help_shown = 0, end
        if output.fault:
            print(f"kdbench: {output.fault}", file=sys.stderr)
            return code or 2
    if help_shown is not None:
        raise help_shown
    return code


def _run(words: list[str], *, own: bool) -> int:
    """Run a command; errors are told in one line. ``own``: it is all that this process does."""
    words = _verb_first(words)
    verb = next((word for word in words if not word.startswith("-")), "")
    try:
        with any_encoding(), watched() if verb in _STOPPING else contextlib.nullcontext(), one_voice(verb):
            return _main(words, verb)
    except KdbenchError as error:
        if own and isinstance(error, RunStoppedError):
            ignore()  # schedulers repeat themselves
        _say(_one_line(error))
        return EXIT_CODE if isinstance(error, RunStoppedError) else 2
    except KeyboardInterrupt:
        again = "; run the same command again to continue from the last finished epoch" if verb in _RESUMING else ""
        _say(f"interrupted{again}")
        return 130
    except UnicodeEncodeError as error:
        print(
            f"kdbench: {shown(error.object)} is no text in {error.encoding}; rename what has this name", file=sys.stderr
        )
        return 2
    except Exception as error:  # noqa: BLE001 - the last resort
        from kdbench.cli import unexpected

        return (
            unexpected.EXIT_CODE if is_silent() else unexpected.tell(error, words, traceback_shown=_TRACEBACK in words)
        )


def _verb_first(words: list[str]) -> list[str]:
    """Options may stand before the verb, too: ``kdbench --quiet train``."""
    place = next((number for number, word in enumerate(words) if word in VERBS), 0)
    if place and words[0].startswith("-"):
        return [words[place], *words[:place], *words[place + 1 :]]
    return words


def _say(line: str) -> None:
    if not is_silent():
        print(f"kdbench: {line}", file=sys.stderr)


def _main(words: list[str], verb: str) -> int:
    if verb and verb not in VERBS:
        raise _UsageError(f"unknown verb {shown(verb)}{did_you_mean(verb, VERBS)}; there are {', '.join(VERBS)}")
    args = _parse(build_parser([verb]), words)
    if args.version:
        import kdbench

        print(f"kdbench {kdbench.__version__}")
        return 0
    if not args.verb:
        build_parser([]).print_help()
        return 0
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PlainFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    with at_level("kdbench", logging.WARNING if args.quiet else logging.INFO):
        import_plugins(args.imports)
        run: Callable[[argparse.Namespace], int] = importlib.import_module(VERBS[verb][0]).run
        return run(args)


def _one_line(error: KdbenchError) -> str:
    """Its message without line ends and control characters, cut where it is longer than anybody reads."""
    text = " ".join(visible(part) for part in str(error).split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text):,} letters)"


def _parse(parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    """Parse; overrides may stand anywhere among the options, which argparse alone does not allow."""
    args, rest = parser.parse_known_args(words)
    wrong = [word for word in rest if word.startswith("-")]
    if wrong or (rest and not hasattr(args, "opts")):
        raise _UsageError(f"unknown argument {(wrong or rest)[0]!r} (see kdbench {args.verb or ''} --help)")
    if rest:
        args.opts = [*args.opts, *rest]
    return args
