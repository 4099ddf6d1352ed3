"""Checkpoints on disk: what lies in one, which are whole, which stay.

A checkpoint is a directory `step-<nnnnnnnn>` with a file of tensors a rank (trainer/sharded_state.py), the resolved
recipe, `state.json`, and `manifest.json` with every file's size and SHA-256. trainer/saver.py writes it under another
name and commits it by renaming it, so one of this name is whole; `latest` and `best` are files that name one.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shards.changes import fingerprint, what_changed
from shards.errors import InputError
from shards.files import write_atomically
from trainer.recipe import CheckpointSection

MANIFEST = "manifest.json"
#: Which file of tensors holds what, beside the files (trainer/sharded_state.py).
INDEX = "tensors.json"
#: What the run remembers of its corpus.
CORPUS = "corpus.json"
#: Names that a checkpoint has before it is committed and after it was discarded; what carries one may go at any time.
STAGING, DISCARDED = ".staging-", ".discarded-"
#: What a checkpoint of the same step was renamed to, to make room for its successor.
_REPLACED = ".replaced-"
_NAME = re.compile(r"step-\d{8,}")


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


def commit(staging: Path, final: Path) -> None:
    """Give a sealed checkpoint its name. One of the same step, from before a restart, makes room for it."""
    replaced = final.with_name(_REPLACED + final.name)
    if replaced.exists():
        shutil.rmtree(replaced)
    if final.exists():
        os.replace(final, replaced)
    # Killed here, `recover` finds the new one by its manifest, which was written last.
    os.replace(staging, final)
    sync(final.parent)
    if replaced.exists():
        shutil.rmtree(replaced)


def discard(checkpoint: Path) -> None:
    """Remove a checkpoint so that a kill in between leaves nothing that looks like one."""
    aside = checkpoint.with_name(DISCARDED + checkpoint.name)
    if aside.exists():
        shutil.rmtree(aside)
    os.replace(checkpoint, aside)
    shutil.rmtree(aside)


def recover(directory: Path) -> None:
    """Name what a kill left complete but without its name: between its manifest and its renaming."""
    for staging in directory.glob(f"{STAGING}*"):
        final = step_directory(directory, int(staging.name.removeprefix(STAGING)))
        if (staging / MANIFEST).is_file() and not final.exists():
            commit(staging, final)


def sweep(directory: Path) -> None:
    """Remove what a killed run left half written or half removed."""
    for prefix in (STAGING, DISCARDED, _REPLACED):
        for left_over in directory.glob(f"{prefix}*"):
            shutil.rmtree(left_over)


def retire(directory: Path, newest: Path, settings: CheckpointSection) -> None:
    """Drop the checkpoints before `newest` that no setting keeps, and name the best one in `best`."""
    # Only what is older may go: a damaged one of a later step must not push the sound ones out.
    older = [path for path in whole_checkpoints(directory) if step_of(path) <= step_of(newest)]
    older = [path for path in older if (path / MANIFEST).is_file()]
    kept = set(older[: settings.keep_last])
    if settings.keep_every is not None:
        kept |= {path for path in older if step_of(path) % settings.keep_every == 0}
    if settings.keep_best is not None:
        best = best_checkpoint(older, settings.keep_best)
        if best is not None:
            kept.add(best)
            write_atomically(directory / "best", f"{best.name}\n".encode())
    else:
        (directory / "best").unlink(missing_ok=True)
    sync(directory)  # what names the new ones is there before the old ones go
    for path in older:
        if path not in kept:
            discard(path)


def best_checkpoint(checkpoints: Collection[Path], metric: str) -> Path | None:
    """The one of the lowest held-out NLL (`mms`, `mxls`, or the `mean` of both), the older of equals; None of none."""
    scores: dict[Path, float] = {}
    for path in sorted(checkpoints):
        found = None if damage(path, ("state.json",)) else read_state(path).validation
        if found:
            score = sum(found.values()) / len(found) if metric == "mean" else found.get(metric)
            if score is not None and score == score:
                scores[path] = score
    return min(scores, key=lambda path: scores[path]) if scores else None


def damage(checkpoint: Path, names: Collection[str] | None = None) -> str | None:
    """What is wrong with a checkpoint (with the files `names` of it alone) by its own manifest, or None."""
    try:
        files = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))
        wanted = {name: (entry["bytes"], entry["sha256"]) for name, entry in files.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        return f"{MANIFEST} is not one: {error!r}"
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


def state_json(state: TrainState) -> str:
    """What state.json holds."""
    return json.dumps(asdict(state), indent=1) + "\n"


def read_state(checkpoint: Path) -> TrainState:
    """The state in `checkpoint`; `InputError` where another version of this project wrote it."""
    values = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
    try:
        return TrainState(**values)
    except TypeError as error:
        raise InputError(f"{checkpoint}/state.json is not this version's ({error}): choose another run=") from error


def check_resumable(state: TrainState, checkpoint: Path, *, seed: int, manifest: Mapping[str, Any]) -> None:
    """Refuse to continue a run on something else than it began with; `InputError` says what differs."""
    if state.seed != seed:
        raise InputError(
            f"{checkpoint} was written with training.seed {state.seed}, this run has {seed}: restore it or choose "
            "another run="
        )
    if state.corpus != manifest["content_hash"]:
        before = json.loads((checkpoint / CORPUS).read_text(encoding="utf-8"))
        raise InputError(
            f"the corpus is not the one that {checkpoint} was trained on ({what_changed(before, fingerprint(manifest))}"
            "): restore it or choose another run="
        )


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Have the disk hold what was written to a file or directory, also after a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
