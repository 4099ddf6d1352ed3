"""Opening files that a person names: never a pipe, a device or a directory by mistake."""

import os
import stat
from pathlib import Path
from typing import BinaryIO

#: What stands for an open pipe of this process: `<(command)` in a shell, and standard input by name.
_OWN_PIPES = ("/dev/fd/", "/proc/self/fd/", "/dev/stdin")


def open_input(path: Path, *, pipes: bool = False) -> BinaryIO:
    """Open a regular file for reading, in binary. Never blocks, as opening a FIFO would until somebody writes to it.

    pipes: a pipe that this process was started with is taken as well, such as `<(command)` in a shell.

    Raises: OSError, whose `strerror` says why; also for what is not a regular file.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(handle).st_mode
    if pipes and stat.S_ISFIFO(mode) and str(path).startswith(_OWN_PIPES):
        os.set_blocking(handle, True)
    elif not stat.S_ISREG(mode):
        os.close(handle)
        raise OSError(0, f"it is {_kind(mode)}, not a file", str(path))
    return open(handle, "rb")


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a directory"
    return "a pipe" if stat.S_ISFIFO(mode) else "a device"
