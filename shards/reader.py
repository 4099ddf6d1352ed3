"""Articles and image features by their row in the index: no archive is scanned, no sample is decoded twice.

Text comes from the memory-mapped arena. Features come by positioned reads, the roi and boxes of an article in one,
neighbours in a shard together, straight from the page cache into the batch. Every byte is checked against its CRC32C.
"""

import contextlib
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import google_crc32c
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from shards import checksum
from shards.errors import InputError
from shards.index import Corpus
from shards.schema import Article
from shards.storage import Storage
from shards.stores import open_storage

#: A .npy header of version 1.0 is padded to 64 bytes; longer ones mean an array that is not ours.
_LONGEST_HEADER = 1024
#: Between two members of a tar: padding, and a header that takes three blocks where the key is long.
_LONGEST_MEMBER_HEADER = 2048
#: Reads of one shard that are less than this far apart become one; what lies between is read and thrown away.
_LARGEST_GAP = 64 * 1024
#: And no longer than this, in records: one call must not keep a thread, and the system takes 1,024 parts.
_LONGEST_RUN = 64


class UnreadableError(InputError):
    """A record that could not be read after all retries, or is not what was indexed."""


class ReaderConfig(BaseModel):
    """How shards are read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    io_threads: int = Field(4, ge=0, description="reads in flight a rank; 0 reads in the collating thread")
    max_open_files: int = Field(256, ge=1, description="shards kept open a rank")
    retries: int = Field(3, ge=0, description="attempts after the first at a record that cannot be read")
    retry_seconds: float = Field(0.1, ge=0, description="wait before the first retry; doubled before each other one")


@dataclass(slots=True)
class _Request:
    """The features of one article on their way into a batch: one span of a shard, cut into parts.

    members: (crc wanted, the parts it is taken over).
    """

    place: int  # in the caller's rows
    shard: int
    begin: int
    end: int
    parts: list[memoryview]
    members: list[tuple[int, list[memoryview]]]


class _Record(NamedTuple):
    """A record of the index in Python's own numbers; the fields of `shards.index.ARTICLE`."""

    story: int
    language: int
    images: int
    shard: int
    json_offset: int
    json_length: int
    json_crc: int
    roi_offset: int
    roi_length: int
    roi_crc: int
    boxes_offset: int
    boxes_length: int
    boxes_crc: int
    text_offset: int
    url_length: int
    text_length: int
    summary_length: int
    text_crc: int


