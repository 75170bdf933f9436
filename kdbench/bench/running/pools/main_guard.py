"""Whether a script may start worker processes: each of them imports it, so that what starts them must not run on import."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

from kdbench.errors import KdbenchError


def check_main(call: str) -> None:
    """Refuse a call at the top level of the script that Python was started with, outside every ``if``.

    Args:
        call: its name, for the message.

    Raises:
        KdbenchError: names the line, and what belongs around it.
    """
    file = getattr(sys.modules["__main__"], "__file__", None)  # a notebook and an interactive session have none
    if not file:
        return
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        top = frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__") == "__main__"
        if top and frame.f_code.co_filename == file and not _is_guarded(Path(file), frame.f_lineno):
            raise KdbenchError(
                f"{file}, line {frame.f_lineno}: {call} starts processes that import this file, and would start their own; "
                'put the call below if __name__ == "__main__":'
            )


def _is_guarded(file: Path, line: int) -> bool:
    """Whether a line stands within an ``if``; also where that cannot be read."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return True
    return any(
        isinstance(node, ast.If) and node.lineno <= line <= (node.end_lineno or node.lineno) for node in ast.walk(tree)
    )
