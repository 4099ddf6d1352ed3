"""Read compressed files of text, and archives of them: gzip, bzip2, xz; tar and zip."""

import bz2
import gzip
import io
import lzma
import os
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, Self, cast

from shards.errors import reason
from shards.problems import Problems
from shards.text.lines import read_lines

#: How the name of an archive ends, in small letters.
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz", ".zip")
#: What a compressed file begins with, and what opens it. A name may say otherwise.
_COMPRESSIONS: dict[bytes, Callable[[BinaryIO], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}
_BLOCK = 1 << 20


class DamagedFileError(Exception):
    """A compressed file or an archive that cannot be read to its end. The message says why in one line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """A file in an archive: its name there, and what opens its content where that was unpacked."""

    name: str
    size: int
    open: Callable[[], BinaryIO] | None


def is_compressed(file: BinaryIO) -> bool:
    """Return True if a file, open at its beginning, is compressed. It stays at its beginning."""
    return _opener(file) is not None


def decompressed(file: BinaryIO) -> BinaryIO:
    """Return the content of a file as a stream: decompressed where it is compressed, whatever its name says.

    Reading it raises nearly anything where it is damaged: see `damage_of`.
    """
    opener = _opener(file)
    return file if opener is None else cast(BinaryIO, opener(file))


def damage_of(error: Exception) -> str:
    """Say in one line what is wrong with a packed file, by what its reader raised; raise an error of the disk."""
    if isinstance(error, OSError) and error.errno is not None:
        raise error
    return reason(error)


def packed_lines(raw: BinaryIO, name: str, problems: Problems) -> Iterator[tuple[int, int, bytes]]:
    """Yield the lines of a file of text, compressed or not, as `shards.text.lines.read_lines`.

    Counted: "damaged file", behind the last line that can be read.
    """
    number = 0
    why = None
    lines = read_lines(decompressed(raw))
    while True:
        try:
            found = next(lines, None)
        except Exception as error:  # see `decompressed`
            why = damage_of(error)
            break
        if found is None:
            return
        number = found[0]
        yield found
    problems.count("damaged file", f"{name}: behind line {number}: {why}")


class Unpacked:
    """The members of archives, unpacked one behind the other into one file without a name, which ends with the block.

    A tar is read once from beginning to end, and its members may then be read in any order.
    """

    def __init__(self, directory: Path) -> None:
        """directory: on a disk with room for what is unpacked."""
        self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def members(self, path: Path, wanted: Callable[[str], bool]) -> Iterator[Member]:
        """Yield the files in an archive; those that are `wanted`, by their names, can be opened.

        Raises: DamagedFileError behind the last member that could be read; that one may be cut off.
        """
        members = _members(path)
        why = None
        while why is None:
            try:
                found = next(members, None)
            except Exception as error:  # tarfile, zipfile and the decompressors raise nearly anything for damage
                why = damage_of(error)
                continue
            if found is None:
                return
            name, file = found
            begin = size = 0
            if file is not None and wanted(name):
                begin = self._file.seek(0, os.SEEK_END)
                try:
                    while block := file.read(_BLOCK):
                        self._file.write(block)
                        size += len(block)
                except Exception as error:  # as above
                    why = damage_of(error)
                self._file.flush()
                yield Member(name=name, size=size, open=self._opener(begin, size))
            else:
                yield Member(name=name, size=0, open=None)
        raise DamagedFileError(why)

    def _opener(self, begin: int, size: int) -> Callable[[], BinaryIO]:
        return lambda: cast(BinaryIO, io.BufferedReader(_Section(self._file.fileno(), begin, size)))


class _Section(io.RawIOBase):
    """Some bytes of an open file, as a file of their own."""

    def __init__(self, handle: int, begin: int, size: int) -> None:
        super().__init__()
        self._handle, self._begin, self._size, self._at = handle, begin, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = max(0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        data = os.pread(self._handle, max(0, min(len(buffer), self._size - self._at)), self._begin + self._at)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def _opener(file: BinaryIO) -> Callable[[BinaryIO], Any] | None:
    head = file.read(8)
    file.seek(0)
    return next((opener for magic, opener in _COMPRESSIONS.items() if head.startswith(magic)), None)


class _Header(tarfile.TarInfo):
    """A member's header. tarfile takes a broken one, or the lack of an end, for the end of the archive."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(archive)
        except tarfile.HeaderError as error:
            if type(error).__name__ == "EOFHeaderError":  # the end, by a name that tarfile keeps for itself
                raise
            raise tarfile.ReadError(f"{error}, where a member or the end should be") from error


def _members(path: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    """Yield the files in an archive, by name, open until the next one; None for a link or a device."""
    if path.name.lower().endswith(".zip"):
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if not info.is_dir():
                    with archive.open(info) as member:
                        yield info.filename, member
        return
    with open(path, "rb") as file:
        content = decompressed(file)
        # A compressed one is read through; in another one what is not wanted, which may be gigabytes, is skipped.
        with tarfile.open(fileobj=content, mode="r:" if content is file else "r|", tarinfo=_Header) as tar:
            while (header := tar.next()) is not None:
                if not header.isdir():
                    yield header.name, tar.extractfile(header) if header.isreg() else None
                tar.members.clear()  # type: ignore[attr-defined]  # else it keeps them, to read in any order
        while content.read(_BLOCK):  # to the end, where checksums are
            pass
