"""Manage the directory that a corpus is built in: begun once, resumed, and shared by the parts of a job.

Beside the shards it holds `prepare.lock` and the directory `.d2tv-prepare`, and in that `settings.json` (what the
shards depend on), `parts.json` (into how many parts the work was last divided), `tokenizer-settings.json` and whatever
index the source keeps. Neither stays in a finished corpus. Only files of these names and of a corpus' own are ever
removed, and only where `settings.json` shows that `d2tv prepare` has begun the directory.
"""

import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from shards.errors import InputError
from shards.files.lock import locked
from shards.files.read import parse_json, read_json
from shards.files.write import is_directory, is_regular, left_overs, partial_file, write_atomically
from shards.format.index import CORPUS_FILES
from shards.text.sentencepiece_tokenizer import SENTENCEPIECE_FILES
from trainer.terminal.log import log

_LOCK, _SCRATCH = "prepare.lock", ".d2tv-prepare"
_NOTE, _PARTS, _TOKENIZER = "settings.json", "parts.json", "tokenizer-settings.json"
#: What lies in `_SCRATCH`.
_SCRATCH_FILES = re.compile(
    r"(settings|parts|tokenizer-settings)\.json|(crosssum|captions|wit|xvnli|xgqa|marvl)\.(sqlite|lock)"
)

#: A file unchanged for so long (seconds) was left by a process that was killed.
_ABANDONED = 3600


def scratch(work: Path) -> Path:
    """Return the directory in `work` for what serves to build a corpus and does not stay."""
    return work / _SCRATCH


def tokenizer_note(work: Path) -> Path:
    """Return the file that holds the settings `work`/tokenizer was trained with."""
    return scratch(work) / _TOKENIZER


@contextmanager
def held(work: Path, *, alone: bool) -> Iterator[None]:
    """Make the directory `work`, and keep others out of it in the block: all where `alone`, else those that are alone.

    Raises: InputError when another is at work there, and for a directory that `d2tv prepare` did not begin, in which
        nothing is changed.
    """
    _check_begun_by_us(work)
    scratch(work).mkdir(parents=True, exist_ok=True)
    with locked(work / _LOCK, wait=False, shared=not alone, optional=True) as ours:
        if not ours:
            raise InputError(f"another d2tv prepare is at work in {work}: wait for it, or choose another --out")
        yield


def leave(work: Path) -> None:
    """Remove the directory `work`, if nothing but `held` has made anything in it."""
    if any(path.name not in (_LOCK, _SCRATCH) for path in work.iterdir()) or any(scratch(work).iterdir()):
        return
    clean(work)
    work.rmdir()


def begin(work: Path, wanted: Mapping[str, Any], *, alone: bool) -> None:
    """Go on in `work`, which is `held` and an earlier call with the same settings left, or begin it.

    alone: this call does all of the work, so what other settings left is removed. The parts of a job, which may begin
    at the same time, refuse it instead; so does a call that is alone where parts have been at work.

    Raises: InputError for a directory of other settings that is not to be removed, or of none.
    """
    text = json.dumps(wanted, sort_keys=True)
    _check_begun_by_us(work)
    if alone and _note(work) not in (None, text) and not is_regular(scratch(work) / _PARTS):
        log.info(f"{work} was begun with other settings or other data: beginning anew")
        # Killed in between, either settings find a directory of theirs in which more or less is missing.
        _remove(scratch(work), _SCRATCH_FILES, but=_NOTE)
        _remove_corpus(work)
        (scratch(work) / _NOTE).unlink()
    _create(scratch(work) / _NOTE, text)
    if _note(work) != text:
        raise InputError(f"{work} was begun with other settings or other data: remove it, or choose another --out")
    for directory, names in ((work, CORPUS_FILES), (scratch(work), _SCRATCH_FILES)):
        for left_over in left_overs(directory, names):
            with suppress(FileNotFoundError):  # another part's, done just now
                if time.time() - left_over.stat().st_mtime > _ABANDONED:
                    left_over.unlink()


def note_parts(work: Path, parts: int) -> None:
    """Remember into how many parts the work is divided."""
    write_atomically(scratch(work) / _PARTS, json.dumps({"parts": parts}).encode())


def parts_of(work: Path) -> int | None:
    """Return into how many parts the work was last divided; None where it was not."""
    path = scratch(work) / _PARTS
    try:
        noted = read_json(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error}): remove {work}, or choose another --out") from error
    parts = noted.get("parts") if isinstance(noted, dict) else None
    if type(parts) is not int or not 0 < parts < 1 << 31:
        raise InputError(f"{path} is damaged (no number of parts): remove {work}, or choose another --out")
    return parts


def clean(directory: Path) -> None:
    """Remove from a finished corpus what served to build it. What others have put there stays."""
    place = scratch(directory)
    if is_directory(place):
        _remove(place, _SCRATCH_FILES)
        with suppress(OSError):  # not empty: something of others lies there
            place.rmdir()
    lock = directory / _LOCK
    if is_regular(lock) and lock.stat().st_size == 0:
        lock.unlink()


def _remove_corpus(work: Path) -> None:
    (work / "manifest.json").unlink(missing_ok=True)  # before anything that it vouches for
    _remove(work, CORPUS_FILES)
    tokenizer = work / "tokenizer"
    if is_directory(tokenizer):
        _remove(tokenizer, SENTENCEPIECE_FILES)
        with suppress(OSError):
            tokenizer.rmdir()


def _remove(directory: Path, names: re.Pattern[str], but: str | None = None) -> None:
    """Remove the regular files that `names` matches, and what killed writers of such left; not the one named `but`."""
    found = [path for path in directory.iterdir() if names.fullmatch(path.name) and is_regular(path)]
    for path in [*left_overs(directory, names), *found]:
        if path.name != but:
            path.unlink(missing_ok=True)


def _check_begun_by_us(work: Path) -> None:
    """Raise `InputError` where something is in `work` and no settings of ours."""
    try:
        others = sorted(path.name for path in work.iterdir() if path.name not in (_LOCK, _SCRATCH))
    except FileNotFoundError:
        return
    # Read after the listing: a part that begins now writes it before its first shard.
    if os.path.lexists(scratch(work)) and not is_directory(scratch(work)):
        raise InputError(f"{scratch(work)} is no directory of d2tv prepare: remove it, or choose another --out")
    if others and _note(work) is None:
        raise InputError(
            f"{work} holds {others[0]!r} and was not begun by d2tv prepare, or by another version of it: remove it, or "
            "choose another --out"
        )


def _note(work: Path) -> str | None:
    """Return the settings that `work` was begun with; None where there are none of ours."""
    path = scratch(work) / _NOTE
    if not is_regular(path):
        return None
    try:
        text = path.read_text(encoding="utf-8")
        values = parse_json(text)
    except ValueError:  # no JSON of ours
        return None
    return text if isinstance(values, dict) and {"format_version", "source"} <= values.keys() else None


def _create(path: Path, text: str) -> None:
    """Write a file unless it is there, whole from the first moment."""
    partial = partial_file(path)
    try:
        with open(partial, "x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.link(partial, path)  # unlike a rename it fails where the name is taken
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links: all but as good
        if not path.exists():
            os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
