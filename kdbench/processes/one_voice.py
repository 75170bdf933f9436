"""For the command: of several processes the main one speaks alone, and they end together."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from kdbench.processes.place import rank_and_world
from kdbench.processes.together import together

#: verbs whose work several processes share
_SHARED = ("train", "teacher", "eval")
_silent = False


@contextlib.contextmanager
def one_voice(verb: str) -> Iterator[None]:
    """Inside, what another process than the main one prints, logs or warns of is dropped, and an error of one ends all."""
    global _silent
    rank, world = rank_and_world()
    if world == 1 or verb not in _SHARED:
        yield
        return
    with contextlib.ExitStack() as stack:
        if rank:
            nothing = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            stack.enter_context(contextlib.redirect_stdout(nothing))
            stack.enter_context(contextlib.redirect_stderr(nothing))
        watch = stack.enter_context(together())
        try:
            yield
        except BaseException as error:
            if watch is not None:
                watch.fail(error)
                _silent = watch.told_by_another
            raise
        _part()


def is_silent() -> bool:
    """Whether the main process has told how this one ends."""
    return _silent


def _part() -> None:
    """Close the connections of the processes, of whose being open at the end PyTorch warns in each."""
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()
