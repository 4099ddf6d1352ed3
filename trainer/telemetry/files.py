"""Keep metrics.jsonl and unreadable.jsonl of a run. Rank 0 only."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

from trainer.events import Event, ExamplesUnreadable, Recorded, RolledBack
from trainer.telemetry.metrics import MetricsLog


class RunFiles:
    """Write a run's records as they are made.

    resume_step: that the run resumes from; None where it begins.  story_keys: read them of the corpus; called when the
    first example is unreadable.
    """

    def __init__(self, run: Path, resume_step: int | None, story_keys: Callable[[], Sequence[str]]) -> None:
        self._metrics, self._unreadable = (
            MetricsLog(run / name, resume_step) for name in ("metrics.jsonl", "unreadable.jsonl")
        )
        self._read_story_keys = story_keys

    @property
    def starts(self) -> int:
        """Return how many starts of the run were on record when this one began."""
        return self._metrics.starts

    @cached_property
    def _story_keys(self) -> Sequence[str]:
        return self._read_story_keys()

    def notify(self, event: Event) -> None:
        match event:
            case Recorded(record=record):
                if record["kind"] != "evaluation":  # it has a file of its own
                    self._metrics.write(record)
                if record["kind"] == "end":
                    self._metrics.close()
                    self._unreadable.close()
            case ExamplesUnreadable():
                for one in event.found:
                    self._unreadable.write(
                        {"kind": "unreadable", "step": event.step, **asdict(one), "story": self._story_keys[one.story]}
                    )
            case RolledBack():
                self._metrics.rewind(event.step)
                self._unreadable.rewind(event.step)
