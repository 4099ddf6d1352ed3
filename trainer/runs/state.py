"""Judge from its records and the time how a run is doing; no process is asked."""

from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Literal

from trainer.runs.directory import RunDirectory
from trainer.runs.history import History
from trainer.runs.words import duration, number

#: A record is late after so many of the usual intervals, and so many seconds more.
_LATE, _GRACE_SECONDS = 3, 10

Phase = Literal["not begun", "beginning", "training", "evaluating", "silent", "finished", "stopped", "failed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """The state of a run. words: the phase as a sentence.  step: reached, as far as it is recorded.

    left_seconds: of the remaining steps, about; None where no steps are taken.
    """

    phase: Phase
    words: str
    step: int
    left_seconds: float | None = None


def state_of(run: RunDirectory, now: float) -> State:
    """Return the state of a run at `now`, a Unix time."""
    history, planned = run.history, run.planned
    if not history.records:
        begun = "its recipe is written, nothing is recorded" if run.recipe else "the directory holds no records"
        return State(phase="not begun", words=f"not begun: {begun} yet", step=0)
    start = history.starts[-1]
    step = max(history.step, start.step)
    age = max(now - history.last_time, 0.0) if history.last_time is not None else None
    since = duration(age) if age is not None else "an unknown time"
    if start.outcome is not None:
        return _ended(start.outcome, step, since)
    if planned is not None and step >= planned:
        if any(report and report.get("step") == step for report in run.evaluations().values()):
            return State(phase="finished", words=f"finished at step {step:,}; last record {since} ago", step=step)
        words = f"all steps are taken: evaluating, or silent, for {since}"
        return State(phase="evaluating", words=words, step=step)
    left = _left(run, step)
    if history.step <= start.step:
        words = f"beginning from step {step:,}: last record {since} ago, no step is logged yet"
        return State(phase="beginning", words=words, step=step, left_seconds=left)
    usual = _usual_interval(history)
    if age is not None and age <= _LATE * usual + _GRACE_SECONDS:
        return State(phase="training", words=f"training; last record {since} ago", step=step, left_seconds=left)
    every = run.count("training", "validate_every")
    if every is not None and step and step % every == 0 and history.validated_step != step:
        words = f"evaluating, or silent, for {since}: held-out stories of step {step:,}"
        return State(phase="evaluating", words=words, step=step, left_seconds=left)
    often = f" (usually a record every {duration(usual)})" if usual else ""
    return State(phase="silent", words=f"silent for {since}{often}: saving, hung or dead", step=step, left_seconds=left)


def _ended(outcome: str, step: int, since: str) -> State:
    if outcome == "finished":
        return State(phase="finished", words=f"finished at step {step:,}, {since} ago", step=step)
    if outcome == "stopped":
        words = f"stopped by a signal at step {step:,}, {since} ago: the same command goes on"
        return State(phase="stopped", words=words, step=step)
    return State(phase="failed", words=f"failed at step {step:,}, {since} ago: its output says why", step=step)


def _left(run: RunDirectory, step: int) -> float | None:
    """Return the seconds of the remaining steps at the recent pace, and of the validations between them."""
    history, planned = run.history, run.planned
    steps = sum(number(record.get("steps")) or 0.0 for record in history.recent)
    seconds = sum(
        (number(record.get("steps")) or 0.0) * (number(record.get("step_seconds")) or 0.0) for record in history.recent
    )
    if planned is None or not steps:
        return None
    left = (planned - step) * seconds / steps
    every = run.count("training", "validate_every")
    if every is not None and history.last_validation is not None:
        left += (planned // every - step // every) * (number(history.last_validation.get("seconds")) or 0.0)
    return left


def _usual_interval(history: History) -> float:
    """Return the seconds between train records: the median of the last ones; of a single one, the time of its steps."""
    last = history.times.values[-9:]
    if len(last) > 1:
        return median(after - before for before, after in pairwise(last))
    record = history.last_train
    return (number(record.get("steps")) or 0.0) * (number(record.get("step_seconds")) or 0.0)
