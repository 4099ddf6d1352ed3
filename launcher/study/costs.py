"""Record the hours, CPU time and machines of a study's trainings, as lines of costs.jsonl by attempt.

An attempt writes a line at its beginning, once a minute and at its end; the last readable one counts. A machine that
dies thus loses a minute, and a copy of the directory keeps the rest.
"""

import os
import platform
import secrets
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import psutil
import torch
from pydantic import BaseModel, ConfigDict

from shards.errors import InputError
from shards.files.read import read_regular

COSTS = "costs.jsonl"
_EVERY_SECONDS = 60.0


class Cost(BaseModel):
    """Cost of one attempt. attempt, machine: None in lines of an earlier release.  ended: it was not cut off."""

    model_config = ConfigDict(frozen=True, strict=True)

    run: str
    attempt: str | None = None
    wall_seconds: float
    cpu_seconds: float
    machine: str | None = None
    ended: bool = True


class Meter:
    """Write the cost of the block, an attempt at the training `run`, into costs.jsonl of `out`.

    Raises `InputError` at its beginning or end where that cannot be written; in between it tries again a minute later.
    """

    def __init__(self, out: Path, run: str, every: float = _EVERY_SECONDS) -> None:
        self._path, self._run, self._every = out / COSTS, run, every
        self._attempt, self._machine = secrets.token_hex(4), machine()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep_writing, name="costs", daemon=True)

    def __enter__(self) -> "Meter":
        self._began, self._used = time.monotonic(), _cpu_seconds_of_ended()
        self._write()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._write(ended=True)

    def _keep_writing(self) -> None:
        while not self._over.wait(self._every):
            try:
                self._write()
            except InputError:  # a full disk, or a file system that is away: the training reports it itself
                continue

    def _write(self, *, ended: bool = False) -> None:
        cost = Cost(
            run=self._run,
            attempt=self._attempt,
            wall_seconds=time.monotonic() - self._began,
            cpu_seconds=_cpu_seconds_of_ended() - self._used + (0.0 if ended else _cpu_seconds_of_running()),
            machine=self._machine,
            ended=ended,
        )
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with open(self._path, "a+b") as file:
                # A line that a kill has cut off is ended first.
                file.seek(max(file.seek(0, os.SEEK_END) - 1, 0))
                cut_off = file.read(1) not in (b"", b"\n")
                file.write(b"\n" * cut_off + cost.model_dump_json().encode() + b"\n")
        except OSError as error:
            raise InputError(f"{self._path} cannot be written ({error.strerror}): the same command goes on") from error


def read_costs(out: Path, runs: Sequence[str]) -> list[Cost]:
    """Return the last line of every attempt at one of `runs`; skip those that are cut off or of other runs."""
    path = out / COSTS
    found: dict[object, Cost] = {}
    for number, line in enumerate(read_regular(path).split(b"\n") if path.is_file() else []):
        try:
            cost = Cost.model_validate_json(line)
        except ValueError:
            continue
        if cost.run in runs:
            # A line of an earlier release is a whole attempt.
            found[cost.attempt or number] = cost
    return list(found.values())


def machine() -> str:
    """Describe this machine."""
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}, torch {torch.__version__}"
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} cores ({names[0] if names else platform.machine()}), torch {torch.__version__}"


def _cpu_seconds_of_ended() -> float:
    """Return the CPU time of all processes that this one, or one of those, has waited for."""
    times = os.times()
    return times.children_user + times.children_system


def _cpu_seconds_of_running() -> float:
    """Return the CPU time of all processes below this one, and of those they have waited for."""
    used = 0.0
    for process in psutil.Process().children(recursive=True):
        try:
            used += sum(process.cpu_times()[:4])  # user, system, and both of waited-for children
        except psutil.Error:  # it has just ended
            continue
    return used
