"""Write files that are whole or not there, and only where a regular file belongs.

Every file of the project is written through `whole_file`, so that a device, a pipe or a link is never replaced by it.
"""

import errno
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from shards.errors import InputError
from shards.files.read import not_regular
from shards.files.trust import MOST_LINKS, is_open

#: Names of more bytes than this leave no room for the rest of a partial file's name in 255.
_LONGEST_STEM = 200
#: Kinds of files that commands write for people, which no run or corpus consists of.
_WRITTEN = frozenset({".html", ".htm", ".md", ".tex"})
_PARTIAL = re.compile(r"(.+)\.[0-9a-f]{16}\.partial", re.DOTALL)


def destination(path: Path) -> Path:
    """Return the regular file that `path` means, links resolved; it may still be missing, its directory may not.

    Raises: OSError for everything that is not to be replaced: a device, FIFO, socket or directory, also behind a link;
        an open file of a process, like /dev/stdout, whatever it is; and what another user's link in a directory like
        /tmp names.
    """
    current = path
    for _ in range(MOST_LINKS):
        parent = Path(os.path.realpath(current.parent))
        if not parent.exists():
            raise FileNotFoundError(errno.ENOENT, f"there is no directory {parent}", str(path))
        if parent.parts[:2] == ("/", "proc"):
            raise OSError(errno.EINVAL, "it stands for an open file, like standard output", str(path))
        current = parent / current.name
        try:
            status = os.lstat(current)
        except FileNotFoundError:
            return current
        if stat.S_ISREG(status.st_mode):
            return current
        if not stat.S_ISLNK(status.st_mode):
            raise not_regular(status.st_mode, path)
        if is_open(parent) and status.st_uid not in (os.geteuid(), 0):
            raise PermissionError(errno.EPERM, f"{current} is a link of another user's", str(path))
        current = parent / os.readlink(current)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a file to write that takes the name `path` at the end of the block, synced, also after a power cut.

    Where the block raises, `path` is what it was before. A link stays, and the file that it names is replaced. A file
    that is replaced passes its permissions on. Raises `OSError` as `destination` does.
    """
    final = destination(path)
    partial = partial_file(final)
    try:
        with open(partial, "x+b") as file:
            yield file
            file.flush()
            _take_permissions(file.fileno(), final)
            os.fsync(file.fileno())
        os.replace(partial, final)
    finally:
        partial.unlink(missing_ok=True)


def _take_permissions(handle: int, replaced: Path) -> None:
    """Give the open file the mode of the one that it replaces, and its owner where this user may."""
    try:
        of, made = os.stat(replaced), os.fstat(handle)
    except FileNotFoundError:
        return
    if of.st_uid != made.st_uid and is_open(replaced.parent):
        return  # another user may have put it there to get at what is written
    if (made.st_uid, made.st_gid) != (of.st_uid, of.st_gid):
        with suppress(PermissionError):  # only root may give files away
            os.fchown(handle, of.st_uid, of.st_gid)
    os.fchmod(handle, stat.S_IMODE(of.st_mode) & 0o777)


def partial_file(path: Path) -> Path:
    """Return a new name beside `path`, to write to before it takes that name.

    A name of its own: several may write the same file, on several hosts too, and the last one wins whole.
    """
    stem = path.name if len(os.fsencode(path.name)) <= _LONGEST_STEM else "long-name"
    return path.with_name(f"{stem}.{secrets.token_hex(8)}.partial")


def left_overs(directory: Path, names: re.Pattern[str]) -> Iterator[Path]:
    """Yield what killed writers of files that `names` matches left in `directory`, and nothing else."""
    for path in directory.iterdir():
        found = _PARTIAL.fullmatch(path.name)
        if found and names.fullmatch(found[1]) and is_regular(path):
            yield path


def is_regular(path: Path) -> bool:
    """Return True for a regular file; False for a link, whatever it names, and for what is missing."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def is_directory(path: Path) -> bool:
    """Return True for a directory; False for a link, whatever it names, and for what is missing."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader sees all of it or nothing. Raises `OSError` as `whole_file` does."""
    with whole_file(path) as file:
        file.write(data)


def write_output(path: Path, text: str, instead: str = "name another file") -> None:
    """Write the text that a person asked for to `path`, whole or not at all.

    instead: what the message proposes. Raises `InputError` where `path` is no regular file or cannot be written.
    """
    try:
        write_atomically(path, text.encode())
    except OSError as error:
        raise _unwritable(path, error, instead) from error


def check_output(path: Path | None, instead: str = "name another file", *, reads: Iterable[Path] = ()) -> None:
    """Raise now the `InputError` with which `write_output` would end after the work; None is written nowhere.

    reads: what the command reads. No such file is replaced, and in such a directory nothing but pages and tables.
    """
    if path is None:
        return
    try:
        real = destination(path)
        if not os.access(real.parent, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, f"nothing can be written in {real.parent}", str(path))
    except OSError as error:
        raise _unwritable(path, error, instead) from error
    for read in reads if real.exists() else ():
        inside = real.is_relative_to(os.path.realpath(read)) and real.suffix.lower() not in _WRITTEN
        if inside or os.path.realpath(read) == str(real):
            raise InputError(f"{path} is {'part of ' * read.is_dir()}what this command reads: {instead}")


def _unwritable(path: Path, error: OSError, instead: str) -> InputError:
    return InputError(f"{path} cannot be written ({error.strerror or error}): {instead}")
