"""Commit a new checkpoint, drop older ones, and name or remove those that a kill left half done.

No save may fail for other files among them (trainer/checkpoint/tidying.py): the functions return notes for the log.
"""

import math
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
from trainer.checkpoint.tidying import clear, is_being_read, point, remove, set_aside, strange_checkpoint
from trainer.recipe.sections import CheckpointSection

#: Prefixes of a checkpoint before its commit and after it was discarded; such directories may be removed at any time.
STAGING, DISCARDED = ".staging-", ".discarded-"
#: Prefix of a checkpoint that makes room for a new one of the same step.
_REPLACED = ".replaced-"
_STAGING = re.compile(rf"{re.escape(STAGING)}(\d{{8,}})")


def commit(staging: Path, final: Path) -> list[str]:
    """Give a sealed checkpoint its name, in place of one of the same step from before a restart; return notes.

    Raises `OSError`.
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
    return notes + remove(replaced)


def discard(checkpoint: Path) -> list[str]:
    """Remove a checkpoint, under another name first: a kill in between leaves no half of one. Return notes.

    A directory that is not the program's, or holds other files, stays.
    """
    why = strange_checkpoint(checkpoint)
    if why is not None:
        return [f"{checkpoint} is kept: {why}"]
    if is_being_read(checkpoint):
        return []  # by an evaluation or an export: the next save drops it
    aside = checkpoint.with_name(DISCARDED + checkpoint.name)
    if os.path.lexists(aside) and (notes := remove(aside)):
        return [*notes, f"{checkpoint} is kept: {aside.name} is in the way"]
    try:
        os.replace(checkpoint, aside)
    except OSError as error:
        return [f"{checkpoint} cannot be removed: {error.strerror}"]
    return remove(aside)


def recover(directory: Path) -> list[str]:
    """Commit checkpoints that a kill left complete but unnamed, between manifest and renaming. Return notes."""
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
    """Remove what a killed run left half written or half removed; return notes of what stays."""
    notes = []
    for prefix in (STAGING, DISCARDED, _REPLACED):
        for left_over in _named(directory, prefix):
            name = left_over.name.removeprefix(prefix)
            if not (_STAGING.fullmatch(left_over.name) or (prefix != STAGING and NAME.fullmatch(name))):
                notes.append(f"{left_over} is left where it is: it has no name of this program's")
            elif prefix != _REPLACED or (directory / name).exists():  # else it is the only one of its step
                notes += remove(left_over)
    return notes


def retire(directory: Path, newest: Path, settings: CheckpointSection) -> list[str]:
    """Drop the checkpoints before `newest` that no setting keeps, and name the best one in `best`. Return notes."""
    # A damaged checkpoint of a later step must not push the sound ones out.
    older = [
        path
        for path in whole_checkpoints(directory)
        if step_of(path) <= step_of(newest) and (path / MANIFEST).is_file()
    ]
    kept = {path for path in older if path.is_symlink()}  # made by a person: neither dropped nor counted
    notes = [f"{path} is kept: it is a link" for path in sorted(kept)]
    kept |= set([path for path in older if path not in kept][: settings.keep_last])
    if settings.keep_every is not None:
        kept |= {path for path in older if step_of(path) % settings.keep_every == 0}
    if settings.keep_best is None:
        notes += point(directory / "best", None)
    elif best := best_checkpoint(older, settings.keep_best):
        kept.add(best)
        notes += point(directory / "best", best.name)
    try:
        sync(directory)  # the new names are on the disk before the old checkpoints go
    except OSError as error:
        return [*notes, f"{directory} cannot be synced, so no checkpoint is dropped: {error.strerror}"]
    for path in older:
        if path not in kept:
            notes += discard(path)
    return notes


def _named(directory: Path, prefix: str) -> list[Path]:
    """Return the entries of `directory` with this prefix; none where it cannot be read."""
    try:
        return sorted(path for path in directory.iterdir() if path.name.startswith(prefix))
    except OSError:
        return []


def best_checkpoint(checkpoints: Collection[Path], metric: str) -> Path | None:
    """Return the one of the lowest held-out NLL (`mms`, `mxls`, or the `mean` of both); of equals the older."""
    scores: dict[Path, float] = {}
    for path in sorted(checkpoints):
        try:
            found = None if damage(path, ("state.json",)) else read_state(path).validation
        except InputError:  # another version's
            continue
        if found:
            score = sum(found.values()) / len(found) if metric == "mean" else found.get(metric)
            if score is not None and not math.isnan(score):
                scores[path] = score
    return min(scores, key=scores.__getitem__, default=None)
