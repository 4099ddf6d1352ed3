"""Make and check directories that no other user can have prepared, for caches and the code loaded from them.

In a directory that everybody may write, like /tmp, anybody may put a directory or a link of the name that we are about
to use. What is found there counts only if it belongs to this user or to root and nobody else may write it.
"""

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

_FOR_ALL = stat.S_IWOTH
_FOR_OTHERS = stat.S_IWGRP | stat.S_IWOTH
#: As many links as Linux follows in one path.
MOST_LINKS = 40


def own_directory(path: Path) -> None:
    """Make the directory `path` where it is missing, with mode 700 where everybody may write beside it.

    Raises: PermissionError for a directory that another user may have put there, or that everybody may write; `OSError`
        where it cannot be made.
    """
    path = path.absolute()
    check_owned(path)  # before anything is made in it
    for part in [*reversed(path.parents), path]:
        if not os.path.lexists(part):
            mode = 0o700 if is_open(part.parent) else 0o777 & ~_FOR_ALL
            with suppress(FileExistsError):  # another rank has made it just now
                part.mkdir(mode=mode)
    check_owned(path)
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    if is_open(path):
        raise PermissionError(errno.EPERM, "everybody may write it: chmod go-w it", str(path))


def check_owned(path: Path) -> None:
    """Raise `PermissionError` where another user may have put `path`, a directory above it, or a link on the way.

    Below a directory like /tmp also for a directory that others may write, unless it is one like /tmp itself.
    """
    _check(path.absolute(), MOST_LINKS)


def _check(path: Path, links: int) -> None:
    if not links:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    for part in [*reversed(path.parents), path]:
        try:
            status = os.lstat(part)
        except FileNotFoundError:
            return
        if is_open(part.parent):
            if status.st_uid not in (os.geteuid(), 0):
                raise PermissionError(
                    errno.EPERM, "it belongs to another user, in a directory that everybody may write", str(part)
                )
            is_shared = stat.S_ISDIR(status.st_mode) and status.st_mode & _FOR_OTHERS
            if is_shared and not status.st_mode & stat.S_ISVTX:
                raise PermissionError(errno.EPERM, "others may write it: chmod go-w it", str(part))
        if stat.S_ISLNK(status.st_mode):
            _check(part.parent / os.readlink(part), links - 1)


def is_open(directory: Path) -> bool:
    """Return True for a directory in which everybody may make files."""
    return bool(directory.stat().st_mode & _FOR_ALL)
