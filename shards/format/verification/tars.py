"""Read a tar without the index: by its headers, as stock webdataset does, and the arrays in it."""

import io
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.errors import reason
from shards.files.checksum import crc32c
from shards.format.records import NPY_HEADER

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Walk:
    """Hold a tar's own headers: data offset -> (name, bytes). problem: why they end before the file does."""

    members: dict[int, tuple[str, int]]
    end: int  # no header behind this byte was read
    problem: str | None


def walk_tar(path: Path) -> Walk:
    """Read all headers of a tar, and check that it ends in nothing but zeros, two blocks at least."""
    members: dict[int, tuple[str, int]] = {}
    end = 0
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if not member.isreg():
                    return Walk(members, end, f"{member.name} is not a plain file")
                members[member.offset_data] = (member.name, member.size)
                end = member.offset_data + member.size
    except (tarfile.TarError, ValueError, OverflowError) as error:  # what damaged numbers and names come to
        return Walk(members, end, f"is not a whole tar: {error}, behind byte {end}")
    end = -(-end // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    zeros = 0
    for chunk in _chunks(path, end):
        if chunk.strip(b"\0"):
            return Walk(members, end, f"the header at byte {end} is damaged: no name behind it could be read")
        zeros += len(chunk)
    if zeros < 2 * tarfile.BLOCKSIZE:
        return Walk(members, end, f"is cut off at byte {end + zeros}: the end mark of a tar is missing")
    return Walk(members, end + zeros, None)


def _chunks(path: Path, begin: int) -> Iterator[bytes]:
    with open(path, "rb") as file:
        file.seek(begin)
        while chunk := file.read(_CHUNK):
            yield chunk


def parse_array(content: bytes, dtype: np.dtype[Any]) -> tuple[NDArray[Any] | None, str | None]:
    """Return the array in a .npy file as the reader takes it, (images, regions, width); or None, and the reason."""
    file = io.BytesIO(content)
    try:
        if np.lib.format.read_magic(file) != (1, 0):
            return None, "is not of version 1.0 of .npy"
        shape, fortran, found = np.lib.format.read_array_header_1_0(file)
    except Exception as error:  # numpy reads a header as Python's own syntax, and raises nearly anything
        return None, f"is not an array ({reason(error)})"
    if found != dtype:
        return None, f"is {found}, not {dtype}"
    if fortran and len(shape) > 1:
        return None, "lies in Fortran order"
    header = file.tell()
    if header != NPY_HEADER or len(content) - header != dtype.itemsize * int(np.prod(shape)) or len(shape) != 3:
        return None, f"{len(content):,} bytes with a header of {header} do not hold an array of {shape}"
    return np.frombuffer(content, dtype, offset=header).reshape(shape), None


def webdataset_problem(path: Path, keys: Sequence[str], crc_of: Mapping[str, int]) -> str | None:
    """Read a tar as stock webdataset does; return the first difference from the index, None where they agree.

    keys: of the samples, in order.  crc_of: name of a member -> CRC32C of its data.
    """
    waiting, members = iter(keys), 0
    with open(path, "rb") as stream:
        for sample in _webdataset_reader()([{"url": path.name, "stream": stream}]):
            key = next(waiting, None)
            if sample["__key__"] != key:
                return f"webdataset reads the sample {sample['__key__']} where the index has {key}"
            for suffix, content in sample.items():
                if not suffix.startswith("__"):
                    members += 1
                    if crc32c(content) != crc_of.get(f"{key}.{suffix}"):
                        return f"webdataset reads other bytes of {key}.{suffix} than the index has"
    missing = next(waiting, None)
    if missing is not None:
        return f"webdataset reads no sample {missing}, which the index has"
    if members != len(crc_of):
        return f"webdataset reads {members:,} members, the index has {len(crc_of):,}"
    return None


@cache
def _webdataset_reader() -> Callable[[list[dict[str, Any]]], Iterator[dict[str, Any]]]:
    """Return webdataset's iteration over the samples of opened tars, imported without torch.

    webdataset has classes of its own for where torch is not installed, and its readers need none of torch's, whose
    import takes longer than to check a small corpus. Nothing of that copy stays among the modules: who imports
    webdataset after this gets it with torch.
    """
    absent = not sys.modules.keys() & {"torch", "webdataset"}
    if absent:
        sys.modules["torch"] = None  # type: ignore[assignment]  # Python's way to say that it cannot be imported
    try:
        from webdataset.tariterators import group_by_keys, tar_file_expander
    finally:
        if absent:
            del sys.modules["torch"]
            for name in [name for name in sys.modules if name.partition(".")[0] == "webdataset"]:
                del sys.modules[name]
    return lambda sources: group_by_keys(tar_file_expander(sources))
