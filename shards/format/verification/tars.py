"""Walk a tar and parse its members, without the index."""

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.errors import reason
from shards.format.index import DAMAGED_ARRAY, NPY_HEADER

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Walk:
    """The tar's own headers: data offset -> (name, bytes). problem: why they end before the file does."""

    members: dict[int, tuple[str, int]]
    end: int  # no header behind this byte was read
    problem: str | None


def walk_tar(path: Path) -> Walk:
    """All headers of the tar, and whether it ends as a tar does: with nothing but zeros, two blocks at least."""
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
    """The array in a .npy file as the reader takes it: from its end, as it lies there. Or None, and why."""
    file = io.BytesIO(content)
    try:
        if np.lib.format.read_magic(file) != (1, 0):
            return None, "is not of version 1.0 of .npy"
        shape, fortran, found = np.lib.format.read_array_header_1_0(file)
    except DAMAGED_ARRAY as error:
        return None, f"is not an array ({reason(error)})"
    if found != dtype:
        return None, f"is {found}, not {dtype}"
    if fortran and len(shape) > 1:
        return None, "lies in Fortran order"
    header = file.tell()
    if header != NPY_HEADER or len(content) - header != dtype.itemsize * int(np.prod(shape)) or len(shape) != 3:
        return None, f"{len(content):,} bytes with a header of {header} do not hold an array of {shape}"
    return np.frombuffer(content, dtype, offset=header).reshape(shape), None
