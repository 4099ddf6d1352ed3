"""Decode the pictures that a corpus keeps beside its features, for the rows of a batch.

Files are read as features are, neighbours in a shard together, and decoded by the thread that collates. Pillow holds
no lock of Python's while it decodes and resizes, so loader threads do so at once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shards.arrays import Ints
from shards.batch.spans import Reading, Request, UnreadableError
from shards.format.pixels import DamagedImageError, decode, squared

if TYPE_CHECKING:
    from shards.batch.reader import Reader


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredImage:
    """An image file as a corpus keeps it, PNG or JPEG.

    where: its place, for errors.  problem: what remained wrong after the retries.
    """

    where: str = ""
    file: bytes = b""
    problem: str | None = None

    def read(self) -> bytes:
        """Return the file. Raise `UnreadableError` where it could not be read."""
        if self.problem is not None:
            raise UnreadableError(self.problem)
        return self.file

    def picture(self) -> Image.Image:
        """Return the picture, of any mode and size. Raise `UnreadableError` as `read`, and for a damaged one."""
        try:
            return decode(self.read())
        except DamagedImageError as error:
            raise UnreadableError(f"{self.where}: is no picture ({error}): prepare again") from error


class ImageFiles:
    """Image files of articles, which other threads may be reading."""

    def __init__(
        self,
        reading: Reading,
        articles: Sequence[Sequence[Request] | str],
        where: Callable[[int, int, str], str],
    ) -> None:
        """Take the requests of each article, numbered through, or the reason why it has none.

        where: (shard, offset, kind of record) -> its place.
        """
        self._reading, self._articles, self._where = reading, articles, where

    def finish(self) -> list[tuple[StoredImage, ...]]:
        """Return the files of each article, when the last read has ended."""
        outcomes = self._reading.finish()
        found: list[tuple[StoredImage, ...]] = []
        for requests in self._articles:
            if isinstance(requests, str):
                found.append((StoredImage(problem=requests),))
            else:
                found.append(tuple(self._stored(request, outcomes[request.index]) for request in requests))
        return found

    def _stored(self, request: Request, outcome: object) -> StoredImage:
        if isinstance(outcome, UnreadableError):
            return StoredImage(problem=str(outcome))
        where = self._where(request.shard, request.begin, request.what)
        return StoredImage(where=where, file=bytes(request.parts[0]))


class Pictures:
    """The pictures of a batch's rows on their way into an array.

    Rows of one image sequence share reads and decoding.
    """

    def __init__(self, reader: "Reader", owners: Ints, numbers: Ints, pixels_BIHWC: NDArray[np.uint8]) -> None:
        """Begin to read the first images, at most I, of each row.

        owners: the article whose images it shows.  numbers: of the image sequence, negative for none.
        pixels_BIHWC: squares to fill; what lies past a row's images is left alone.
        """
        self._pixels = pixels_BIHWC
        sequences = sorted({number for number in numbers.tolist() if number >= 0})
        self._rows = [np.flatnonzero(numbers == number).tolist() for number in sequences]
        self._files = reader.stored_images([int(owners[rows[0]]) for rows in self._rows], pixels_BIHWC.shape[1])

    def finish(self) -> list[int | str]:
        """Decode what was read; return for each row how many images there are, or what is wrong with one of them."""
        outcomes: list[int | str] = [0] * len(self._pixels)
        for (first, *others), files in zip(self._rows, self._files.finish(), strict=True):
            outcome = self._decode(first, files)
            for row in others:
                self._pixels[row, : len(files)] = self._pixels[first, : len(files)]
            for row in (first, *others):
                outcomes[row] = outcome
        return outcomes

    def _decode(self, row: int, files: Sequence[StoredImage]) -> int | str:
        try:
            for image, file in enumerate(files):
                self._pixels[row, image] = squared(file.picture(), self._pixels.shape[2])
        except UnreadableError as error:
            return str(error)  # not the error, whose traceback would keep the array
        return len(files)
