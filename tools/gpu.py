"""What a GPU makes of kdbench, in six minutes and without a download: ``python tools/gpu.py [--out FOLDER]``.

Equality of captured and single steps, of GPU and CPU, of runs and their repetitions; images per second against a plain loop;
a profile. Writes gpu.json and gpu.md, after each part as far as it has come.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from kdbench.bench.speed.gpu.conduct import conduct
from kdbench.bench.speed.gpu.parts import MINUTES, NAMES
from kdbench.bench.speed.gpu.settings import settings_for
from kdbench.catalogue import methods
from kdbench.errors import ConfigError, KdbenchError


def main(words: list[str] | None = None) -> int:
    """Measure; 0 where every part was done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu"), help="folder of gpu.json and gpu.md (default: gpu)")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="that all may take (default: %(default)g)")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="cpu is a rehearsal, for tests")
    parser.add_argument("--only", default="", metavar="PART,...", help=f"some parts: {', '.join(NAMES)}")
    parser.add_argument("--methods", default="", metavar="NAME,...", help="check the steps of some methods alone")
    parser.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="FILE",
        help="a Python file with steps(device), which returns a function that takes n steps of another project's trainer and "
        "returns their number of images; it is timed on the small pair. May be given several times",
    )
    args = parser.parse_args(words)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as ^C: what was begun is ended
    try:
        only, chosen = _names("--only", args.only, NAMES), _names("--methods", args.methods, methods().names())
        _check(args)
        results = conduct(
            settings_for(args.device, chosen, tuple(args.peer)),
            args.out,
            minutes=args.minutes,
            only=only,
            say=lambda line: print(line, flush=True),
        )
    except KdbenchError as error:
        print(f"gpu.py: {error}", file=sys.stderr)
        return 2
    print(f"{args.out / 'gpu.md'}")
    asked = [results["parts"][name] for name in only or NAMES]
    return int(any("error" in found for found in asked))


def _names(option: str, text: str, known: tuple[str, ...] | list[str]) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    wrong = [name for name in names if name not in known]
    if wrong:
        raise ConfigError(f"{option}: {', '.join(wrong)} is none of {', '.join(known)}")
    return names


def _check(args: argparse.Namespace) -> None:
    import torch  # after the arguments were read: it takes seconds

    if not 0 < args.minutes <= 600:
        raise ConfigError(f"--minutes expects a number between 0 and 600, got {args.minutes:g}")
    for file in args.peer:
        if not Path(file).is_file():
            raise ConfigError(f"--peer: {file} is no file")
    if args.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("no GPU is visible; --device cpu rehearses the measurement without one")


if __name__ == "__main__":
    sys.exit(main())
