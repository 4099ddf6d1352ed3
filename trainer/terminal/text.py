"""Write text of others to a terminal or a log without control characters.

Names in manifests, keys, recipes and errors may hold escape sequences, which a terminal obeys, and words in brackets,
which rich takes for markup.
"""

import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TextIO, cast

import rich.console
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment

from shards.printable import printable


class Console(rich.console.Console):
    """Print through rich without markup and highlights, with control characters as pictures."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**({"markup": False, "highlight": False} | options))

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments of a renderable; rich's own control codes are segments of their own."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            shown = text if control else printable(text)
            yield segment if shown is text else Segment(shown, style)


class PrintableStream:
    """A text stream that shows control characters as pictures. rich writes around it: see `Console`."""

    def __init__(self, stream: TextIO) -> None:
        self.rich_proxied_file = stream

    def write(self, text: str) -> int:
        # Progress bars of libraries begin each time at the start of their line.
        start = "\r" if text.startswith("\r") else ""
        self.rich_proxied_file.write(start + printable(text[len(start) :]))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)


@contextmanager
def printable_output() -> Iterator[None]:
    """Send sys.stdout and sys.stderr in the block, and later tracebacks, through `PrintableStream`."""
    before = sys.stdout, sys.stderr
    # None is a stream that the shell has closed (`>&-`); commands ask for that.
    sys.stdout, sys.stderr = (stream and cast(TextIO, PrintableStream(stream)) for stream in before)
    sys.excepthook = _show_exception
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def data_output() -> TextIO:
    """Return the stream for data on standard output: unchanged into a file or a program, printable on a terminal."""
    stream = sys.stdout
    return stream if stream.isatty() else cast(TextIO, getattr(stream, "rich_proxied_file", stream))


def _show_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    traceback.print_exception(kind, error, trace, file=PrintableStream(sys.stderr))
