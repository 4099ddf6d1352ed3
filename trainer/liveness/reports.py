"""Reports that monitors exchange about the end of a run, and how they are written. Standard library alone."""

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from trainer.liveness.waits import OUTPUT_SECONDS

_HOW = {
    "died": "has died",
    "signalled": "was ended by a second signal",
    "left": "has left, and the others did not",
}
_MISSING = {"start": "first step", "step": "step", "checkpoint": "checkpoint", "evaluation": "evaluated batch"}


class Report(NamedTuple):
    """Why the run ends.

    kind: "hung", "died", "signalled" or "left".  rank: that it is about.  origin: the rank whose monitor noticed, and
    which prints it.  limit: in seconds.  stamp: UTC, the same in the names of all ranks' files.
    """

    kind: str
    rank: int
    phase: str
    limit: float
    origin: int
    stamp: str

    def sentence(self) -> str:
        if self.kind == "hung":
            return f"rank {self.rank}: no {_MISSING[self.phase]} within {self.limit:g} s (watchdog.{self.phase})"
        return f"rank {self.rank} {_HOW[self.kind]}"


class Peer:
    """The connection to another rank's monitor. That rank holds it too: it breaks when both are gone, or the host."""

    def __init__(self, rank: int, connection: socket.socket) -> None:
        self.rank = rank
        self.connection = connection
        self._buffer = b""

    def lines(self) -> tuple[list[bytes], bool]:
        """Return the lines that have come, and True while the connection stands."""
        try:
            found = self.connection.recv(65536)
        except (BlockingIOError, InterruptedError):
            return [], True
        except OSError:
            found = b""
        *whole, self._buffer = (self._buffer + found).split(b"\n")
        return whole, bool(found)

    def send(self, report: Report) -> None:
        with contextlib.suppress(OSError):
            self.connection.send(json.dumps(report).encode() + b"\n")


class Aside:
    """Do in a thread what a hanging file system or terminal may hold up; it is not waited for longer than a limit."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._problem: str | None = f"nothing in {OUTPUT_SECONDS:g} s"
        self._deadline = time.monotonic() + OUTPUT_SECONDS
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
            self._problem = None
        except OSError as error:
            self._problem = error.strerror

    def problem(self) -> str | None:
        """Return what went wrong, at the latest `OUTPUT_SECONDS` after the start; None where nothing did."""
        self._thread.join(max(0.0, self._deadline - time.monotonic()))
        return self._problem


def print_error(text: str) -> None:
    os.write(2, f"error: {text}".encode())


def write(path: str, text: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)
