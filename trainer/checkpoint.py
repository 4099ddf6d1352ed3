"""Checkpoints on disk: what lies in one, which are whole, which stay.

A checkpoint is a directory `step-<nnnnnnnn>` with a file of tensors a rank (trainer/sharded_state.py), the resolved
recipe, `state.json`, and `manifest.json` with every file's size and SHA-256. trainer/saver.py writes it under another
name and commits it by renaming it, so one of this name is whole; `latest` and `best` are files that name one.
"""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shards.changes import fingerprint, what_changed
from shards.errors import InputError
from shards.files import write_atomically
from shards.reading_files import open_regular, read_json
from trainer.recipe import CheckpointSection
from trainer.tidying import MANIFEST as MANIFEST
from trainer.tidying import clear, is_being_read, is_directory, point, remove, set_aside, strange_checkpoint, unpoint

#: Which file of tensors holds what, beside the files (trainer/sharded_state.py).
INDEX = "tensors.json"
#: What the run remembers of its corpus.
CORPUS = "corpus.json"
#: What no manifest of a checkpoint or of an exported model leaves out.
REQUIRED = frozenset({"state.json"})
#: Files with these endings may be read: by us, by transformers, by the tokenizers.
_READ = frozenset({".bin", ".json", ".model", ".safetensors", ".yaml"})
#: Names that a checkpoint has before it is committed and after it was discarded; what carries one may go at any time.
STAGING, DISCARDED = ".staging-", ".discarded-"
#: What a checkpoint of the same step was renamed to, to make room for its successor.
_REPLACED = ".replaced-"
_NAME = re.compile(r"step-\d{8,}")
_STAGING = re.compile(rf"{re.escape(STAGING)}(\d{{8,}})")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainState:
    """All that is not a tensor. The data's position and every random number follow from it.

    step: optimizer steps taken.  attempts: steps tried, those skipped as non-finite included; attempt a
    reads the groups a * groups_per_step onwards and seeds its dropout with (seed, a, micro-step, rank).
    world_size: the ranks that wrote it; any other number may go on.
    unreadable: examples that had a placeholder.
    validation: held-out NLL by kind at this very step (nats a token), where it was validated.
    """

    step: int = 0
    attempts: int = 0
    seed: int
    slot: int
    world_size: int
    corpus: str
    unreadable: int = 0
    validation: dict[str, float] | None = None


def step_directory(directory: Path, step: int) -> Path:
    return directory / f"step-{step:08d}"


def step_of(checkpoint: Path) -> int:
    """The step that a checkpoint's name says."""
    return int(checkpoint.name.removeprefix("step-"))


def whole_checkpoints(directory: Path) -> list[Path]:
    """Committed checkpoints, the newest first. A copy under another name, like step-00000100-good, is none of ours."""
    named = (path for path in directory.glob("step-*") if _NAME.fullmatch(path.name) and path.is_dir())
    return sorted(named, key=step_of, reverse=True)


def described(path: Path) -> dict[str, Any]:
    """What a manifest says of a file, which the disk holds from now on."""
    sync(path)
    return {"bytes": path.stat().st_size, "sha256": _sha256(path)}


