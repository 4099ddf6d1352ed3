"""Read named shards at any offset. One attempt each; the reader retries."""

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol


class Storage(Protocol):
    """Shards by name, readable at any offset by several threads at once."""

    def readv(self, name: str, parts: Sequence[memoryview], offset: int) -> int:
        """Fill `parts` one after the other from `offset` of `name` on; return the bytes read.

        Fewer than asked for only at the end of the file. Raises `OSError` for what may pass if tried again.
        """
        ...

    def forget(self, name: str) -> None:
        """Drop what is kept of `name`, a handle or a copy, because its bytes were wrong: the next read starts anew."""
        ...

    def close(self) -> None: ...


class LocalStorage:
    """A directory. At most `max_open_files` files are kept open; the one that was read longest ago is closed first."""

    def __init__(self, directory: Path, max_open_files: int = 256) -> None:
        assert max_open_files > 0
        self._directory = directory
        self._limit = max_open_files
        self._files: OrderedDict[str, _OpenFile] = OrderedDict()
        self._lock = threading.Lock()

    def readv(self, name: str, parts: Sequence[memoryview], offset: int) -> int:
        file = self._acquire(name)
        try:
            return fill(file.handle, parts, offset)
        finally:
            self._release(file)

    def forget(self, name: str) -> None:
        """Close `name` when its reads have ended, so that a file put in its place is opened."""
        with self._lock:
            file = self._files.pop(name, None)
        if file is not None:
            self._retire(file)

    def close(self) -> None:
        """Close every file. Reads that are under way end first."""
        with self._lock:
            files = list(self._files.values())
            self._files.clear()
        for file in files:
            self._retire(file)

    def _acquire(self, name: str) -> "_OpenFile":
        retired = []
        with self._lock:
            file = self._files.get(name)
            if file is None:
                file = _OpenFile(os.open(self._directory / name, os.O_RDONLY | os.O_CLOEXEC))
                self._files[name] = file
                while len(self._files) > self._limit:
                    retired.append(self._files.popitem(last=False)[1])
            else:
                self._files.move_to_end(name)
            file.readers += 1
        for old in retired:
            self._retire(old)
        return file

    def _release(self, file: "_OpenFile") -> None:
        with self._lock:
            file.readers -= 1
            done = file.retired and not file.readers
        if done:
            os.close(file.handle)

    def _retire(self, file: "_OpenFile") -> None:
        """Close the file, now or when its last reader is done."""
        with self._lock:
            file.retired = True
            done = not file.readers
        if done:
            os.close(file.handle)


class _OpenFile:
    __slots__ = ("handle", "readers", "retired")

    def __init__(self, handle: int) -> None:
        self.handle, self.readers, self.retired = handle, 0, False


def fill(handle: int, parts: Sequence[memoryview], offset: int) -> int:
    """Fill `parts` from `offset` of an open file on; fewer bytes than asked for only at the file's end."""
    total = os.preadv(handle, parts, offset)
    waiting, got = list(parts), total
    while got:
        while waiting and got >= len(waiting[0]):
            got -= len(waiting.pop(0))
        if not waiting:
            break
        waiting[0] = waiting[0][got:]
        got = os.preadv(handle, waiting, offset + total)
        total += got
    return total
