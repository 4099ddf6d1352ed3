"""Read small files that somebody else may have written: never wait, never run out of stack or memory.

`OSError` says that a file cannot be read, `ValueError` that its content is not what it should be.
"""

import errno
import json
import os
import stat
from io import BufferedReader
from pathlib import Path
from typing import Any

#: The largest file that is read into memory whole.
MOST_BYTES = 1 << 30
#: How deeply lists and objects of a JSON document may be nested. Ours need 6; Python's own limit ends in a
#: RecursionError, here or wherever the document is written again.
MOST_LEVELS = 100


def read_regular(path: Path, most: int = MOST_BYTES) -> bytes:
    """Read a regular file whole. Raise `OSError` as `open_regular`, and for a file of more than `most` bytes."""
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > most:
            raise OSError(errno.EFBIG, f"is larger than {most:,} bytes", str(path))
        return file.read()


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file to read. Raise `OSError` for anything else under that name: opening a FIFO would wait for
    its writer for ever."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(handle).st_mode
        if not stat.S_ISREG(mode):
            code = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
            raise OSError(code, "is no regular file", str(path))
        return open(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def parse_json(data: bytes | str) -> Any:
    """Parse JSON. Raise `ValueError` for whatever is none, and for a document nested too deeply to be handled."""
    try:
        value = json.loads(data)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    opened = data.count(b"[") + data.count(b"{") if isinstance(data, bytes) else data.count("[") + data.count("{")
    if opened > MOST_LEVELS:
        _check_levels(value)
    return value


def read_json(path: Path) -> Any:
    """Read a JSON file. Raise `OSError` or `ValueError`."""
    return parse_json(read_regular(path))


def _check_levels(value: Any) -> None:
    level = [value]
    for _ in range(MOST_LEVELS):
        level = [
            child
            for one in level
            if isinstance(one, list | dict)
            for child in (one.values() if isinstance(one, dict) else one)
            if isinstance(child, list | dict)
        ]
        if not level:
            return
    raise ValueError("nested too deeply")