def seal(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> int:
    """Write the manifest of `files` (name -> `described`), which must all lie in `folder`; their size in bytes."""
    for name, entry in files.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != entry["bytes"]:
            raise OSError(f"{path} is not to be seen here: `run` must lie on a file system that all hosts share")
    write_atomically(folder / MANIFEST, (json.dumps(files, indent=1) + "\n").encode())
    sync(folder)
    return sum(int(entry["bytes"]) for entry in files.values())


def commit(staging: Path, final: Path) -> list[str]:
    """Give a sealed checkpoint its name; the lines to say of what could not be tidied. Raises `OSError`.

    One of the same step, from before a restart, makes room for it.
    """
    notes = [] if strange_checkpoint(final) is None else [set_aside(final)]
    replaced = final.with_name(_REPLACED + final.name)
    notes += clear(replaced)
    if final.exists():
        os.replace(final, replaced)
    # Killed here, `recover` finds the new one by its manifest, which was written last.
    try:
        os.replace(staging, final)
    except OSError:
        if replaced.exists():
            os.replace(replaced, final)
        raise
    sync(final.parent)
    return notes + _lines(remove(replaced))


def discard(checkpoint: Path) -> list[str]:
    """Remove a checkpoint so that a kill in between leaves nothing that looks like one.

    What is not ours, or holds what is not, stays as it is. Returns the lines to say of it.
    """
    why = strange_checkpoint(checkpoint)
    if why is not None:
        return [f"{checkpoint} is kept: {why}"]
    if is_being_read(checkpoint):
        return []  # by an evaluation or an export: its turn comes with the next save
    aside = checkpoint.with_name(DISCARDED + checkpoint.name)
    if os.path.lexists(aside) and (note := remove(aside)):
        return [note, f"{checkpoint} is kept: {aside.name} is in the way"]
    try:
        os.replace(checkpoint, aside)
    except OSError as error:
        return [f"{checkpoint} cannot be removed: {error.strerror}"]
    return _lines(remove(aside))


def recover(directory: Path) -> list[str]:
    """Name what a kill left complete but without its name: between its manifest and its renaming.

    Returns the lines to say of what could not be tidied.
    """
    notes = []
    for staging in _named(directory, STAGING):
        step = _STAGING.fullmatch(staging.name)
        if step is None or not is_directory(staging) or not (staging / MANIFEST).is_file():
            continue
        final = step_directory(directory, int(step[1]))
        if is_directory(final):
            continue
        try:
            notes += commit(staging, final)
        except OSError as error:
            notes.append(f"{staging} holds a whole checkpoint, but cannot be named {final.name}: {error.strerror}")
    return notes


def sweep(directory: Path) -> list[str]:
    """Remove what a killed run left half written or half removed; the lines to say of what stays."""
    notes = []
    for prefix in (STAGING, DISCARDED, _REPLACED):
        for left_over in _named(directory, prefix):
            name = left_over.name.removeprefix(prefix)
            if not (_STAGING.fullmatch(left_over.name) or (prefix != STAGING and _NAME.fullmatch(name))):
                notes.append(f"{left_over} is left where it is: it has no name of this program's")
            elif prefix != _REPLACED or (directory / name).exists():  # else it is the only one of its step
                notes += _lines(remove(left_over))
    return notes


def retire(directory: Path, newest: Path, settings: CheckpointSection) -> list[str]:
    """Drop the checkpoints before `newest` that no setting keeps, and name the best one in `best`.

    Returns the lines to say of what could not be dropped or named.
    """
    # Only what is older may go: a damaged one of a later step must not push the sound ones out.
    older = [path for path in whole_checkpoints(directory) if step_of(path) <= step_of(newest)]
    older = [path for path in older if (path / MANIFEST).is_file()]
    kept = {path for path in older if path.is_symlink()}  # somebody's: neither dropped nor counted
    notes = [f"{path} is kept: it is a link" for path in sorted(kept)]
    kept |= set([path for path in older if path not in kept][: settings.keep_last])
    if settings.keep_every is not None:
        kept |= {path for path in older if step_of(path) % settings.keep_every == 0}
    if settings.keep_best is not None:
        best = best_checkpoint(older, settings.keep_best)
        if best is not None:
            kept.add(best)
            notes += point(directory / "best", best.name)
    else:
        notes += unpoint(directory / "best")
    try:
        sync(directory)  # what names the new ones is there before the old ones go
    except OSError as error:
        return [*notes, f"{directory} cannot be synced, so no checkpoint is dropped: {error.strerror}"]
    for path in older:
        if path not in kept:
            notes += discard(path)
    return notes


def _named(directory: Path, prefix: str) -> list[Path]:
    """The entries of `directory` whose names begin with `prefix`; none where it cannot be read."""
    try:
        return sorted(path for path in directory.iterdir() if path.name.startswith(prefix))
    except OSError:
        return []


def _lines(note: str | None) -> list[str]:
    return [] if note is None else [note]


def best_checkpoint(checkpoints: Collection[Path], metric: str) -> Path | None:
    """The one of the lowest held-out NLL (`mms`, `mxls`, or the `mean` of both), the older of equals; None of none."""
    scores: dict[Path, float] = {}
    for path in sorted(checkpoints):
        try:
            found = None if damage(path, ("state.json",)) else read_state(path).validation
        except InputError:  # another version's
            continue
        if found:
            score = sum(found.values()) / len(found) if metric == "mean" else found.get(metric)
            if score is not None and score == score:
                scores[path] = score
    return min(scores, key=lambda path: scores[path]) if scores else None


def damage(checkpoint: Path, names: Collection[str] | None = None) -> str | None:
    """Return what is wrong with a checkpoint or an exported model by its own manifest, None where it is sound.

    names: look at these files alone. A manifest vouches for every file that is read; one that does not name them all,
    an empty one above all, is damaged.
    """
    try:
        files = read_json(checkpoint / MANIFEST)
        wanted = {name: (entry["bytes"], entry["sha256"]) for name, entry in files.items()}
        needed = {*(REQUIRED if names is None else names)}
        if names is None:
            needed |= {path.name for path in checkpoint.iterdir() if path.suffix in _READ and path.name != MANIFEST}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        return f"{MANIFEST} is not one: {error!r}"
    if unnamed := sorted(needed - wanted.keys()):
        return f"{MANIFEST} does not name {unnamed[0]}"
    if odd := [name for name in wanted if name.startswith("/") or not {"", "..", "\0"}.isdisjoint(name.split("/"))]:
        return f"{MANIFEST} names {odd[0]!r}, which is no file of it"
    # Hashing leaves Python's lock alone, so that files are read side by side.
    with ThreadPoolExecutor() as pool:
        looked_at = [name for name in wanted if names is None or name in names]
        problems = pool.map(lambda name: _damage_of(checkpoint / name, *wanted[name]), looked_at)
        return next((f"{name} {problem}" for name, problem in zip(looked_at, problems, strict=True) if problem), None)


def _damage_of(path: Path, size: int, digest: str) -> str | None:
    try:
        if not path.is_file():
            return "is missing"
        if path.stat().st_size != size or _sha256(path) != digest:
            return "is not what was written"
    except OSError as error:  # a bad block, a stale handle
        return f"cannot be read: {error.strerror}"
    return None


def identity(checkpoint: Path) -> str:
    """A hash that two checkpoints share only if all their files are the same."""
    return _sha256(checkpoint / MANIFEST)


def find_identity(directory: Path, digest: object) -> Path | None:
    """Return the checkpoint that `identity` gave `digest` for, as a report names it; None where it is not there."""
    for path in whole_checkpoints(directory):
        with contextlib.suppress(OSError):  # one without a manifest
            if identity(path) == digest:
                return path
    return None


def state_json(state: TrainState) -> str:
    """What state.json holds."""
    return json.dumps(asdict(state), indent=1) + "\n"


def read_state(checkpoint: Path) -> TrainState:
    """Read the state in `checkpoint`. Raise `InputError` where another version wrote it, or no version of ours."""
    try:
        state = TrainState(**read_json(checkpoint / "state.json"))
    except (OSError, TypeError, ValueError) as error:
        raise InputError(f"{checkpoint}/state.json is not this version's ({error}): choose another run=") from error
    numbers = (state.step, state.attempts, state.seed, state.slot, state.world_size, state.unreadable)
    nll = {} if state.validation is None else state.validation
    if (
        not all(type(number) is int and abs(number) < 1 << 64 for number in numbers)
        or min(state.step, state.attempts, state.slot) < 0
        or not isinstance(state.corpus, str)
        or not (isinstance(nll, dict) and all(type(value) in (int, float) for value in nll.values()))
    ):
        raise InputError(f"{checkpoint}/state.json holds values of other types: copy the checkpoint anew")
    return state


def check_resumable(state: TrainState, checkpoint: Path, *, seed: int, manifest: Mapping[str, Any]) -> None:
    """Refuse to continue a run on something else than it began with; `InputError` says what differs."""
    if state.seed != seed:
        raise InputError(
            f"{checkpoint} was written with training.seed {state.seed}, this run has {seed}: restore it or choose "
            "another run="
        )
    if state.corpus != manifest["content_hash"]:
        try:
            changed = what_changed(read_json(checkpoint / CORPUS), fingerprint(manifest))
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            changed = f"{CORPUS} does not say how it differs: {error!r}"
        raise InputError(
            f"the corpus is not the one that {checkpoint} was trained on ({changed}): restore it or choose another run="
        )


def _sha256(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Have the disk hold what was written to a file or directory, also after a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
