"""Save checkpoints while training goes on: the state is copied out, and a thread of every rank writes its part.

    every rank:  copy the state (training waits)  ->  thread: write, sync and hash its own file
    rank 0:      gather the parts  ->  the other files, the manifest  ->  rename  ->  drop older checkpoints

One save is under way at a time, and one copy of the state in memory: the next save waits for the last. The threads
use a process group of their own, so that their messages never mix with the training's.
"""

import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

import torch.distributed as dist

from shards.errors import InputError
from shards.files.write import write_atomically
from trainer.checkpoint.directory import INDEX, TrainState, described, seal, state_json, step_directory
from trainer.checkpoint.retention import STAGING, commit, retire, sweep
from trainer.checkpoint.sharded_state import Snapshot, file_name, take_snapshot, write_snapshot
from trainer.checkpoint.tidying import clear, point
from trainer.distributed import from_first_rank
from trainer.events import Saved
from trainer.recipe.sections import CheckpointSection

Result = TypeVar("Result")


class Saver:
    """Save checkpoints of an engine. All ranks make one, and call `save` and `wait` together.

    texts: files to put beside the state, name -> content.
    """

    def __init__(self, engine: Any, directory: Path, settings: CheckpointSection, texts: Mapping[str, str]) -> None:
        self._engine, self._directory, self._settings, self._texts = engine, directory, settings, texts
        self._rank, self._world_size = dist.get_rank(), dist.get_world_size()
        # The watchdog ends a save that takes too long; the group need not.
        self._group = dist.new_group(backend="gloo", timeout=timedelta(days=1))
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._snapshot: Snapshot | None = None
        self._last: Future[Saved] | None = None
        self._unreported: deque[Future[Saved]] = deque()
        self._notes: list[str] = []  # on rank 0, in the order in which they came up
        self._reported_notes = 0

    def save(self, state: TrainState) -> None:
        """Begin to save the state that the engine has now, once the save before has ended."""
        began = time.monotonic()
        self.wait()
        self._snapshot = take_snapshot(self._engine, self._rank, self._snapshot)
        self._last = self._thread.submit(self._write, state, self._snapshot, time.monotonic() - began)
        self._unreported.append(self._last)

    def wait(self) -> Saved | None:
        """Return the outcome of the last save, once it has one; None where nothing was saved yet."""
        return self._last.result() if self._last else None

    def poll(self) -> Saved | None:
        """Return the outcome of the first save that has ended and was not returned before. Never waits."""
        return self._unreported.popleft().result() if self._unreported and self._unreported[0].done() else None

    def _write(self, state: TrainState, snapshot: Snapshot, stall: float) -> Saved:
        began = time.monotonic()
        final = step_directory(self._directory, state.step)
        size, problem, notes = self._write_together(state, snapshot, final)
        return Saved(
            path=final,
            step=state.step,
            stall_seconds=stall,
            seconds=time.monotonic() - began,
            bytes=size,
            problem=problem,
            untidy=notes,
        )

    def _write_together(
        self, state: TrainState, snapshot: Snapshot, final: Path
    ) -> tuple[int, str | None, tuple[str, ...]]:
        """Return size, problem and notes. Every rank takes part in every exchange."""
        first = self._rank == 0
        staging = self._directory / f"{STAGING}{state.step:08d}"
        problem = _attempt(lambda: self._begin(staging))[1] if first else None
        problem = cast(str | None, from_first_rank(problem, self._group))
        if problem:
            return 0, problem, ()
        part, problem = _attempt(lambda: self._write_part(snapshot, staging))
        parts: list[Any] | None = [None] * self._world_size if first else None
        dist.gather_object((part, problem), parts, group=self._group)
        outcome: tuple[int, str | None, tuple[str, ...]] = (0, problem, ())
        if parts is not None:
            size = None
            problem = next((f"rank {rank}: {text}" for rank, (_, text) in enumerate(parts) if text), None)
            if problem is None:
                size, problem = _attempt(
                    lambda: self._complete(state, snapshot, staging, final, [part for part, _ in parts])
                )
            if size is None:
                self._note(sweep(self._directory))  # it is of no use, and may be what fills the disk
            else:
                self._note(point(self._directory / "latest", final.name))
                self._note(retire(self._directory, final, self._settings))
            outcome = (size or 0, problem, tuple(self._notes[self._reported_notes :]))
            self._reported_notes = len(self._notes)
        return cast(tuple[int, str | None, tuple[str, ...]], from_first_rank(outcome, self._group))

    def _begin(self, staging: Path) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        self._note(sweep(self._directory))
        self._note(clear(staging))
        staging.mkdir()

    def _write_part(self, snapshot: Snapshot, staging: Path) -> dict[str, Any]:
        name = file_name(self._rank, self._world_size)
        if not staging.is_dir():
            raise OSError(f"{staging} is not to be seen here: `run` must lie on a file system that all hosts share")
        write_snapshot(snapshot, staging / name)
        return {"name": name, "described": described(staging / name), "index": snapshot.entry()}

    def _complete(
        self, state: TrainState, snapshot: Snapshot, staging: Path, final: Path, parts: list[dict[str, Any]]
    ) -> int:
        """Write the other files, seal and name the checkpoint; return its size in bytes."""
        files = {part["name"]: part["described"] for part in parts}
        index = {"facts": snapshot.facts, "files": {part["name"]: part["index"] for part in parts}}
        texts = {"state.json": state_json(state), INDEX: json.dumps(index) + "\n", **self._texts}
        for name, text in texts.items():
            write_atomically(staging / name, text.encode())
            files[name] = described(staging / name)
        size = seal(staging, files)
        self._note(commit(staging, final))
        return size

    def _note(self, lines: Iterable[str]) -> None:
        self._notes += [line for line in dict.fromkeys(lines) if line not in self._notes]


def _attempt(action: Callable[[], Result]) -> tuple[Result | None, str | None]:
    """Return the result and no problem, or no result and the problem."""
    try:
        return action(), None
    except (OSError, InputError) as error:
        return None, str(error)
