"""Kills at random moments: lives of one run, until it is finished, and what came of it against the undisturbed one."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from trainer.checkpoint.directory import step_directory, whole_checkpoints
from trainer.checkpoint.retention import STAGING
from trainer.checkpoint.sharded_state import model_weights
from trainer.telemetry.metrics import read_metrics

RANKS = 2
#: No life takes so long, and no rank outlives another by so much (seconds).
_LONGEST_LIFE, _LONGEST_ORPHAN = 600.0, 60.0
_POLL = 0.01
_AIMS = ("starting", "training", "saving", "evaluating")
#: Within how many seconds a start is hit, and how long training goes on before it is, on average.
_START, _MEAN_TRAINING = 10.0, 1.5


class Life:
    """The ranks of a run from one start to their end, started as a scheduler would: no launcher in between."""

    def __init__(self, run: Path, number: int, words: Sequence[str]) -> None:
        self.run = run
        self._notes = [run.parent / f"{run.name}-notes" / f"{number:04d}-{rank}.jsonl" for rank in range(RANKS)]
        self._notes[0].parent.mkdir(exist_ok=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(RANKS)}
        shared |= {"LOCAL_WORLD_SIZE": str(RANKS), "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
        self.began = time.monotonic()
        with open(run.parent / f"{run.name}.log", "ab") as log:
            self.ranks = [
                subprocess.Popen(
                    [sys.executable, "-m", "benchmarks.faults_rank", *words],
                    cwd=Path(__file__).resolve().parent.parent,
                    env=os.environ | shared | {"RANK": str(r), "LOCAL_RANK": str(r), "D2TV_NOTES": str(notes)},
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
                for r, notes in enumerate(self._notes)
            ]

    def alive(self) -> bool:
        return all(rank.poll() is None for rank in self.ranks)

    def attempts(self) -> int:
        """Steps that rank 0 has begun in this life."""
        notes = self._notes[0]
        return notes.read_bytes().count(b"\n") if notes.is_file() else 0

    def phase(self, steps: int) -> str:
        """Guess the phase of a run from its files."""
        if any((self.run / "checkpoints").glob(f"{STAGING}*")):
            return "saving"
        if step_directory(self.run / "checkpoints", steps).exists():
            return "evaluating"
        return "training" if self.attempts() else "starting"

    def until_gone(self) -> float:
        """Wait until every rank has ended; the seconds that took. What still lives after a minute is killed."""
        began = time.monotonic()
        for rank in self.ranks:
            try:
                rank.wait(max(0.1, _LONGEST_ORPHAN - (time.monotonic() - began)))
            except subprocess.TimeoutExpired:
                rank.kill()
                rank.wait()
        return time.monotonic() - began

    def close(self) -> None:
        for rank in self.ranks:
            rank.kill()
            rank.wait()


@dataclass(kw_only=True, slots=True)
class Kills:
    """Counts over all runs. Times in seconds, one for each start or kill."""

    phases: Counter[str] = field(default_factory=Counter)
    unusable: list[str] = field(default_factory=list)
    lost: int = 0
    repeated: int = 0
    runs: int = 0
    unequal: int = 0
    restarts: list[float] = field(default_factory=list)
    takedowns: list[float] = field(default_factory=list)  # of kills after all ranks had joined
    takedowns_starting: list[float] = field(default_factory=list)  # of those before: ranks do not know each other yet

    @property
    def count(self) -> int:
        return sum(self.phases.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """The undisturbed run. slots: attempt -> those of all ranks, sorted."""

    losses: dict[int, Any]
    weights: dict[str, torch.Tensor]
    slots: dict[int, list[int]]
    steps: int


def undisturbed(run: Path, words: Sequence[str], steps: int) -> Reference:
    """Train without a kill. Raises `RuntimeError` where even that fails."""
    life = Life(run, 0, words)
    if any(rank.wait(_LONGEST_LIFE) for rank in life.ranks):
        raise RuntimeError(f"the undisturbed run failed: see {run}.log")
    weights = model_weights(whole_checkpoints(run / "checkpoints")[0])
    return Reference(losses=_losses(run), weights=weights, slots=_slots(run), steps=steps)


def disturbed(
    run: Path, words: Sequence[str], reference: Reference, kills: Kills, most: int, draw: random.Random
) -> None:
    """One run to its end, killed and started again until it gets there or `most` kills were made in all."""
    number = 0
    while True:
        life = Life(run, number, words)
        number += 1
        try:
            before = kills.phases["starting"]
            killed = kills.count < most and _kill_somewhere(life, reference.steps, kills, draw)
            if killed:
                starting = kills.phases["starting"] > before
                (kills.takedowns_starting if starting else kills.takedowns).append(life.until_gone())
                continue
            for rank in life.ranks:
                rank.wait(_LONGEST_LIFE)
            if any(rank.returncode for rank in life.ranks):
                codes = [rank.returncode for rank in life.ranks]
                kills.unusable.append(f"{run.name}, start {number}: exit codes {codes}")
                return
            break
        finally:
            life.close()
    kills.runs += 1
    slots = _slots(run)
    for attempt, expected in reference.slots.items():
        found, wanted = Counter(slots.get(attempt, [])), Counter(expected)
        kills.lost += (wanted - found).total()
        kills.repeated += (found - wanted).total()
    weights = model_weights(whole_checkpoints(run / "checkpoints")[0])
    same = _losses(run) == reference.losses and all(torch.equal(weights[k], v) for k, v in reference.weights.items())
    kills.unequal += not same


def _kill_somewhere(life: Life, steps: int, kills: Kills, draw: random.Random) -> bool:
    """Let it live for a random while, then kill one rank or all. False where it ended before."""
    aim = draw.choices(_AIMS, (4, 8, 7, 1))[0]
    started = False
    after: float | None = draw.uniform(0, _START) if aim == "starting" else None
    deadline = time.monotonic() + _LONGEST_LIFE
    while life.alive() and time.monotonic() < deadline:
        now = time.monotonic() - life.began
        if not started and life.attempts() > 1:
            started = True
            kills.restarts.append(now)
            if aim == "training":
                after = now + draw.expovariate(1 / _MEAN_TRAINING)
        if after is None and started and aim in ("saving", "evaluating") and life.phase(steps) == aim:
            after = now + draw.uniform(0, 0.05 if aim == "saving" else 3.0)
        if after is not None and now >= after:
            kills.phases[life.phase(steps)] += 1
            for victim in draw.choice(([0], [1], [0, 1])):
                life.ranks[victim].send_signal(signal.SIGKILL)
            return True
        time.sleep(_POLL)
    return False


def _losses(run: Path) -> dict[int, Any]:
    records = read_metrics(run / "metrics.jsonl")
    return {record["step"]: (record["loss"], record["nll"]) for record in records if record["kind"] == "train"}


def _slots(run: Path) -> dict[int, list[int]]:
    """Attempt -> the slots that counted in the end."""
    lives: dict[str, dict[int, list[int]]] = {}
    for path in sorted((run.parent / f"{run.name}-notes").glob("*.jsonl")):
        life = lives.setdefault(path.name.split("-")[0], {})
        for line in path.read_text(encoding="utf-8").splitlines():
            attempt, slots = json.loads(line)
            life[attempt] = [*life.get(attempt, []), *slots]
    return lineage(list(lives.values()))


def lineage(lives: Sequence[dict[int, list[int]]]) -> dict[int, list[int]]:
    """Of the attempts of all lives, in order, those that the last state descends from: slots by attempt.

    A life begins where its checkpoint was, so all that was tried from there on before is forgotten. One that begins
    later than anything was tried leaves a gap.
    """
    counted: dict[int, list[int]] = {}
    for life in lives:
        if life:
            begin = min(life)
            counted = {attempt: slots for attempt, slots in counted.items() if attempt < begin} | life
    return {attempt: sorted(slots) for attempt, slots in counted.items()}
