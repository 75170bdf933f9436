from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from kdbench.data.malloc import tune_malloc

PROGRAM = """
import resource, torch
from kdbench.data.malloc import tune_malloc
print(tune_malloc())
for step in range(70):
    if step == 30:
        start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.empty(38_000_000 // 4).fill_(1.0)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - start)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_batches_are_no_longer_faulted_in_anew():
    faults = {}
    for setting in ("0", "1"):
        run = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "KDBENCH_MALLOC": setting},
            capture_output=True,
            text=True,
            check=True,
        )
        done, count = run.stdout.split()
        assert done == str(setting == "1")
        faults[setting] = int(count)
    # Small blocks land where the large one was until the heap has settled, after the first 3 to 10 large ones; from then
    # on each of the 40 counted ones (9,277 pages each) is faulted in without the settings, and none with them.
    assert faults["0"] > 35 * 9000
    assert faults["1"] < 9000


def test_switched_off(monkeypatch):
    monkeypatch.setenv("KDBENCH_MALLOC", "0")
    assert not tune_malloc()


def test_another_c_library(monkeypatch):
    monkeypatch.delenv("KDBENCH_MALLOC", raising=False)
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not tune_malloc()
