"""A part in its process: ``python -m kdbench.bench.speed.gpu.child <part> <result> <settings> <seconds> <shape>``."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from kdbench.bench.speed.gpu.parts import execute, part_named
from kdbench.bench.speed.gpu.settings import Settings, in_a_line
from kdbench.data.malloc import tune_malloc
from kdbench.files import write_atomically

#: seconds between looks at the parent
_POLL = 1.0


def main(words: list[str]) -> int:
    """Do a part's work and write what it found, as far as it has come, to the file ``result``.

    Args:
        words: name of the part, file of the result, settings and seconds, the shape of a part that has several.
    """
    part, file, settings = part_named(words[0]), Path(words[1]), Settings.from_json(words[2])

    def save(found: dict[str, Any]) -> None:
        write_atomically(file, json.dumps(found))

    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    tune_malloc()
    # beside the result, so that whoever ends this process clears it away
    with tempfile.TemporaryDirectory(dir=file.parent, ignore_cleanup_errors=True) as folder:
        try:
            found = execute(part, settings, Path(folder), float(words[3]), words[4], save)
        except Exception as error:  # noqa: BLE001 - a finding: the other parts are measured
            found = {"error": in_a_line(error)}
            if file.is_file():
                found = {**json.loads(file.read_text(encoding="utf-8")), **found}
        save(found)
    return 0


def _end_with(parent: int) -> None:
    """End this process and its own children when the parent is gone, however it went."""
    while os.getppid() == parent:
        time.sleep(_POLL)
    os.killpg(os.getpgid(0), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
