"""Keep training when standard output fails: its reader ended (`| tee`), the terminal is lost, the disk full."""

import os
import sys
from typing import Any, TextIO, cast

from trainer.terminal.text import PrintableStream


class _Unbreakable:
    """A text stream whose failed writes are lost. After the first, all of the process' output to it is discarded."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            self._let_go()
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self._let_go()

    def _let_go(self) -> None:
        # The buffer is flushed at the latest when the process ends, and must then not fail.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def make_output_unbreakable() -> None:
    """Make sys.stdout and sys.stderr streams that never fail and show control characters as pictures."""
    sys.stdout, sys.stderr = (
        PrintableStream(cast(TextIO, _Unbreakable(stream))) for stream in (sys.stdout, sys.stderr)
    )
