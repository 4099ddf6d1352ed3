"""A trainee of `benchmarks.step` in a process of its own: built, timed when it is its turn, gone with all its memory.

Processes take turns, so that two contenders never share the machine, and what slows it meets both.
"""

import contextlib
import multiprocessing
import os
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from benchmarks.step_shapes import Articles, batch_of, plain_rows, story_rows, vocabulary
from benchmarks.step_trainees import LABELS, Ours, Parts, Plain, Setup, settings_of
from shards.batch.fields import picture_side
from shards.batch.types import Batch
from trainer.ranks import Ranks

_LONGEST = 3600.0  # seconds after which an answer will not come any more


class TraineeError(Exception):
    """A trainee cannot be measured; the message says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """One turn's work: `steps` batches of a kind, from the `first`-th on.

    batches: full, real, stories, languages_4, languages_44.  variant: see `Ours.train`.
    apart: on CUDA, wait for the device between a step's parts.
    """

    batches: str
    variant: str = "d2tv"
    first: int = 0
    steps: int = 1
    apart: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """Times of a turn. flops: of the training of what was real."""

    examples: int
    wall: float
    cpu: float
    flops: int
    parts: Parts
    peak_bytes: int  # of memory, since the process began (of the device's, on CUDA)

    @property
    def speed(self) -> float:
        """Examples a second."""
        return self.examples / self.wall


class Trainee:
    """The parent's end."""

    def __init__(self, process: BaseProcess, connection: Connection) -> None:
        self._process, self._connection = process, connection

    def ask(self, turn: Turn) -> None:
        """Begin a turn; `answer` waits for its end."""
        try:
            self._connection.send(turn)
        except OSError as error:
            raise TraineeError(f"its process ended with {self._process.exitcode}") from error

    def answer(self) -> Timing:
        try:
            if not self._connection.poll(_LONGEST):
                raise TraineeError(f"no answer in {_LONGEST:.0f} s")
            answer = self._connection.recv()
        except (EOFError, OSError) as error:
            self._process.join(10)
            raise TraineeError(_how_it_ended(self._process.exitcode)) from error
        if isinstance(answer, str):
            raise TraineeError(answer)
        assert isinstance(answer, Timing)
        return answer

    def take(self, turn: Turn) -> Timing:
        self.ask(turn)
        return self.answer()


@contextmanager
def trainee(kind: str, setup: Setup, threads: int, ranks: Ranks | None = None, port: int = 0) -> Iterator[Trainee]:
    """kind: ours or plain. ranks, port: of the group it belongs to; a group of its own where None."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, kind, setup, threads, ranks, port), daemon=True)
    process.start()
    theirs.close()
    try:
        yield Trainee(process, ours)
    finally:
        with contextlib.suppress(OSError):
            ours.send(None)
        process.join(30)
        if process.is_alive():
            process.kill()
            process.join()
        ours.close()


def measured_in_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return `function(*arguments)` of a process that has done nothing before. `TraineeError` where it dies."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_call, args=(theirs, function, arguments), daemon=True)
    process.start()
    theirs.close()
    try:
        if not ours.poll(_LONGEST):
            raise TraineeError(f"no answer in {_LONGEST:.0f} s")
        answer = ours.recv()
    except (EOFError, OSError) as error:
        process.join(10)
        raise TraineeError(_how_it_ended(process.exitcode)) from error
    finally:
        process.kill()
        process.join()
    if isinstance(answer, _Failure):
        raise TraineeError(answer.problem)
    return answer


@dataclass(frozen=True, slots=True)
class _Failure:
    problem: str


def _call(connection: Connection, function: Callable[..., Any], arguments: Sequence[Any]) -> None:
    try:
        connection.send(function(*arguments))
    except (RuntimeError, MemoryError) as error:  # torch's allocator raises the first
        connection.send(_Failure(_last_line(error)))


def _serve(connection: Connection, kind: str, setup: Setup, threads: int, ranks: Ranks | None, port: int) -> None:
    """The child: builds its trainee, then answers every `Turn` with a `Timing` or, in words, why it cannot."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what DeepSpeed announces would stand between the tables
    torch.set_num_threads(threads)
    if ranks is not None:
        numbers = {"RANK": ranks.rank, "LOCAL_RANK": ranks.local_rank, "WORLD_SIZE": ranks.world_size}
        os.environ |= {name: str(number) for name, number in numbers.items()}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    ranks = ranks or Ranks(rank=0, local_rank=0, world_size=1)
    built: Ours | Plain | None = None
    while (turn := _next_turn(connection)) is not None:
        try:
            built = built or (Ours(setup, ranks) if kind == "ours" else Plain(setup))
            connection.send(_time(built, setup, turn, ranks.rank))
        except (RuntimeError, MemoryError, ValueError, AssertionError) as error:
            traceback.print_exc()
            connection.send(_last_line(error))
    # DeepSpeed's and gloo's threads need not be waited for.
    os._exit(0)


def _next_turn(connection: Connection) -> Turn | None:
    """None when there is no more to do, or nobody to do it for."""
    try:
        turn = connection.recv()
    except EOFError:
        return None
    assert turn is None or isinstance(turn, Turn)
    return turn


def _time(built: Ours | Plain, setup: Setup, turn: Turn, rank: int) -> Timing:
    batches = [make_batch(setup, turn.batches, turn.first + step, rank) for step in range(turn.steps)]
    flops = sum(built.flops(batch, turn.variant) for batch in batches)
    cuda = setup.device == "cuda"
    if cuda:
        torch.cuda.synchronize()
    parts, cpu, began = Parts(), time.process_time(), time.perf_counter()
    for batch in batches:
        parts += built.train(batch, turn.variant, turn.apart)
    if cuda:
        torch.cuda.synchronize()
    return Timing(
        examples=sum(map(len, batches)),
        wall=time.perf_counter() - began,
        cpu=time.process_time() - cpu,
        flops=flops,
        parts=parts,
        peak_bytes=torch.cuda.max_memory_allocated() if cuda else peak_bytes(),
    )


@lru_cache(maxsize=64)
def make_batch(setup: Setup, kind: str, number: int, rank: int = 0) -> Batch:
    """Batch `number` of a kind, the same for everyone. Four times the rows where it is made of stories."""
    seed = 1000 * number + rank
    regime = kind if kind in ("full", "real") else "real"
    articles = Articles(regime, setup.lengths, seed)
    if kind == "stories":
        rows = story_rows(articles, setup.rows)
    elif kind.startswith("languages_"):
        # The same lengths whatever the number of languages, the names in turn.
        rows = plain_rows(articles, setup.rows, int(kind.removeprefix("languages_")), first_story=number * setup.rows)
    else:
        rows = plain_rows(articles, setup.rows)
    needs = settings_of(setup.objective).needs if setup.objective else frozenset()
    return batch_of(
        rows,
        vocabulary(setup.shape),
        seed,
        source_summaries="source_summary" in needs,
        picture_side=picture_side(needs),
        labels=len(LABELS) if "label" in needs else 0,
    )


def peak_bytes() -> int:
    """The most memory this process has held. (getrusage's figure begins with that of the process that started it.)"""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"


def _how_it_ended(code: int | None) -> str:
    return "its process was killed, probably for memory" if code == -9 else f"its process ended with {code}"
