"""Saves checkpoints while training goes on: the state is copied out, and a thread of every rank writes its part.

    every rank:  copy the state (training waits)  ->  thread: write, sync and hash its own file
    rank 0:      gather what was written  ->  the other files, the manifest  ->  rename  ->  drop what is not kept

One save is under way at a time, and one copy of the state in memory: the next save waits for the last. The threads
talk in a process group of their own, so that their messages never mix with the training's.
"""

import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

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


class Saver:
    """All ranks make one, and call `save` and `wait` together.

    texts: files to put beside the state, name -> content.
    """

    def __init__(self, engine: Any, directory: Path, settings: CheckpointSection, texts: Mapping[str, str]) -> None:
        self._engine, self._directory, self._settings, self._texts = engine, directory, settings, texts
        self._rank, self._world_size = dist.get_rank(), dist.get_world_size()
        # The watchdog knows when a save takes too long; the group need not.
        self._group = dist.new_group(backend="gloo", timeout=timedelta(days=1))
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._snapshot: Snapshot | None = None
        self._last: Future[Saved] | None = None
        self._untold: deque[Future[Saved]] = deque()
        self._untidy: list[str] = []  # on rank 0, in the order in which they were met
        self._said = 0

    def save(self, state: TrainState) -> None:
        """Begin to save the state that the engine has now, once the save before has ended."""
        began = time.monotonic()
        self.wait()
        self._snapshot = take_snapshot(self._engine, self._rank, self._snapshot)
        stall = time.monotonic() - began
        self._last = self._thread.submit(self._write, state, stall)
        self._untold.append(self._last)

    def wait(self) -> Saved | None:
        """The outcome of the last save, once it has one; None where nothing was saved yet."""
        return self._last.result() if self._last else None

    def news(self) -> Saved | None:
        """The outcome of the first save that has ended and was not told of before. Waits for nothing."""
        return self._untold.popleft().result() if self._untold and self._untold[0].done() else None

    def _write(self, state: TrainState, stall: float) -> Saved:
        began = time.monotonic()
        final = step_directory(self._directory, state.step)
        staging = self._directory / f"{STAGING}{state.step:08d}"
        size, problem, untidy = self._write_together(state, staging, final)
        return Saved(
            path=final,
            step=state.step,
            stall_seconds=stall,
            seconds=time.monotonic() - began,
            bytes=size,
            problem=problem,
            untidy=untidy,
        )

    def _write_together(self, state: TrainState, staging: Path, final: Path) -> tuple[int, str | None, tuple[str, ...]]:
        """Return the new checkpoint's size, why there is none, and what could not be tidied. Every rank goes through
        every exchange.
        """
        first = self._rank == 0
        problem = self._attempt(lambda: self._begin(staging)) if first else None
        problem = cast(str | None, from_first_rank(problem, self._group))
        if problem:
            return 0, problem, ()
        part: dict[str, Any] = {}
        assert self._snapshot is not None
        snapshot, name = self._snapshot, file_name(self._rank, self._world_size)

        def write_part() -> None:
            if not staging.is_dir():
                raise OSError(f"{staging} is not to be seen here: `run` must lie on a file system that all hosts share")
            write_snapshot(snapshot, staging / name)
            part.update(name=name, described=described(staging / name), index=snapshot.entry())

        problem = self._attempt(write_part)
        parts: list[Any] | None = [None] * self._world_size if first else None
        dist.gather_object((problem, part), parts, group=self._group)
        result: tuple[int, str | None, tuple[str, ...]] = (0, problem, ())
        if parts is not None:
            size, problem = 0, next((f"rank {rank}: {text}" for rank, (text, _) in enumerate(parts) if text), None)
            if problem is None:
                size, problem = self._finish(state, staging, final, [part for _, part in parts])
            result = (size, problem, tuple(self._untidy[self._said :]))
            self._said = len(self._untidy)
        return cast(tuple[int, str | None, tuple[str, ...]], from_first_rank(result, self._group))

    def _begin(self, staging: Path) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        self._note(sweep(self._directory))
        self._note(clear(staging))
        staging.mkdir()

    def _note(self, lines: Iterable[str]) -> None:
        """Keep what could not be tidied, for `Saved`, unless it was said before."""
        self._untidy += [line for line in dict.fromkeys(lines) if line not in self._untidy]

    def _finish(
        self, state: TrainState, staging: Path, final: Path, parts: list[dict[str, Any]]
    ) -> tuple[int, str | None]:
        """Rank 0, when all parts are written: the checkpoint's size, 0 where it does not exist; what went wrong."""
        sizes: list[int] = []

        def complete() -> None:
            assert self._snapshot is not None
            files = {part["name"]: part["described"] for part in parts}
            index = {"facts": self._snapshot.facts, "files": {part["name"]: part["index"] for part in parts}}
            texts = {"state.json": state_json(state), INDEX: json.dumps(index) + "\n", **self._texts}
            for name, text in texts.items():
                write_atomically(staging / name, text.encode())
                files[name] = described(staging / name)
            size = seal(staging, files)
            self._note(commit(staging, final))
            sizes.append(size)

        problem = self._attempt(complete)
        if sizes:
            self._note(point(self._directory / "latest", final.name))
            self._note(retire(self._directory, final, self._settings))
        else:
            # What was written is of no use, and may be what fills the disk.
            self._note(sweep(self._directory))
        return sum(sizes), problem

    @staticmethod
    def _attempt(action: Callable[[], None]) -> str | None:
        try:
            action()
        except (OSError, InputError) as error:
            return str(error)
        return None
