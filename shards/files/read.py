"""Read files of others safely: never wait, never run out of stack or memory.

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
#: What stands for an open pipe of this process: `<(command)` in a shell, and standard input by name.
_OWN_PIPES = ("/dev/fd/", "/proc/self/fd/", "/dev/stdin")
_KINDS = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a directory"}


def read_regular(path: Path, most: int = MOST_BYTES) -> bytes:
    """Read a regular file whole. Raise `OSError` as `open_regular`, and for a file of more than `most` bytes."""
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > most:
            raise OSError(errno.EFBIG, f"is larger than {most:,} bytes", str(path))
        return file.read()


def open_regular(path: Path, *, pipes: bool = False) -> BufferedReader:
    """Open a regular file to read. Never wait, as opening a FIFO would for its writer.

    pipes: take a pipe that this process was started with as well, such as `<(command)` in a shell.

    Raise `OSError` for anything else under that name; its `strerror` says what it is.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(handle).st_mode
        if pipes and stat.S_ISFIFO(mode) and str(path).startswith(_OWN_PIPES):
            os.set_blocking(handle, True)
        elif not stat.S_ISREG(mode):
            raise not_regular(mode, path)
        return open(handle, "rb")
    except BaseException:  # raised again: Ctrl-C, too, must leave no open handle
        os.close(handle)
        raise


def not_regular(mode: int, path: Path) -> OSError:
    """Return the error that says what `path`, of this mode, is instead of a regular file."""
    code = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
    return OSError(code, f"it is {_KINDS.get(stat.S_IFMT(mode), 'a device')}, not a regular file", str(path))


class RepeatedKeyError(ValueError):
    """A key that comes twice in an object of JSON."""


def without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON, as a hook. Raises `RepeatedKeyError` for a key that comes twice: one would be lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise RepeatedKeyError(f"{twice!r} comes twice")
    return found


def parse_json(data: bytes | str, levels: int = MOST_LEVELS, **hooks: Any) -> Any:
    """Parse JSON. Raise `ValueError` for whatever is none, and for a document with more than so many levels.

    hooks: as of `json.loads`.
    """
    try:
        value = json.loads(data, **hooks)
    except RecursionError as error:
        raise _too_deep(levels) from error
    opened = data.count(b"[") + data.count(b"{") if isinstance(data, bytes) else data.count("[") + data.count("{")
    if opened > levels:
        _check_levels(value, levels)
    return value


def read_json(path: Path) -> Any:
    """Read a JSON file. Raise `OSError` or `ValueError`."""
    return parse_json(read_regular(path))


def _check_levels(value: Any, levels: int) -> None:
    level = [value]
    for _ in range(levels):
        level = [
            child
            for one in level
            if isinstance(one, list | dict)
            for child in (one.values() if isinstance(one, dict) else one)
            if isinstance(child, list | dict)
        ]
        if not level:
            return
    raise _too_deep(levels)


def _too_deep(levels: int) -> ValueError:
    return ValueError(f"nested too deeply, deeper than {levels} levels")
