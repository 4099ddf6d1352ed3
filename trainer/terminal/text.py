"""The way of all text to a terminal or a log: nothing that a corpus, a run or an error holds can give it orders.

Names come from manifests, keys, recipes and exceptions of others. They may hold escape sequences, which a terminal
obeys, and words in brackets, which rich takes for markup.
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
    """rich's console for text of others: no markup, no guessed highlights, control characters as pictures."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**({"markup": False, "highlight": False} | options))

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments of anything that is printed; rich's own control codes are segments of their own."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            shown = text if control else printable(text)
            yield segment if shown is text else Segment(shown, style)


class PrintableStream:
    """A text stream that shows control characters as pictures of themselves. rich writes around it: see `Console`."""

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
    """Have `print`, and all else that writes to sys.stdout and sys.stderr in the block, go through `PrintableStream`.

    A traceback behind the block does so, too.
    """
    before = sys.stdout, sys.stderr
    # None is a stream that the shell has closed (`>&-`); commands ask for that.
    sys.stdout, sys.stderr = (stream and cast(TextIO, PrintableStream(stream)) for stream in before)
    sys.excepthook = _show_exception
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def data_output() -> TextIO:
    """The stream for data on standard output: as they are where a file or a program takes them, printable elsewhere."""
    stream = sys.stdout
    return stream if stream.isatty() else cast(TextIO, getattr(stream, "rich_proxied_file", stream))


def _show_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    traceback.print_exception(kind, error, trace, file=PrintableStream(sys.stderr))
