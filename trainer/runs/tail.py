"""The records of a file that is being written: read once, then only what is new.

The file need not be there yet. A run that goes on puts another file in its place, a line may be half-written or cut.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from shards.errors import InputError
from shards.files.read import open_regular
from trainer.telemetry.metrics import parse_record

#: Bytes before the place of reading that must still be what they were.
_SEEN = 64


class Tail:
    """Hands out every whole line once. `renewed` first, then `lines`, again and again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._place = 0
        self._seen = b""

    def renewed(self) -> bool:
        """Return True if `lines` begins at the beginning: the file is new, another one, shorter, or gone.

        Raises `InputError` where it lies there and cannot be read.
        """
        if self._file is not None and self._goes_on(self._file):
            return False
        was_there = self._file is not None
        self.close()
        try:
            self._file = open_regular(self._path)
        except FileNotFoundError:
            return was_there
        except OSError as error:
            raise InputError(f"{self._path} cannot be read ({error.strerror}): mend its permissions") from error
        return True

    def lines(self) -> Iterator[bytes]:
        """The whole lines that were appended since; one that has no end yet comes later."""
        if self._file is None:
            return
        try:
            self._file.seek(self._place)
            for line in self._file:
                if not line.endswith(b"\n"):
                    return
                self._place += len(line)
                self._seen = line[-_SEEN:]
                yield line
        except OSError:  # a network file system lost it: `renewed` opens it again
            self.close()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file, self._place, self._seen = None, 0, b""

    def _goes_on(self, file: BinaryIO) -> bool:
        """Return True if what lies under the name now is what was read so far, and perhaps more.

        The open file keeps its inode from being given to another one.
        """
        try:
            now, read = os.stat(self._path), os.fstat(file.fileno())
            same = (now.st_dev, now.st_ino) == (read.st_dev, read.st_ino) and now.st_size >= self._place
            return same and os.pread(file.fileno(), len(self._seen), self._place - len(self._seen)) == self._seen
        except OSError:
            return False


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a file as it is now; none where there is no file."""
    tail = Tail(path)
    tail.renewed()
    try:
        yield from (record for line in tail.lines() if (record := parse_record(line)) is not None)
    finally:
        tail.close()
