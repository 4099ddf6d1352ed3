"""Remove files of this program among the checkpoints, and nothing else.

A directory is the program's if it is real, has exactly one of the program's names and, where it is a finished
checkpoint, holds only files that its manifest lists or that have one of the names below. Links are never followed.
Everything else stays; where its name is needed, it is renamed. No save may fail for it, so the functions return notes
for the log.
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

_TEXTS = r"tensors\.json|state\.json|recipe\.yaml|ds_config\.json|corpus\.json|references\.json"
_NAMES = rf"state-\d+-of-\d+\.safetensors|{_TEXTS}"
_OURS = re.compile(rf"({_NAMES}|manifest\.json)(\.[0-9a-f]{{16}}\.partial)?")

_MARKER = re.compile(rb"(step-\d+)?\s*")


def _stranger(path: Path) -> str | None:
    """Return why `path` is not the program's; None where it is, or does not exist."""
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
    """Return why the checkpoint `path` must not be removed as a whole; None where it may, or does not exist."""
    why = _stranger(path)
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


def remove(path: Path) -> list[str]:
    """Remove a directory of the program; return a note where it stays."""
    why = _stranger(path)
    if why is not None:
        return [f"{path} is left where it is: {why}"]
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        return [f"{path} cannot be removed: {error.strerror}"]
    return []


@contextlib.contextmanager
def reading(checkpoint: Path) -> Iterator[None]:
    """Keep a running training from dropping `checkpoint` in the block: it does so later.

    Raises `InputError` where it has just been dropped. Does nothing where the file system has no locks.
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
    """Return True while another process or thread holds `reading`."""
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
    """Rename what is in the way and not the program's; return the note. Raises `OSError`."""
    why = strange_checkpoint(path)
    number = 1
    while os.path.lexists(aside := path.with_name(f"{path.name}.set-aside{f'-{number}' if number > 1 else ''}")):
        number += 1
    os.rename(path, aside)
    return f"{path} was in the way and is now {aside.name}: {why or 'it could not be removed'}"


def clear(path: Path) -> list[str]:
    """Make the name `path` free: remove a directory of the program, set anything else aside. Return notes."""
    return [set_aside(path)] if os.path.lexists(path) and remove(path) else []


def point(marker: Path, name: str | None) -> list[str]:
    """Write a checkpoint's name into a file like `latest`, or remove that file (None). Return notes."""
    try:
        if stat.S_ISREG(marker.lstat().st_mode):
            with open(marker, "rb") as file:
                if not _MARKER.fullmatch(file.read(100)):
                    return [f"{marker} is left as it is: it names no checkpoint"]
        else:
            return [f"{marker} is left as it is: it is no regular file"]
    except FileNotFoundError:
        pass
    except OSError as error:
        return [f"{marker} cannot be read: {error.strerror}"]
    try:
        if name is None:
            marker.unlink(missing_ok=True)
        else:
            write_atomically(marker, f"{name}\n".encode())
    except (OSError, InputError) as error:
        return [f"{marker} cannot be {'removed' if name is None else 'written'}: {error}"]
    return []


def _listed(directory: Path) -> frozenset[str]:
    """Return the names in a manifest; none where it is missing or cannot be read."""
    manifest = directory / MANIFEST
    try:
        files = read_json(manifest) if is_regular(manifest) else None
    except (OSError, ValueError):
        return frozenset()
    return frozenset(files) if isinstance(files, dict) else frozenset()
