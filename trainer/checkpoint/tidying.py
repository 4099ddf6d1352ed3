"""Remove what this program wrote among the checkpoints, and nothing else.

Ours is a real directory with exactly a name of ours; of a finished checkpoint, moreover, every entry is one that its
manifest lists, or has one of the names below. Links are never followed. What is not ours stays; where its name is
needed, it gets another. What cannot be tidied is returned as a line to say, because no save may fail for it.
"""

import contextlib
import fcntl
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from shards.errors import InputError
from shards.files.read import read_json
from shards.files.write import is_regular, write_atomically
from trainer.checkpoint.directory import MANIFEST

_NAMES = r"state-\d+-of-\d+\.safetensors|tensors\.json|state\.json|recipe\.yaml|ds_config\.json|corpus\.json"
_OURS = re.compile(rf"({_NAMES}|manifest\.json)(\.[0-9a-f]{{16}}\.partial)?")

_MARKER = re.compile(rb"(step-\d+)?\s*")


def stranger(path: Path) -> str | None:
    """Say why what has the name `path` is not ours; None where it is, or where nothing has it."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    if stat.S_ISLNK(mode):
        return "it is a link"
    return None if stat.S_ISDIR(mode) else "it is no directory"


def strange_checkpoint(path: Path) -> str | None:
    """Say why the checkpoint `path` is not to be removed as a whole; None where it is, or where there is none."""
    why = stranger(path)
    if why is not None or not os.path.lexists(path):
        return why
    listed = _listed(path)
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                ours = entry.name in listed or _OURS.fullmatch(entry.name)
                if not ours or not entry.is_file(follow_symlinks=False):
                    return f"{entry.name!r} in it is no file of a checkpoint"
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    return None


def remove(path: Path) -> str | None:
    """Remove a directory of ours; None once it has gone, else why it stays, as a line to say."""
    why = stranger(path)
    if why is not None:
        return f"{path} is left where it is: {why}"
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"{path} cannot be removed: {error.strerror}"
    return None


@contextlib.contextmanager
def reading(checkpoint: Path) -> Iterator[None]:
    """Keep a training that goes on from dropping `checkpoint` in the block: it does so later.

    Raises `InputError` where it has just done so. Does nothing where the file system has no locks.
    """
    gone = InputError(f"{checkpoint} was dropped by its training a moment ago: the same command takes another")
    try:
        handle = os.open(checkpoint, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise gone from error
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if not (checkpoint / MANIFEST).is_file():
            raise gone
        yield
    finally:
        os.close(handle)


def is_being_read(checkpoint: Path) -> bool:
    """Return True while another process or thread is in `reading` of it."""
    try:
        handle = os.open(checkpoint, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no locks, or none on a directory, as over NFS
        return False
    finally:
        os.close(handle)
    return False


def set_aside(path: Path) -> str:
    """Give what is not ours another name, because its own is needed; the line to say. Raises `OSError`."""
    why = strange_checkpoint(path)
    number = 1
    while os.path.lexists(aside := path.with_name(f"{path.name}.set-aside{f'-{number}' if number > 1 else ''}")):
        number += 1
    os.rename(path, aside)
    return f"{path} was in the way and is now {aside.name}: {why or 'it could not be removed'}"


def clear(path: Path) -> list[str]:
    """Have the name `path` free: what is ours is removed, what is not is set aside. The lines to say."""
    if not os.path.lexists(path):
        return []
    return [] if remove(path) is None else [set_aside(path)]


def point(marker: Path, name: str) -> list[str]:
    """Write a checkpoint's name into a file like `latest`; the lines to say where that cannot be."""
    if why := _no_marker(marker):
        return [why]
    try:
        write_atomically(marker, f"{name}\n".encode())
    except (OSError, InputError) as error:
        return [f"{marker} could not be written: {error}"]
    return []


def unpoint(marker: Path) -> list[str]:
    """Remove such a file; the lines to say where that cannot be."""
    if not os.path.lexists(marker):
        return []
    if why := _no_marker(marker):
        return [why]
    try:
        marker.unlink(missing_ok=True)
    except OSError as error:
        return [f"{marker} cannot be removed: {error.strerror}"]
    return []


def _no_marker(marker: Path) -> str | None:
    """Say why what has a marker's name is not ours; None where it is, or where nothing has it."""
    try:
        if not stat.S_ISREG(marker.lstat().st_mode):
            return f"{marker} is left as it is: it is no regular file"
        with open(marker, "rb") as file:
            ours = _MARKER.fullmatch(file.read(100))
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"{marker} cannot be read: {error.strerror}"
    return None if ours else f"{marker} is left as it is: it names no checkpoint"


def _listed(directory: Path) -> frozenset[str]:
    """The names in a manifest; none where there is none, or where it cannot be read."""
    manifest = directory / MANIFEST
    try:
        files = read_json(manifest) if is_regular(manifest) else None
    except (OSError, ValueError):
        return frozenset()
    return frozenset(files) if isinstance(files, dict) else frozenset()
