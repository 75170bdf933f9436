"""Code in an interpreter of its own: what is imported there is what the code imports."""

from __future__ import annotations

import subprocess
import sys


def run_python(code: str, *words: str) -> str:
    """What ``code`` prints, with ``words`` as its arguments; it must not fail."""
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
