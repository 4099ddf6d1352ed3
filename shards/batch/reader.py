"""Read articles and image features by their row in the index, without scanning a tar.

Text comes from the memory-mapped arena. Features come by positioned reads, the roi and boxes of an article in one,
neighbours in a shard together, straight from the page cache into the batch. Every byte is checked against its CRC32C.
"""

import random
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from shards.batch.pictures import ImageFiles, StoredImage
from shards.batch.spans import Reading, Request, Room, UnreadableError, coalesce, content_problem, is_sound, scratch
from shards.errors import InputError
from shards.files.checksum import crc32c
from shards.format.index import Corpus
from shards.format.records import NPY_HEADER, PIXELS, ArticleRecord
from shards.format.stores import open_storage
from shards.schema import Article
from shards.storage.reads import Storage

_T = TypeVar("_T")

#: Between two members of a tar: padding, and a header that takes three blocks where the key is long.
_LONGEST_MEMBER_HEADER = 2048


class ReaderConfig(BaseModel):
    """Settings of reading shards."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    io_threads: int = Field(4, ge=0, le=1024, description="reads in flight a rank; 0 reads in the collating thread")
    max_open_files: int = Field(256, ge=1, le=1_048_576, description="shards kept open a rank")
    retries: int = Field(3, ge=0, le=30, description="attempts after the first at a record that cannot be read")
    retry_seconds: float = Field(
        0.1, ge=0, le=3600, description="wait before the first retry; doubled before each other one"
    )


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
        self._labels, self._label_names = corpus.labels, corpus.label_names
        self._pixels = np.asarray(corpus.pixels if corpus.pixels is not None else np.empty(0, PIXELS))
        threads = self._config.io_threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="reader") if threads else None
        self._lock = threading.Lock()
        self.retries = 0  # so far, of all records
        self.bytes_read = 0  # the same, of features; what is read in vain included

    def article(self, row: int) -> Article:
        """Return article `row`. `UnreadableError` if its bytes are not those that were indexed."""
        record = ArticleRecord(*self._articles[row].item())
        begin = record.text_offset
        text = record.url_length
        summary = text + record.text_length
        data = bytes(self._text[begin : begin + summary + record.summary_length])
        if crc32c(data) != record.text_crc:
            raise UnreadableError(
                f"{self._corpus.directory / 'text.bin'}, at byte {begin}: its checksum is wrong: the text arena is "
                "damaged, prepare the corpus again"
            )
        return Article(
            language=self._languages[record.language],
            url=data[:text].decode(),
            text=data[text:summary].decode(),
            summary=data[summary:].decode(),
            label=self._label(row),
        )

    def _label(self, row: int) -> str | None:
        number = -1 if self._labels is None else int(self._labels[row])
        return self._label_names[number] if number >= 0 else None

    def images(self, rows: Sequence[int], roi_BIRV: NDArray[np.float16], boxes_BIR4: NDArray[np.float32]) -> Reading:
        """Begin to fill the first images of each article of `rows` into its row of the arrays.

        What `Reading.finish` gives is, for each, how many there are (at most the arrays' I), the rest of its row being
        left alone; or the error that remained after the retries. `InputError` where the arrays are not of the corpus'
        feature sizes.
        """
        stored = (self._corpus.manifest["regions"], self._corpus.manifest["feature_size"])
        if roi_BIRV.shape[2:] != stored and stored != (0, 0):
            raise InputError(
                f"{self._corpus.location} holds features of {stored}, not of {roi_BIRV.shape[2:]}: the recipe's "
                "feature sizes are not the corpus'"
            )
        roi_room, boxes_room = Room(roi_BIRV), Room(boxes_BIR4)
        counts: list[int | UnreadableError] = []
        requests = []
        for index, fields in enumerate(self._articles[list(rows)].tolist()):
            record = ArticleRecord(*fields)
            count = min(record.images, roi_BIRV.shape[1])
            counts.append(count)
            if count:
                try:
                    requests.append(self._request(index, record, count, roi_room, boxes_room))
                except UnreadableError as error:
                    counts[index] = error
        reading = Reading(self._read_run, coalesce(requests), counts)
        if self._pool is not None:
            reading.begin(self._pool, self._config.io_threads)
        return reading

    def pixels(self, row: int) -> tuple[Image.Image, ...]:
        """Return the images of article `row` as pictures of any mode and size, in the order of its features.

        `InputError` where the corpus keeps features alone; `UnreadableError` for a damaged one.
        """
        return tuple(self._each(row, StoredImage.picture))

    def image_files(self, row: int) -> tuple[bytes, ...]:
        """Return the images of article `row` as they are stored, PNG or JPEG. Raises as `pixels`."""
        return tuple(self._each(row, StoredImage.read))

    def stored_images(self, rows: Sequence[int], most: int | None = None) -> ImageFiles:
        """Begin to read the image files of each article of `rows`, at most the first `most` of each.

        `InputError` where the corpus keeps features alone.
        """
        if why := self._corpus.why_no_pixels:
            raise InputError(why)
        requests: list[Request] = []
        articles: list[list[Request] | str] = []
        for fields in self._articles[list(rows)].tolist():
            try:
                own = self._image_requests(ArticleRecord(*fields), most, len(requests))
                articles.append(own)
                requests += own
            except UnreadableError as error:
                articles.append(str(error))
        reading = Reading(self._read_run, coalesce(requests), [1] * len(requests))
        if self._pool is not None:
            reading.begin(self._pool, self._config.io_threads)
        return ImageFiles(reading, articles, self._where)

    def _image_requests(self, record: ArticleRecord, most: int | None, index: int) -> list[Request]:
        """Return a span for each image file of an article, numbered from `index`."""
        if not record.images:
            return []
        wanted, pixels = (record.shard, record.roi_offset), self._pixels
        first = bisect_left(range(len(pixels)), wanted, key=lambda place: pixels[place].item()[:2])
        files = pixels[first : first + record.images].tolist()
        if [entry[:3] for entry in files] != [(*wanted, number) for number in range(record.images)]:
            raise UnreadableError(f"{self._where(*wanted)}: is not in pixels.npy: it is damaged, prepare again")
        requests = []
        for _, _, number, offset, length, crc in files[:most]:
            data = scratch(length)
            members = [(crc, [data])]
            requests.append(Request(index + number, record.shard, offset, offset + length, [data], members, "pixels"))
        return requests

    def _each(self, row: int, of: Callable[[StoredImage], _T]) -> Iterator[_T]:
        """Yield `of` each image of article `row`; an error also names story and language."""
        [images] = self.stored_images([row]).finish()
        for number, image in enumerate(images):
            try:
                yield of(image)
            except UnreadableError as error:
                raise UnreadableError(f"{self._image(row, number)}: {error}") from error

    def _image(self, row: int, number: int) -> str:
        """Name an image for an error. Reads the keys of all stories."""
        record = ArticleRecord(*self._articles[row].item())
        key, language = self._corpus.story_keys()[record.story], self._languages[record.language]
        return f"{self._shards[record.shard]}, story {key}, {language}, image {number + 1} of {record.images}"

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._storage.close()

    def _request(self, index: int, record: ArticleRecord, count: int, roi: Room, boxes: Room) -> Request:
        """Return one span over the members roi and boxes; the writer puts the second right behind the first."""
        parts: list[memoryview] = []
        members = []
        end = record.roi_offset
        if record.shard >= len(self._shards):
            raise UnreadableError(f"the index names shard {record.shard} of {len(self._shards)}: it is damaged")
        for room, offset, length, crc in (
            (roi, record.roi_offset, record.roi_length, record.roi_crc),
            (boxes, record.boxes_offset, record.boxes_length, record.boxes_crc),
        ):
            body = room.image * record.images
            if length != NPY_HEADER + body or not 0 <= offset - end <= _LONGEST_MEMBER_HEADER:
                raise UnreadableError(
                    f"{self._where(record.shard, record.roi_offset)}: {length} bytes at {offset} are not "
                    f"{record.images} images of {room.array.shape[2:]} {room.array.dtype}: the index is damaged"
                )
            member = [scratch(NPY_HEADER), room.first_images(index, count)]
            if count < record.images:  # images past the limit are read for the checksum only
                member.append(scratch(room.image * (record.images - count)))
            if offset > end:
                parts.append(scratch(offset - end))
            parts += member
            members.append((crc, member))
            end = offset + length
        return Request(index, record.shard, record.roi_offset, end, parts, members)

    def _read_run(self, run: list[Request], given_up: threading.Event) -> list[tuple[int, UnreadableError]]:
        """Read neighbours with one call; those that fail are read again, each for itself.

        given_up: set when the storage did not answer in all attempts at a record; the others of the batch then have
        one attempt more each. Else a storage that is down would hold a batch longer than the other ranks wait.
        """
        failed = run
        try:
            parts = run[0].parts
            for before, request in pairwise(run):
                parts = [*parts, scratch(request.begin - before.end), *request.parts]
            self._note_read(self._storage.readv(self._shards[run[0].shard], parts, run[0].begin))
            failed = [request for request in run if not is_sound(request)]
            if failed:
                self._storage.forget(self._shards[run[0].shard])  # what is wrong may be a copy of it
        except OSError:
            pass  # reported by the attempts below, if it stays so
        errors = {request.index: self._retry(request, given_up) for request in failed}
        for request in run:
            if errors.get(request.index) is None and (problem := content_problem(request)) is not None:
                where = self._where(request.shard, request.begin, request.what)
                errors[request.index] = UnreadableError(f"{where}: {problem}")
        return [(index, error) for index, error in errors.items() if error is not None]

    def _retry(self, request: Request, given_up: threading.Event) -> UnreadableError | None:
        """Read a record again that just failed, with a growing wait before each attempt; None when one succeeds."""
        problem, name, answered = "", self._shards[request.shard], False
        for attempt in range(max(1, self._config.retries)):
            if attempt and given_up.is_set():
                break
            if self._config.retries:
                if not given_up.is_set():  # ranks that met the same fault must not come back in step
                    time.sleep(self._config.retry_seconds * 2**attempt * random.uniform(0.5, 1.5))
                with self._lock:
                    self.retries += 1
            try:
                got = self._storage.readv(name, request.parts, request.begin)
            except OSError as error:
                problem = error.strerror or str(error) or type(error).__name__
                answered |= isinstance(error, FileNotFoundError)
                continue
            answered = True
            self._note_read(got)
            if is_sound(request):
                return None
            wanted = request.end - request.begin
            problem = f"{got} of {wanted} bytes" if got != wanted else "its checksum is wrong"
            self._storage.forget(name)
        if not answered:
            given_up.set()
        return UnreadableError(f"{self._where(request.shard, request.begin, request.what)}: {problem}")

    def _note_read(self, size: int) -> None:
        with self._lock:
            self.bytes_read += size

    def _where(self, shard: int, offset: int, what: str = "features") -> str:
        return f"{self._corpus.location.rstrip('/')}/{self._shards[shard]}, {what} at byte {offset}"
