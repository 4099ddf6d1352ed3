"""Positioned reads of single articles from the tars: no archive is scanned, no sample is decoded twice."""

import json
import os
import threading
from pathlib import Path

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from shards.errors import InputError
from shards.index import Corpus
from shards.schema import Article

#: A .npy header of version 1.0 is padded to 64 bytes; longer ones mean an array that is not ours.
_LONGEST_HEADER = 1024


class Reader:
    """Reads articles and image features by their row in the index. Threads may share one reader."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        self._files: dict[int, int] = {}
        self._lock = threading.Lock()

    def article(self, row: int) -> Article:
        """Text and summary of article `row`. Raises `InputError` if its bytes are not those that were indexed."""
        record = self._corpus.articles[row]
        data = bytearray(int(record["text_length"]))
        self._read(record, "text", [memoryview(data)])
        fields = json.loads(data)
        return Article(language=self._corpus.languages[record["language"]], **fields)

    def images(self, row: int, roi_IRV: NDArray[np.float16], boxes_IR4: NDArray[np.float32]) -> int:
        """Fill the first images of article `row` into the given arrays, straight from the page cache.

        Returns how many there are (at most the arrays' I); the rest of the arrays is left alone.
        """
        record = self._corpus.articles[row]
        stored = int(record["images"])
        count = min(stored, len(roi_IRV))
        if count:
            self._read_array(record, "roi", stored, roi_IRV[:count])
            self._read_array(record, "boxes", stored, boxes_IR4[:count])
        return count

    def close(self) -> None:
        with self._lock:
            for file in self._files.values():
                os.close(file)
            self._files.clear()

    def _read_array(self, record: np.void, kind: str, stored: int, out: NDArray[np.generic]) -> None:
        body = out.nbytes // len(out) * stored
        header_length = int(record[f"{kind}_length"]) - body
        if not 0 < header_length <= _LONGEST_HEADER:
            raise InputError(
                f"{self._where(record, kind)}: {record[f'{kind}_length']} bytes do not hold {stored} images of "
                f"{out.shape[1:]} {out.dtype}: the recipe's feature sizes are not the corpus'"
            )
        rest = bytearray(body - out.nbytes)  # images past the limit: read for the checksum only
        self._read(record, kind, [memoryview(bytearray(header_length)), out.data.cast("B"), memoryview(rest)])

    def _read(self, record: np.void, kind: str, parts: list[memoryview]) -> None:
        """One positioned read of a member into `parts`, checked against its CRC32C."""
        wanted = int(record[f"{kind}_length"])
        try:
            got = _fill(self._file(int(record["shard"])), parts, int(record[f"{kind}_offset"]))
        except OSError as error:
            raise InputError(f"{self._where(record, kind)}: {error.strerror}") from error
        crc = 0
        for part in parts:
            crc = google_crc32c.extend(crc, bytes(part) if len(part) < 4096 else np.frombuffer(part, np.uint8))
        if got != wanted or crc != int(record[f"{kind}_crc"]):
            why = f"{got} of {wanted} bytes" if got != wanted else "its checksum is wrong"
            raise InputError(f"{self._where(record, kind)}: {why}: the shard is damaged, prepare the corpus again")

    def _file(self, shard: int) -> int:
        file = self._files.get(shard)
        if file is None:
            with self._lock:
                file = self._files.get(shard)
                if file is None:
                    file = os.open(self._path(shard), os.O_RDONLY | os.O_CLOEXEC)
                    self._files[shard] = file
        return file

    def _path(self, shard: int) -> Path:
        return self._corpus.directory / self._corpus.shards[shard]

    def _where(self, record: np.void, kind: str) -> str:
        return f"{self._path(int(record['shard']))}, {kind} at byte {record[f'{kind}_offset']}"


def _fill(file: int, parts: list[memoryview], offset: int) -> int:
    """Fill `parts` from `offset` on and return the bytes read: fewer than asked for only at the file's end."""
    waiting = [part for part in parts if len(part)]
    total = 0
    while waiting:
        got = os.preadv(file, waiting, offset + total)
        if got == 0:
            break
        total += got
        while waiting and got >= len(waiting[0]):
            got -= len(waiting.pop(0))
        if got:
            waiting[0] = waiting[0][got:]
    return total
