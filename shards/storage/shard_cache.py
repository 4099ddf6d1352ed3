"""Keep whole shards of a URL in a directory of the host, bounded in bytes and shared by its ranks.

A directory of the cache holds, for each corpus by its content hash,
    <shard>.shard      a whole shard; its modification time is that of its last read
    <shard>.partial    one that is being downloaded, of its full length from the start on: so it is counted
    <shard>.lock       held while it is downloaded or removed; how many bytes of the partial one are there
and at the top `.lock`, held while room is made. Everything else that lies there is neither counted nor removed.
"""

import os
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

from shards.errors import InputError
from shards.files.lock import locked
from shards.files.trust import check_owned, own_directory
from shards.files.write import is_regular
from shards.storage.reads import fill
from shards.storage.remote import RemoteStorage, patiently

_WHOLE, _PARTIAL, _LOCK = ".shard", ".partial", ".lock"
#: The directory of a corpus: its content hash.
_CORPUS = re.compile(r"[0-9a-f]{64}")
#: How long to wait, in seconds, where the room is taken by downloads that are under way.
_POLL = 0.05


class CachedStorage:
    """Reads shards from a local copy, which is downloaded whole on its first read. Threads may share it.

    The least recently read copies are removed when `max_bytes` would be passed. Shards are opened for one read
    each: the disk space of a copy that was removed is free as soon as the reads under way end, in all ranks.
    """

    def __init__(
        self, remote: RemoteStorage, directory: Path, *, max_bytes: int, corpus: str, sizes: Mapping[str, int]
    ) -> None:
        """`corpus`: its content hash. `sizes`: bytes of every shard. max_bytes is of all corpora in `directory`.

        Raises `InputError` where a shard does not fit, and where the directory cannot be written or another user may
        have filled it.
        """
        largest = max(sizes.values(), default=0)
        if max_bytes < largest:
            raise InputError(
                f"the largest shard has {largest} bytes and the cache may hold {max_bytes}: "
                "set loader.cache_bytes to a multiple of the first, or unset loader.cache"
            )
        self._remote = remote
        self._root = directory
        self._directory = directory / corpus
        self._max_bytes = max_bytes
        self._sizes = sizes
        self._forgotten: set[str] = set()
        self._lock = threading.Lock()
        with self._writing():
            own_directory(self._directory)
            check_owned(self._root / _LOCK)
            with locked(self._root / _LOCK):  # fail before the first step, and not at a shard
                pass

    def readv(self, name: str, parts: Sequence[memoryview], offset: int) -> int:
        """Read as `Storage.readv`. `InputError` where the directory cannot be written: a full disk, mostly."""
        handle = self._open(name)
        if handle is None:
            handle = self._download(name)
        try:
            return fill(handle, parts, offset)
        finally:
            os.close(handle)

    def forget(self, name: str) -> None:
        """Drop the copy of `name`, which may be damaged; the next read downloads it.

        Once a shard: what is wrong again is wrong at its source, and not worth a download at every read.
        """
        with self._lock:
            known = name in self._forgotten
            self._forgotten.add(name)
        if not known:
            self._path(name, _WHOLE).unlink(missing_ok=True)

    def close(self) -> None:
        self._remote.close()

    def _path(self, name: str, kind: str) -> Path:
        return self._directory / f"{name}{kind}"

    def _open(self, name: str) -> int | None:
        """Return the copy of `name`, marked as read now; None when there is no whole one."""
        try:
            handle = os.open(self._path(name, _WHOLE), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            if os.fstat(handle).st_size == self._sizes[name]:
                os.utime(handle)
                return handle
        except BaseException:  # raised again: Ctrl-C, too, must leave no open handle
            os.close(handle)
            raise
        os.close(handle)
        self._path(name, _WHOLE).unlink(missing_ok=True)
        return None

    def _download(self, name: str) -> int:
        """Download `name`, unless another has meanwhile; an open handle of it, which eviction cannot take."""
        with ExitStack() as stack:
            with self._writing():
                own_directory(self._directory)  # it may have been cleaned away
                stack.enter_context(locked(self._path(name, _LOCK)))
            handle = self._open(name)
            return self._fetch(name) if handle is None else handle

    def _fetch(self, name: str) -> int:
        """Download `name`, whose lock is held, from where a download broke off, which may be one of another process.

        Not synced: what a power cut leaves fails its size or checksum.
        """
        path, size = self._path(name, _PARTIAL), self._sizes[name]
        with self._writing():
            handle, done = self._reserve(name)
        try:
            while done < size:
                piece = patiently(partial(self._remote.piece, name, done, size))
                with self._writing():
                    _write(handle, piece, done)
                    done += len(piece)
                    self._path(name, _LOCK).write_text(str(done))
            # Not while another adds up what there is.
            with self._writing(), locked(self._root / _LOCK):
                os.replace(path, self._path(name, _WHOLE))
        except BaseException as error:  # raised again; Ctrl-C, too, leaves what the next download goes on from
            os.close(handle)
            if not done or isinstance(error, InputError):  # nothing to go on from, or the disk is full
                path.unlink(missing_ok=True)
            raise
        return handle

    def _reserve(self, name: str) -> tuple[int, int]:
        """Return the partial copy of `name`, open, and its bytes so far.

        It is made when there is room for all of it: others count it from then on.
        """
        path, size = self._path(name, _PARTIAL), self._sizes[name]
        with suppress(FileNotFoundError, ValueError):
            done = int(self._path(name, _LOCK).read_text())
            if path.stat().st_size == size and 0 < done <= size:
                return os.open(path, os.O_RDWR | os.O_CLOEXEC), done
        path.unlink(missing_ok=True)
        self._path(name, _LOCK).write_text("0")  # before there is a partial one that it would be wrong of
        while True:
            with locked(self._root / _LOCK):
                if self._make_room(size):
                    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
                    try:
                        os.truncate(handle, size)
                    except BaseException:  # raised again: nothing may count a file that has not its size
                        os.close(handle)
                        path.unlink(missing_ok=True)
                        raise
                    return handle, 0
            time.sleep(_POLL)

    def _make_room(self, size: int) -> bool:
        """Remove what was read longest ago until `size` bytes fit; False while downloads hold the room."""
        files = []
        for path in self._root.glob("*/*"):
            if path.suffix in (_WHOLE, _PARTIAL) and _is_ours(path):
                with suppress(FileNotFoundError):  # it was forgotten, or its download failed
                    status = path.stat()
                    files.append((path.suffix == _WHOLE, status.st_mtime_ns, status.st_size, path))
        total = sum(found for _, _, found, _ in files)
        for _, _, found, path in sorted(files):  # what is left of broken downloads comes first
            if total + size <= self._max_bytes:
                break
            # One whose lock is held is being downloaded, or was this moment and its first read is still to come.
            with suppress(FileNotFoundError), locked(path.with_suffix(_LOCK), wait=False) as held:
                if held:
                    path.unlink()
                    total -= found
        return total + size <= self._max_bytes

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Make an `InputError` of what fails in the block: to read without the copy would be a slow surprise."""
        try:
            yield
        except OSError as error:
            raise InputError(
                f"cannot write the shard cache {self._root} ({error.strerror or error}): free space there, lower "
                "loader.cache_bytes, or point loader.cache at another directory"
            ) from error


def _is_ours(path: Path) -> bool:
    """Return True for a file that a cache has made: in a corpus' directory, with the lock that it had to take first."""
    return (
        _CORPUS.fullmatch(path.parent.name) is not None
        and not path.parent.is_symlink()
        and is_regular(path)
        and is_regular(path.with_suffix(_LOCK))
    )


def _write(handle: int, data: bytes, offset: int) -> None:
    rest = memoryview(data)
    while rest:
        written = os.pwrite(handle, rest, offset)
        rest, offset = rest[written:], offset + written
