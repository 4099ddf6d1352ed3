"""Describe, list and verify the checkpoints of a directory.

A checkpoint is a directory `step-<nnnnnnnn>` with a file of tensors a rank (sharded_state.py), the resolved recipe,
`state.json`, and `manifest.json` with every file's size and SHA-256. saver.py writes it under another name and commits
it by renaming, so a checkpoint of this name is whole; the files `latest` and `best` name one.
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

from shards.errors import InputError
from shards.files.read import open_regular, read_json
from shards.files.write import write_atomically
from shards.format.changes import fingerprint, what_changed

MANIFEST = "manifest.json"
#: Index of the tensors in the files beside it (trainer/checkpoint/sharded_state.py).
INDEX = "tensors.json"
#: Facts of the run's corpus.
CORPUS = "corpus.json"
#: Files that every manifest of a checkpoint or an exported model names.
REQUIRED = frozenset({"state.json"})
#: Files with these endings are read: by this program, transformers or tokenizers.
_READ = frozenset({".bin", ".json", ".model", ".safetensors", ".yaml"})
#: Name of a committed checkpoint.
NAME = re.compile(r"step-\d{8,}")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainState:
    """State of a run beside its tensors. The data's position and every random number follow from it.

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
    """Return the step in a checkpoint's name."""
    return int(checkpoint.name.removeprefix("step-"))


def whole_checkpoints(directory: Path) -> list[Path]:
    """Return the committed checkpoints, the newest first, without copies like step-00000100-good."""
    named = (path for path in directory.glob("step-*") if NAME.fullmatch(path.name) and path.is_dir())
    return sorted(named, key=step_of, reverse=True)


def described(path: Path) -> dict[str, Any]:
    """Sync a file to the disk and return its entry of the manifest."""
    sync(path)
    return {"bytes": path.stat().st_size, "sha256": file_hash(path)}


def seal(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> int:
    """Write the manifest of `files` (name -> `described`), all in `folder`, and return their size in bytes."""
    for name, entry in files.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != entry["bytes"]:
            raise OSError(f"{path} is not to be seen here: `run` must lie on a file system that all hosts share")
    write_atomically(folder / MANIFEST, (json.dumps(files, indent=1) + "\n").encode())
    sync(folder)
    return sum(int(entry["bytes"]) for entry in files.values())


def damage(checkpoint: Path, names: Collection[str] | None = None) -> str | None:
    """Return how a checkpoint or an exported model differs from its manifest, None where it is sound.

    names: check these files alone. A manifest that does not name every file that is read, as an empty one, is damaged.
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
    # Hashing releases Python's lock, so files are read in parallel.
    with ThreadPoolExecutor() as pool:
        checked = [name for name in wanted if names is None or name in names]
        problems = pool.map(lambda name: _damage_of(checkpoint / name, *wanted[name]), checked)
        return next((f"{name} {problem}" for name, problem in zip(checked, problems, strict=True) if problem), None)


def _damage_of(path: Path, size: int, digest: str) -> str | None:
    try:
        if not path.is_file():
            return "is missing"
        if path.stat().st_size != size or file_hash(path) != digest:
            return "is not what was written"
    except OSError as error:  # a bad block, a stale handle
        return f"cannot be read: {error.strerror}"
    return None


def identity(checkpoint: Path) -> str:
    """Return a hash that two checkpoints share only if all their files are the same."""
    return file_hash(checkpoint / MANIFEST)


def find_identity(directory: Path, digest: object) -> Path | None:
    """Return the checkpoint of this `identity`, which reports name; None where it is gone."""
    for path in whole_checkpoints(directory):
        with contextlib.suppress(OSError):  # one without a manifest
            if identity(path) == digest:
                return path
    return None


def state_json(state: TrainState) -> str:
    """Return the text of state.json."""
    return json.dumps(asdict(state), indent=1) + "\n"


def read_state(checkpoint: Path) -> TrainState:
    """Read the state in `checkpoint`. Raise `InputError` for a state of another version or a damaged one."""
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
    """Raise `InputError`, which names the difference, for another seed or corpus than the run began with."""
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


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a regular file. Raises `OSError`."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Sync a file or directory to the disk, so that it survives a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
