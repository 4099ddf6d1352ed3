"""Articles and image features by their row in the index: no archive is scanned, no sample is decoded twice.

Text comes from the memory-mapped arena. Features come by positioned reads, the roi and boxes of an article in one,
neighbours in a shard together, straight from the page cache into the batch. Every byte is checked against its CRC32C.
"""

import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import google_crc32c
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

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


class Reader:
    """Reads articles and image features by their row in the index. Threads may share one reader."""

    def __init__(self, corpus: Corpus, config: ReaderConfig | None = None, storage: Storage | None = None) -> None:
        self._corpus = corpus
        self._config = config or ReaderConfig()
        self._storage = storage or open_storage(corpus, max_open_files=self._config.max_open_files)
        self._shards = corpus.shards
        self._languages = corpus.languages
        threads = self._config.io_threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="reader") if threads else None
        self._lock = threading.Lock()
        self.retries = 0  # so far, of all records

    def article(self, row: int) -> Article:
        """Url, text and summary of article `row`. `UnreadableError` if its bytes are not those that were indexed."""
        record = self._corpus.articles[row]
        url, text, summary = (int(record[f"{name}_length"]) for name in ("url", "text", "summary"))
        begin = int(record["text_offset"])
        data = self._corpus.text[begin : begin + url + text + summary].tobytes()
        if google_crc32c.value(data) != int(record["text_crc"]):
            raise UnreadableError(
                f"{self._corpus.directory / 'text.bin'}, at byte {begin}: its checksum is wrong: the text arena is "
                "damaged, prepare the corpus again"
            )
        return Article(
            language=self._languages[record["language"]],
            url=data[:url].decode(),
            text=data[url : url + text].decode(),
            summary=data[url + text :].decode(),
        )

    def images(
        self, rows: Sequence[int], roi_BIRV: NDArray[np.float16], boxes_BIR4: NDArray[np.float32]
    ) -> list[int | UnreadableError]:
        """Fill the first images of each article of `rows` into its row of the arrays.

        For each, how many there are (at most the arrays' I), the rest of its row being left alone; or the error
        that remained after the retries. `InputError` where the arrays are not of the corpus' feature sizes.
        """
        records = self._corpus.articles[list(rows)]
        counts = np.minimum(records["images"], roi_BIRV.shape[1]).tolist()
        outcome: list[int | UnreadableError] = list(counts)
        requests = [
            self._request(place, records[place], roi_BIRV[place, :count], boxes_BIR4[place, :count])
            for place, count in enumerate(counts)
            if count
        ]
        runs = _coalesce(requests)
        if self._pool is not None and len(runs) > 1:
            found = self._pool.map(self._read_run, runs)
        else:
            found = map(self._read_run, runs)
        for failures in found:
            for place, error in failures:
                outcome[place] = error
        return outcome

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._storage.close()

    def _request(
        self, place: int, record: np.void, roi_IRV: NDArray[np.float16], boxes_IR4: NDArray[np.float32]
    ) -> _Request:
        """One span over the members roi and boxes; the writer puts the second right behind the first."""
        parts: list[memoryview] = []
        members = []
        shard, stored = int(record["shard"]), int(record["images"])
        begin = end = int(record["roi_offset"])
        for kind, out in (("roi", roi_IRV), ("boxes", boxes_IR4)):
            offset, length = int(record[f"{kind}_offset"]), int(record[f"{kind}_length"])
            body = out.nbytes // len(out) * stored
            header = length - body
            if not 0 < header <= _LONGEST_HEADER:
                raise InputError(
                    f"{self._where(shard, begin)}: the {length} bytes of {kind} do not hold {stored} images of "
                    f"{out.shape[1:]} {out.dtype}: the recipe's feature sizes are not the corpus'"
                )
            assert 0 <= offset - end <= _LONGEST_MEMBER_HEADER, "roi and boxes of an article are neighbours"
            # Images past the limit are read for the checksum only.
            member = [_scratch(header), out.data.cast("B"), _scratch(body - out.nbytes)]
            parts += [_scratch(offset - end), *member]
            members.append((int(record[f"{kind}_crc"]), member))
            end = offset + length
        return _Request(place, shard, begin, end, parts, members)

    def _read_run(self, run: list[_Request]) -> list[tuple[int, UnreadableError]]:
        """Read neighbours with one call; those that fail are read again, each for itself."""
        failed = run
        try:
            parts: list[memoryview] = []
            end = run[0].begin
            for request in run:
                parts += [_scratch(request.begin - end), *request.parts]
                end = request.end
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
            # The extension takes bytes or arrays; a copy of a header is cheaper than an array around it.
            crc = google_crc32c.extend(crc, bytes(part) if len(part) < 4096 else np.frombuffer(part, np.uint8))
        if crc != wanted:
            return False
    return True


def _scratch(size: int) -> memoryview:
    return memoryview(bytearray(size))
