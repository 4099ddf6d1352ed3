"""Lock a file against other processes and threads of the host."""

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: What locking gives where the file system has no locks.
WITHOUT_LOCKS = frozenset({errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK})


@contextmanager
def locked(path: Path, *, wait: bool = True, shared: bool = False, optional: bool = False) -> Iterator[bool]:
    """Hold the lock of the file `path` in the block, alone of all processes and threads. Ends with its process.

    shared: together with others that share it.  optional: go on without it where the file system has no locks.
    Yields True if it is held: without `wait`, False where another holds it. The file stays: removing it would
    let two hold locks of the same name. Raises `OSError` where the file cannot be made or locked, and for a link, a
    FIFO or a device of its name.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file, so no lock", str(path))
        try:
            fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            held = False
        except OSError as error:
            if not optional or error.errno not in WITHOUT_LOCKS:
                raise
            held = True
        else:
            held = True
        yield held
    finally:
        os.close(handle)
