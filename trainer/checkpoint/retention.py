"""Which checkpoints a run keeps: a new one gets its name, older ones go, and what a kill left is named or removed.

No save may fail for what stands among them (trainer/checkpoint/tidying.py): it is returned as lines to say.
"""

import os
import re
from collections.abc import Collection
from pathlib import Path

from shards.errors import InputError
from shards.files.write import is_directory
from trainer.checkpoint.directory import (
    MANIFEST,
    NAME,
    damage,
    read_state,
    step_directory,
    step_of,
    sync,
    whole_checkpoints,
)
from trainer.checkpoint.tidying import clear, is_being_read, point, remove, set_aside, strange_checkpoint, unpoint
from trainer.recipe.sections import CheckpointSection

#: Names that a checkpoint has before it is committed and after it was discarded; what carries one may go at any time.
STAGING, DISCARDED = ".staging-", ".discarded-"
#: What a checkpoint of the same step was renamed to, to make room for its successor.
_REPLACED = ".replaced-"
_STAGING = re.compile(rf"{re.escape(STAGING)}(\d{{8,}})")


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
            if not (_STAGING.fullmatch(left_over.name) or (prefix != STAGING and NAME.fullmatch(name))):
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
