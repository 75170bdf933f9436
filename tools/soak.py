"""Accidents against kdbench's commands, for ten minutes: ``python tools/soak.py [--minutes 10] [--seed N] [--kinds NAME,...]``.

Kills, signals, damaged files, hostile files, full disks, several writers, dead processes. Each finished run is compared with the
undisturbed run of its seed, byte for byte. Prints what became of each kind of accident; exit code 1 where a command ended in a
traceback, a crash or a hang, or where a figure was silently wrong.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # children are forked, and bytes are compared with those of a CPU

import argparse
import logging
import random
import sys
from pathlib import Path

_ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(_ROOT), str(_ROOT / "tools"), str(_ROOT / "tests"), str(_ROOT / "tests" / "bench")]
os.environ["PYTHONPATH"] = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])


def main(words: list[str] | None = None) -> int:
    """Soak; 0 where nothing was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="(default: %(default)g)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="(default: a new one)")
    parser.add_argument("--kinds", default="", metavar="NAME,...", help="some kinds of accidents alone")
    parser.add_argument(
        "--jobs", type=int, default=min(2, os.cpu_count() or 1), help="processes (default: %(default)d)"
    )
    parser.add_argument("--no-least", action="store_true", help="stop in time, as soon as each kind has had a case")
    parser.add_argument("--replay", default="", metavar="KIND:NUMBER", help="one case alone, as a fault was told")
    args = parser.parse_args(words)
    import torch

    torch.set_num_threads(1)
    _load()
    from soaking.conduct import conduct, replay
    from soaking.kinds import KINDS
    from soaking.verdict import FAULTS

    chosen = [name.strip() for name in args.kinds.split(",") if name.strip()] or list(KINDS)
    name, _, number = args.replay.partition(":")
    wrong = [each for each in [*chosen, *([name] if args.replay else [])] if each not in KINDS]
    if wrong or (args.replay and not number.isdigit()) or args.minutes < 0 or args.jobs < 1:
        parser.error(f"kinds are {', '.join(KINDS)}; --replay KIND:NUMBER; --minutes from 0, --jobs from 1")
    print(f"seed {args.seed}", flush=True)
    if args.replay:
        verdicts = replay(name, int(number), args.seed)
        print("\n".join(f"{verdict.word}: {verdict.accident}\n  {verdict.seen}" for verdict in verdicts))
        return int(any(verdict.word in FAULTS for verdict in verdicts))
    found = conduct(
        chosen,
        seed=args.seed,
        minutes=args.minutes,
        jobs=args.jobs,
        say=lambda line: print(line, flush=True),
        least=not args.no_least,
    )
    print(f"\n{found.table()}\n\nseed {args.seed}, {len(found.faults)} faults")
    return 0 if found.clean else 1


def _load() -> None:
    """What commands import and set up, once: each of them is forked from here."""
    import contextlib
    import tempfile

    import matplotlib
    from soaking.child import command
    from soaking.place import train

    matplotlib.use("agg")
    with tempfile.TemporaryDirectory() as name, open(os.devnull, "w") as nowhere, contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(nowhere))
        stack.enter_context(contextlib.redirect_stderr(nowhere))
        command(*train(Path(name), "KD", **{"CACHE.ENABLED": "True"}))()
        command("table", name, "--stats", "--plots", name, "--out", name)()
        command("grid", str(_ROOT / "configs" / "grids" / "quickstart.yaml"), "--dry-run", "--no-probe")()
    logging.getLogger().handlers.clear()


if __name__ == "__main__":
    sys.exit(main())
