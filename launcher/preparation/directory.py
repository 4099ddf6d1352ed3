"""The directory that a corpus is built in: begun once, gone on with, and shared by the parts of a job.

Beside the shards it holds `settings.json` (what the shards depend on), `parts.json` (into how many parts the work was
last divided), `tokenizer-settings.json`, locks and whatever index the source keeps. None of it stays in a finished
corpus.
"""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from shards.errors import InputError
from shards.file_lock import locked
from shards.files import write_atomically
from shards.reading_files import read_json, read_regular

_NOTE, _PARTS, _LOCK = "settings.json", "parts.json", "prepare.lock"
_SCRATCH = (_NOTE, _PARTS, _LOCK, "tokenizer-settings.json", "crosssum.lock", "*.sqlite", "*.partial")

#: A file that nobody has written to for so long (seconds) was left by a process that was killed.
_ABANDONED = 3600


@contextmanager
def held(work: Path, *, alone: bool) -> Iterator[None]:
    """Make the directory `work`, and keep others out of it in the block: all where `alone`, else those that are alone.

    Raises: InputError when that cannot be, for another is at work there.
    """
    work.mkdir(parents=True, exist_ok=True)
    with locked(work / _LOCK, wait=False, shared=not alone, optional=True) as ours:
        if not ours:
            raise InputError(f"another d2tv prepare is at work in {work}: wait for it, or choose another --out")
        yield


def leave(work: Path) -> None:
    """Remove the directory `work`, if nothing but `held` has made anything in it."""
    if [path.name for path in work.iterdir()] == [_LOCK]:
        (work / _LOCK).unlink()
        work.rmdir()


def begin(work: Path, wanted: Mapping[str, Any], *, alone: bool, say: Callable[[str], None]) -> None:
    """Go on in `work`, which is `held` and an earlier call with the same settings left, or begin it.

    alone: this call does all of the work, so what other settings left is removed. The parts of a job, which may begin
    at the same time, refuse it instead; so does a call that is alone where parts have been at work.

    Raises: InputError for a directory of other settings that is not to be removed.
    """
    text = json.dumps(wanted, sort_keys=True)
    if alone and _is_foreign(work, text) and not (work / _PARTS).is_file():
        say(f"{work} was begun with other settings or other data: beginning anew")
        (work / _NOTE).unlink(missing_ok=True)  # first: without it, what a kill leaves is nobody's
        for path in work.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != _LOCK:
                path.unlink()
    had_shards = any(work.glob("*.index.npz"))
    if _create(work / _NOTE, text) and had_shards:
        (work / _NOTE).unlink()
    if _is_foreign(work, text):
        raise InputError(f"{work} was begun with other settings or other data: remove it, or choose another --out")
    for left_over in work.glob("*.partial"):
        with suppress(FileNotFoundError):  # another part's, done just now
            if time.time() - left_over.stat().st_mtime > _ABANDONED:
                left_over.unlink()


def note_parts(work: Path, parts: int) -> None:
    """Remember into how many parts the work is divided."""
    write_atomically(work / _PARTS, json.dumps({"parts": parts}).encode())


def parts_of(work: Path) -> int | None:
    """Into how many parts the work was last divided; None where it was not."""
    try:
        noted = read_json(work / _PARTS)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{work / _PARTS} is damaged ({error}): remove {work}, or choose another --out") from error
    parts = noted.get("parts") if isinstance(noted, dict) else None
    if type(parts) is not int or not 0 < parts < 1 << 31:
        raise InputError(f"{work / _PARTS} is damaged (no number of parts): remove {work}, or choose another --out")
    return parts


def clean(directory: Path) -> None:
    """Remove from a finished corpus what served to build it."""
    for pattern in _SCRATCH:
        for path in directory.glob(pattern):
            path.unlink(missing_ok=True)


def _is_foreign(work: Path, text: str) -> bool:
    """Whether something is in `work` that was not begun with the settings `text`."""
    note = work / _NOTE
    if note.is_file():
        return read_regular(note) != text.encode()
    return any(path.name != _LOCK for path in work.iterdir())


def _create(path: Path, text: str) -> bool:
    """Write a file unless it is there, whole from the first moment; whether it was written."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name + ".", suffix=".partial")
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.link(name, path)  # unlike a rename it fails where the name is taken
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links: all but as good
        if path.exists():
            return False
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)
    return True
