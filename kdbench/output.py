"""What is printed where that cannot be written (a full disk, a reader that has gone): the work goes on without it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any


class Output:
    """Stands for stdout or stderr. What cannot be written is dropped, with all that follows.

    Args:
        stream: the stream itself.
        name: of it.

    Attributes:
        error: why the first of it could not be written; None where all could.
    """

    def __init__(self, stream: Any, name: str = "stdout") -> None:
        self._stream, self._name = stream, name
        self.error: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, or drop the text."""
        if self.error is None:
            try:
                self._stream.write(text)
            except OSError as error:
                self._give_up(error)
        return len(text)

    def flush(self) -> None:
        """Bring it to its reader, or drop it."""
        if self.error is None:
            try:
                self._stream.flush()
            except OSError as error:
                self._give_up(error)

    @property
    def fault(self) -> str:
        """What a user should know: nothing of a reader that has gone, who has seen what he wanted (``| head``)."""
        if self.error is None or isinstance(self.error, BrokenPipeError):
            return ""
        return f"{self._name} cannot be written: {self.error.strerror or self.error}"

    def _give_up(self, error: OSError) -> None:
        self.error = error
        # what is still in the stream's buffer would be tried again, and complained of, when the interpreter ends
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


@contextlib.contextmanager
def lasting_output(name: str = "stdout") -> Iterator[Output]:
    """Within, nothing that is printed on ``sys.<name>`` fails; at the end, all of it has been written, or :attr:`Output.error` says
    why not."""
    before = getattr(sys, name)
    output = Output(before, name)
    if before is None:  # as of a process that was started without it
        yield output
        return
    setattr(sys, name, output)
    try:
        yield output
    finally:
        output.flush()
        if getattr(sys, name) is output:
            setattr(sys, name, before)
