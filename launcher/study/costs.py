"""Record what a study's trainings take: hours, CPU time and machines, in lines of costs.jsonl by attempt.

An attempt writes a line when it begins, one a minute, and one at its end; the last that can be read counts. So a
machine that dies takes a minute of its figures with it, and a copy of the directory goes on with the rest.
"""

import json
import os
import platform
import resource
import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import psutil
import torch

from shards.errors import InputError
from shards.files.read import parse_json, read_regular

COSTS = "costs.jsonl"
_EVERY_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Of one attempt at a training. machine: None where an earlier release wrote it. ended: it was not cut off."""

    run: str
    wall_seconds: float
    cpu_seconds: float
    machine: str | None = None
    ended: bool = True


class Meter:
    """Writes what an attempt at the training `run` takes, from `with` to its end, into costs.jsonl of `out`.

    Raises `InputError` at the beginning or end where that cannot be written; in between it tries again a minute later.
    """

    def __init__(self, out: Path, run: str, every: float = _EVERY_SECONDS) -> None:
        self._path, self._run, self._every = out / COSTS, run, every
        self._attempt = secrets.token_hex(4)
        self._machine = machine()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep_writing, name="costs", daemon=True)

    def __enter__(self) -> "Meter":
        self._began, self._used = time.monotonic(), _cpu_seconds_of_the_past()
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
            except InputError:  # a full disk, or a file system that is away: the training tells of it itself
                continue

    def _write(self, *, ended: bool = False) -> None:
        used = _cpu_seconds_of_the_past() - self._used + (0.0 if ended else _cpu_seconds_of_the_living())
        line = {
            "run": self._run,
            "attempt": self._attempt,
            "wall_seconds": time.monotonic() - self._began,
            "cpu_seconds": used,
            "machine": self._machine,
            "ended": ended,
        }
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with open(self._path, "a+b") as file:
                # Behind a line that a kill has cut off a new one begins.
                size = file.seek(0, os.SEEK_END)
                file.seek(max(size - 1, 0))
                begins = size == 0 or file.read(1) == b"\n"
                file.write((b"" if begins else b"\n") + json.dumps(line).encode() + b"\n")
        except OSError as error:
            raise InputError(f"{self._path} cannot be written ({error.strerror}): the same command goes on") from error


def read_costs(out: Path, runs: Sequence[str]) -> list[Cost]:
    """Return every attempt at one of `runs` that costs.jsonl knows; lines that are cut off or of others are none."""
    path = out / COSTS
    found: dict[object, Cost] = {}
    for number, line in enumerate(read_regular(path).split(b"\n") if path.is_file() else []):
        try:
            record = parse_json(line)
        except ValueError:
            continue
        if not isinstance(record, dict) or record.get("run") not in runs:
            continue
        if not all(type(record.get(key)) in (int, float) for key in ("wall_seconds", "cpu_seconds")):
            continue
        attempt, where = record.get("attempt"), record.get("machine")
        # A line of an earlier release is a whole attempt.
        found[attempt if isinstance(attempt, str) else number] = Cost(
            run=record["run"],
            wall_seconds=record["wall_seconds"],
            cpu_seconds=record["cpu_seconds"],
            machine=where if isinstance(where, str) else None,
            ended=record.get("ended") is not False,
        )
    return list(found.values())


def machine() -> str:
    """Describe this machine in words."""
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}, torch {torch.__version__}"
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} cores ({names[0] if names else platform.machine()}), torch {torch.__version__}"


def _cpu_seconds_of_the_past() -> float:
    """Of all processes that this one has waited for, and theirs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _cpu_seconds_of_the_living() -> float:
    """Of all processes below this one, with what they have waited for."""
    used = 0.0
    for process in psutil.Process().children(recursive=True):
        try:
            times = process.cpu_times()
        except psutil.Error:  # it has just ended
            continue
        used += times.user + times.system + times.children_user + times.children_system
    return used
