"""Join the spans of a batch's records in their shards, share them among threads, and check what was read."""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.errors import InputError
from shards.files.checksum import crc32c

#: Reads of one shard that are less than this far apart become one; what lies between is read and thrown away.
_LARGEST_GAP = 64 * 1024
#: And no longer than this, in records: one call must not keep a thread, and the system takes 1,024 parts.
_LONGEST_RUN = 64


class UnreadableError(InputError):
    """A record that could not be read after all retries, or is not what was indexed."""


@dataclass(slots=True)
class Request:
    """The features of one article on their way into a batch: one span of a shard, cut into parts.

    members: (crc wanted, the parts it is taken over).
    """

    index: int  # in the caller's rows
    shard: int
    begin: int
    end: int
    parts: list[memoryview]
    members: list[tuple[int, list[memoryview]]]
    what: str = "features"


class Room:
    """An array of a batch, (B, I, ...), as bytes."""

    def __init__(self, array: NDArray[Any]) -> None:
        rows, images = array.shape[:2]
        self.array = array
        self.image = array.nbytes // (rows * images)
        self._row = self.image * images
        self._bytes = array.reshape(-1).view(np.uint8).data

    def first_images(self, row: int, count: int) -> memoryview:
        return self._bytes[row * self._row : row * self._row + count * self.image]


class Reading:
    """Reads that may be under way in other threads."""

    def __init__(
        self,
        read_run: Callable[[list[Request], threading.Event], list[tuple[int, UnreadableError]]],
        runs: list[list[Request]],
        outcome: list[int | UnreadableError],
    ) -> None:
        self._read_run = read_run
        self._runs = deque(runs)
        self._given_up = threading.Event()
        self._outcome = outcome
        self._helpers: list[Future[None]] = []

    def begin(self, pool: Executor, threads: int) -> None:
        """Let threads of `pool` begin. One task a thread and not one a run: to hand over a task costs half a read."""
        if len(self._runs) > 1:
            self._helpers = [pool.submit(self._help) for _ in range(min(threads, len(self._runs)))]

    def finish(self) -> list[int | UnreadableError]:
        """Take part in what is left; all outcomes when the last read has ended."""
        self._help()
        for helper in self._helpers:
            if not helper.cancel():  # it never began, as all its pool's threads were busy
                helper.result()
        return self._outcome

    def _help(self) -> None:
        while True:
            try:
                run = self._runs.popleft()
            except IndexError:  # another thread took the last one
                return
            for index, error in self._read_run(run, self._given_up):
                self._outcome[index] = error


def coalesce(requests: list[Request]) -> list[list[Request]]:
    """Return requests in runs: neighbours of one shard, in the order of their offsets."""
    runs: list[list[Request]] = []
    for request in sorted(requests, key=lambda request: (request.shard, request.begin)):
        last = runs[-1][-1] if runs else None
        if (
            last is not None
            and last.shard == request.shard
            and 0 <= request.begin - last.end <= _LARGEST_GAP
            and len(runs[-1]) < _LONGEST_RUN
        ):
            runs[-1].append(request)
        else:
            runs.append([request])
    return runs


def is_sound(request: Request) -> bool:
    for wanted, parts in request.members:
        crc = 0
        for part in parts:
            crc = crc32c(part, crc)
        if crc != wanted:
            return False
    return True


def content_problem(request: Request) -> str | None:
    """Return what is wrong with features whose checksums are right, None where they are numbers and boxes as they
    should be: what a hand has written into a tar may be NaN, and one would end in all weights."""
    if request.what != "features":
        return None
    roi, boxes = (parts[1] for _, parts in request.members)  # behind the header
    # All bits of the exponent are set in NaN and the infinities. Five times as fast as isfinite of halves.
    if (np.frombuffer(roi, np.uint16) & 0x7FFF).max(initial=0) >= 0x7C00:
        return "its features are not all finite"
    corners = np.frombuffer(boxes, np.float32)
    if not (corners.min(initial=0) >= 0 and corners.max(initial=0) <= 1):  # NaN fails both
        return "its boxes are not all in [0, 1]"
    return None


def scratch(size: int) -> memoryview:
    return memoryview(bytearray(size))
