"""Read the lines of a file that is being written, each once.

The file may not exist yet, a run that goes on replaces it, and its last line may be incomplete.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from shards.errors import InputError
from shards.files.read import open_regular
from trainer.telemetry.metrics import parse_record

#: Bytes before the read position that are compared, so that a replaced file is noticed.
_SEEN = 64


class Tail:
    """A file that grows. Call `renewed`, then `lines`, again and again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._position = 0
        self._seen = b""

    def renewed(self) -> bool:
        """Return True if `lines` starts from the beginning: the file is new, another one, shorter, or gone.

        Raises `InputError` where it exists and cannot be read.
        """
        if self._file is not None and self._has_grown(self._file):
            return False
        was_open = self._file is not None
        self.close()
        try:
            self._file = open_regular(self._path)
        except FileNotFoundError:
            return was_open
        except OSError as error:
            raise InputError(f"{self._path} cannot be read ({error.strerror}): mend its permissions") from error
        return True

    def lines(self) -> Iterator[bytes]:
        """Yield the whole lines that were appended since the last call."""
        if self._file is None:
            return
        try:
            self._file.seek(self._position)
            for line in self._file:
                if not line.endswith(b"\n"):
                    return
                self._position += len(line)
                self._seen = line[-_SEEN:]
                yield line
        except OSError:  # a network file system lost it: `renewed` opens it again
            self.close()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file, self._position, self._seen = None, 0, b""

    def _has_grown(self, file: BinaryIO) -> bool:
        """Return True if the file of that name holds what was read so far, and perhaps more.

        The open file keeps its inode from being reused.
        """
        try:
            now, read = os.stat(self._path), os.fstat(file.fileno())
            same = (now.st_dev, now.st_ino) == (read.st_dev, read.st_ino) and now.st_size >= self._position
            return same and os.pread(file.fileno(), len(self._seen), self._position - len(self._seen)) == self._seen
        except OSError:
            return False


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a file as it is now; none where there is no file."""
    tail = Tail(path)
    tail.renewed()
    try:
        yield from (record for line in tail.lines() if (record := parse_record(line)) is not None)
    finally:
        tail.close()
