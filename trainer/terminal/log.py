"""Log progress of the first rank to standard output, warnings and errors of any rank to standard error.

    log.info("joining 4 ranks")                             joining 4 ranks
    log.warning("no scrape", extra={"rank": 2})             warning: rank 2: no scrape
    log.error("no corpus at data")                          error: no corpus at data
    log.getChild("train").info("restarting")                d2tv train: restarting    (on standard error)

Results that a command is asked for, such as tables, are printed through trainer/terminal/text.py instead.
"""

import contextlib
import logging
import os
import sys

from shards.printable import printable


def _is_progress(record: logging.LogRecord) -> bool:
    return record.levelno < logging.WARNING and record.name == "d2tv"


class FirstRankFilter(logging.Filter):
    """Drop progress of the ranks behind the first, so that no line comes twice."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not _is_progress(record) or (os.environ.get("RANK") or "0") == "0"


class LineFormatter(logging.Formatter):
    """Write a record as one printable line: level, rank (`extra={"rank": n}`) and message."""

    def format(self, record: logging.LogRecord) -> str:
        level = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        command = "" if record.name == "d2tv" else f"{record.name.replace('.', ' ')}: "
        rank = f"rank {record.rank}: " if hasattr(record, "rank") else ""
        return printable(f"{command}{level}{rank}{record.getMessage()}")


class LineHandler(logging.Handler):
    """Print to the streams of the moment, which commands and tests replace. A stream that fails loses the line."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError, ValueError):
            print(self.format(record), file=sys.stdout if _is_progress(record) else sys.stderr, flush=True)


log = logging.getLogger("d2tv")


def _set_up() -> None:
    handler = LineHandler()
    handler.addFilter(FirstRankFilter())
    handler.setFormatter(LineFormatter())
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False  # a library's handler at the root would print the line once more


_set_up()
