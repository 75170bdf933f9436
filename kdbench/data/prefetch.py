"""Work done ahead of its consumer, in threads; results come in the order of the work."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

A = TypeVar("A")
T = TypeVar("T")


def ahead(work: Callable[[A], T], items: Iterable[A], workers: int, depth: int = 2) -> Iterator[T]:
    """``map(work, items)``, with up to ``workers * depth`` results computed in advance.

    Threads are enough: decoding and tensor operations release the interpreter's lock, and nothing is copied from one
    process to another. An exception of ``work`` is raised where its result would have come. When the iterator is closed
    or dropped, the threads finish what they do and end.

    Args:
        work: a pure function; it runs with one OpenMP thread.
        items: its arguments.
        workers: threads; 0 = in the consumer's own, nothing in advance.
        depth: results a worker may be in advance.
    """
    if workers == 0:
        yield from map(work, items)
        return
    pool = ThreadPoolExecutor(workers, "kdbench-data", initializer=torch.set_num_threads, initargs=(1,))
    pending: deque[Future[T]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) > workers * depth:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
