"""Checkpoints that exist or do not: staged, hashed, synced, then renamed into place by rank 0.

A checkpoint is a directory `step-<nnnnnnnn>` with DeepSpeed's own files under `deepspeed/`, the resolved
recipe, `state.json`, and `manifest.json` with every file's size and SHA-256.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist

from shards.changes import fingerprint, what_changed
from shards.errors import InputError

_TAG = "deepspeed"
#: What the run remembers of its corpus.
CORPUS = "corpus.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainState:
    """All that is not a tensor. The data's position and every random number follow from it.

    step: optimizer steps taken.  attempts: steps tried, those skipped as non-finite included; attempt a
    reads the groups a * groups_per_step onwards and seeds its dropout with (seed, a, micro-step, rank).
    unreadable: examples that had a placeholder.
    """

    step: int = 0
    attempts: int = 0
    seed: int
    slot: int
    world_size: int
    corpus: str
    unreadable: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Saved:
    """What a save cost: for the metrics."""

    path: Path
    seconds: float
    bytes: int


def save_checkpoint(engine: Any, directory: Path, state: TrainState, texts: Mapping[str, str], keep: int) -> Saved:
    """Write a checkpoint (all ranks call this) and drop whole ones beyond the newest `keep`.

    `texts` are files to put beside the state: name -> content.
    """
    began = time.monotonic()
    final = directory / f"step-{state.step:08d}"
    staging = directory / f".staging-{state.step:08d}"
    first = dist.get_rank() == 0
    if first:
        directory.mkdir(parents=True, exist_ok=True)
        for left_over in directory.glob(".staging-*"):
            shutil.rmtree(left_over)
        staging.mkdir()
    dist.barrier()
    engine.save_checkpoint(str(staging), tag=_TAG, save_latest=False)
    dist.barrier()
    size = 0
    if first:
        (staging / "state.json").write_text(state_json(state), encoding="utf-8")
        for name, text in texts.items():
            (staging / name).write_text(text, encoding="utf-8")
        files: dict[str, dict[str, Any]] = {}
        for path in sorted(p for p in staging.rglob("*") if p.is_file()):
            files[str(path.relative_to(staging))] = {"bytes": path.stat().st_size, "sha256": _sha256(path)}
            _sync(path)
        (staging / "manifest.json").write_text(json.dumps(files, indent=1) + "\n", encoding="utf-8")
        _sync(staging / "manifest.json")
        for folder in (staging / _TAG, staging):
            _sync(folder)
        if final.exists():  # the same step, saved before a restart: identical, so the newer takes its place
            shutil.rmtree(final)
        os.replace(staging, final)
        _sync(directory)
        # Only what is older may go: a damaged one of a later step must not push the sound ones out.
        older = [path for path in whole_checkpoints(directory) if path.name < final.name]
        for old in older[keep - 1 :]:
            shutil.rmtree(old)
        size = sum(entry["bytes"] for entry in files.values())
    dist.barrier()
    return Saved(path=final, seconds=time.monotonic() - began, bytes=size)


def whole_checkpoints(directory: Path) -> list[Path]:
    """Committed checkpoints, the newest first."""
    return sorted((p for p in directory.glob("step-*") if (p / "manifest.json").is_file()), reverse=True)


def damage(checkpoint: Path, names: Collection[str] | None = None) -> str | None:
    """What is wrong with a checkpoint (with the files `names` of it alone) by its own manifest, or None."""
    try:
        files = json.loads((checkpoint / "manifest.json").read_text(encoding="utf-8"))
        wanted = {name: (entry["bytes"], entry["sha256"]) for name, entry in files.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        return f"manifest.json is not one: {error!r}"
    for name, (size, digest) in wanted.items():
        if names is not None and name not in names:
            continue
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size or _sha256(path) != digest:
            return f"{name} is not what was written"
    return None


def identity(checkpoint: Path) -> str:
    """A hash that two checkpoints share only if all their files are the same."""
    return _sha256(checkpoint / "manifest.json")


def state_json(state: TrainState) -> str:
    """What state.json holds."""
    return json.dumps(asdict(state), indent=1) + "\n"


def read_state(checkpoint: Path) -> TrainState:
    return TrainState(**json.loads((checkpoint / "state.json").read_text(encoding="utf-8")))


def check_resumable(
    state: TrainState, checkpoint: Path, *, seed: int, world_size: int, manifest: Mapping[str, Any]
) -> None:
    """Refuse to continue a run on something else than it began with; `InputError` says what differs."""
    for name, was, now in (("world size", state.world_size, world_size), ("training.seed", state.seed, seed)):
        if was != now:
            raise InputError(
                f"{checkpoint} was written with {name} {was}, this run has {now}: restore it or choose another run="
            )
    if state.corpus != manifest["content_hash"]:
        if not (checkpoint / CORPUS).is_file():
            raise InputError(f"{checkpoint} was written by release 0.1.0, on another corpus: choose another run=")
        before = json.loads((checkpoint / CORPUS).read_text(encoding="utf-8"))
        raise InputError(
            f"the corpus is not the one that {checkpoint} was trained on ({what_changed(before, fingerprint(manifest))}"
            "): restore it or choose another run="
        )


def load_checkpoint(engine: Any, checkpoint: Path) -> None:
    """Load model and optimizer of `checkpoint` into the engine (all ranks call this)."""
    loaded, _ = engine.load_checkpoint(str(checkpoint), tag=_TAG)
    # DeepSpeed only warns when it finds nothing, and would train on from random weights.
    assert loaded is not None, f"DeepSpeed loaded nothing from {checkpoint}"


def model_weights(checkpoint: Path) -> dict[str, Any]:
    """The objective's state dict in `checkpoint`, for evaluation without an optimizer."""
    import torch

    saved = torch.load(checkpoint / _TAG / "mp_rank_00_model_states.pt", map_location="cpu", weights_only=False)
    weights: dict[str, Any] = saved["module"]
    return weights


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