class _Room:
    """An array of a batch as bytes."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.shape = f"{array.shape[2:]} {array.dtype}"
        self.image = array[0, 0].nbytes
        self._row = array[0].nbytes
        self._bytes = array.reshape(-1).view(np.uint8).data

    def first_images(self, row: int, count: int) -> memoryview:
        return self._bytes[row * self._row : row * self._row + count * self.image]


class Reader:
    """Reads articles and image features by their row in the index. Threads may share one reader."""

    def __init__(self, corpus: Corpus, config: ReaderConfig | None = None, storage: Storage | None = None) -> None:
        self._corpus = corpus
        self._config = config or ReaderConfig()
        self._storage = storage or open_storage(corpus, max_open_files=self._config.max_open_files)
        self._shards = corpus.shards
        self._languages = corpus.languages
        # A memory map's own type makes an array object of every record and slice it is asked for.
        self._articles = np.asarray(corpus.articles)
        self._text = np.asarray(corpus.text).data
        threads = self._config.io_threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="reader") if threads else None
        self._lock = threading.Lock()
        self.retries = 0  # so far, of all records

    def article(self, row: int) -> Article:
        """Url, text and summary of article `row`. `UnreadableError` if its bytes are not those that were indexed."""
        record = _Record(*self._articles[row].item())
        begin = record.text_offset
        text = record.url_length
        summary = text + record.text_length
        data = bytes(self._text[begin : begin + summary + record.summary_length])
        if google_crc32c.value(data) != record.text_crc:
            raise UnreadableError(
                f"{self._corpus.directory / 'text.bin'}, at byte {begin}: its checksum is wrong: the text arena is "
                "damaged, prepare the corpus again"
            )
        return Article(
            language=self._languages[record.language],
            url=data[:text].decode(),
            text=data[text:summary].decode(),
            summary=data[summary:].decode(),
        )

    def images(self, rows: Sequence[int], roi_BIRV: NDArray[np.float16], boxes_BIR4: NDArray[np.float32]) -> "Reading":
        """Begin to fill the first images of each article of `rows` into its row of the arrays.

        What `Reading.finish` gives is, for each, how many there are (at most the arrays' I), the rest of its row being
        left alone; or the error that remained after the retries. `InputError` where the arrays are not of the corpus'
        feature sizes.
        """
        roi_room, boxes_room = _Room(roi_BIRV), _Room(boxes_BIR4)
        counts: list[int | UnreadableError] = []
        requests = []
        for place, fields in enumerate(self._articles[list(rows)].tolist()):
            record = _Record(*fields)
            count = min(record.images, roi_BIRV.shape[1])
            if count:
                requests.append(self._request(place, record, count, roi_room, boxes_room))
            counts.append(count)
        reading = Reading(self._read_run, _coalesce(requests), counts)
        if self._pool is not None:
            reading.begin(self._pool, self._config.io_threads)
        return reading

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._storage.close()

    def _request(self, place: int, record: _Record, count: int, roi: _Room, boxes: _Room) -> _Request:
        """One span over the members roi and boxes; the writer puts the second right behind the first."""
        parts: list[memoryview] = []
        members = []
        end = record.roi_offset
        for room, offset, length, crc in (
            (roi, record.roi_offset, record.roi_length, record.roi_crc),
            (boxes, record.boxes_offset, record.boxes_length, record.boxes_crc),
        ):
            header = length - room.image * record.images
            if not 0 < header <= _LONGEST_HEADER:
                raise InputError(
                    f"{self._where(record.shard, record.roi_offset)}: {length} bytes do not hold {record.images} "
                    f"images of {room.shape}: the recipe's feature sizes are not the corpus'"
                )
            assert 0 <= offset - end <= _LONGEST_MEMBER_HEADER, "roi and boxes of an article are neighbours"
            member = [_scratch(header), room.first_images(place, count)]
            if count < record.images:  # images past the limit are read for the checksum only
                member.append(_scratch(room.image * (record.images - count)))
            if offset > end:
                parts.append(_scratch(offset - end))
            parts += member
            members.append((crc, member))
            end = offset + length
        return _Request(place, record.shard, record.roi_offset, end, parts, members)

    def _read_run(self, run: list[_Request]) -> list[tuple[int, UnreadableError]]:
        """Read neighbours with one call; those that fail are read again, each for itself."""
        failed = run
        try:
            parts = run[0].parts
            for before, request in pairwise(run):
                parts = [*parts, _scratch(request.begin - before.end), *request.parts]
            self._storage.readv(self._shards[run[0].shard], parts, run[0].begin)
            failed = [request for request in run if not _is_sound(request)]
            if failed:
                self._storage.forget(self._shards[run[0].shard])  # what is wrong may be a copy of it
        except OSError:
            pass  # told of, if it stays so, by the attempts below
        return [(request.place, error) for request in failed if (error := self._retry(request)) is not None]

    def _retry(self, request: _Request) -> UnreadableError | None:
        """Attempts at one record that just failed, with a growing wait before each; None when one succeeds."""
        problem, name = "", self._shards[request.shard]
        for attempt in range(max(1, self._config.retries)):
            if self._config.retries:
                # Ranks that met the same fault must not come back in step.
                time.sleep(self._config.retry_seconds * 2**attempt * random.uniform(0.5, 1.5))
                with self._lock:
                    self.retries += 1
            try:
                got = self._storage.readv(name, request.parts, request.begin)
            except OSError as error:
                problem = error.strerror or str(error) or type(error).__name__
                continue
            if _is_sound(request):
                return None
            wanted = request.end - request.begin
            problem = f"{got} of {wanted} bytes" if got != wanted else "its checksum is wrong"
            self._storage.forget(name)
        return UnreadableError(f"{self._where(request.shard, request.begin)}: {problem}")

    def _where(self, shard: int, offset: int) -> str:
        return f"{self._corpus.location.rstrip('/')}/{self._shards[shard]}, features at byte {offset}"


class Reading:
    """Reads that may be under way in other threads."""

    def __init__(
        self,
        read_run: Callable[[list[_Request]], list[tuple[int, UnreadableError]]],
        runs: list[list[_Request]],
        outcome: list[int | UnreadableError],
    ) -> None:
        self._read_run = read_run
        self._runs = deque(runs)
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
        with contextlib.suppress(IndexError):
            while True:
                for place, error in self._read_run(self._runs.popleft()):
                    self._outcome[place] = error


def _coalesce(requests: list[_Request]) -> list[list[_Request]]:
    """Requests in runs: neighbours of one shard, in the order of their offsets."""
    runs: list[list[_Request]] = []
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


def _is_sound(request: _Request) -> bool:
    for wanted, parts in request.members:
        crc = 0
        for part in parts:
            crc = checksum.extend(crc, part)
        if crc != wanted:
            return False
    return True


def _scratch(size: int) -> memoryview:
    return memoryview(bytearray(size))
