"""The C library's allocator, told to keep what it has.

A batch of 224x224 images is tens of megabytes. glibc maps such a block anew for every tensor and gives it back at once,
so that each batch is paid for in page faults; with larger thresholds the memory stays in the heap and is used again.
"""

from __future__ import annotations

import ctypes
import logging
import os
import platform

log = logging.getLogger(__name__)

#: glibc's malloc.h
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_KEEP = 2**30  # bytes; the largest block that stays in the heap, and the most that stays there unused
_TOP_PAD = 2**26


def tune_malloc() -> bool:
    """Raise M_MMAP_THRESHOLD, M_TRIM_THRESHOLD and M_TOP_PAD of glibc's malloc for this process.

    The environment variable ``KDBENCH_MALLOC=0`` switches it off; with another C library than glibc nothing is done.
    The heap settles within the first ten or so batches. The price is memory: up to 1 GiB that was freed stays with the
    process.

    Returns:
        Whether the settings were taken.
    """
    if os.environ.get("KDBENCH_MALLOC", "1") == "0" or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = ((_M_MMAP_THRESHOLD, _KEEP), (_M_TRIM_THRESHOLD, _KEEP), (_M_TOP_PAD, _TOP_PAD))
    done = sum(mallopt(name, value) for name, value in settings) == len(settings)
    log.debug("malloc settings %s", "raised" if done else "refused")
    return done
