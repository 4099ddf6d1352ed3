"""A sink of one's own is told of everything that happens in a training, without a line of the loop."""

from pathlib import Path

from shards.format.index import Corpus
from tests.support.harness import run_job
from tests.support.tiny import tiny_overrides
from trainer.events import (
    Logged,
    PhaseBegan,
    Recorded,
    SaveBegan,
    Saved,
    Started,
    StepSkipped,
    StepTaken,
    TrainingEnded,
)


def test_a_sink_is_told_of_every_step_save_and_end(tiny_corpus: Corpus, tmp_path: Path) -> None:
    overrides = [*tiny_overrides(tiny_corpus.directory, tmp_path / "run"), "batch.groups_per_micro_batch=2"]
    ranks = run_job(
        tmp_path / "out", world_size=2, overrides=overrides, steps=3, poisoned=[(1, 1)], save_at=[2], save=False
    )
    events = [[event for event in rank["events"] if not isinstance(event, PhaseBegan)] for rank in ranks]
    happened = [Started, StepTaken, Logged, StepSkipped, StepTaken, Logged, SaveBegan, Saved, TrainingEnded]
    assert [type(event) for event in events[1]] == happened
    # Rank 0 makes records of them, for metrics.jsonl and the trackers.
    assert [type(event) for event in events[0] if not isinstance(event, Recorded)] == happened
    records = [event.record["kind"] for event in events[0] if isinstance(event, Recorded)]
    assert records == ["start", "train", "train", "directions", "checkpoint"]
    taken = [event for event in events[1] if isinstance(event, StepTaken | StepSkipped)]
    assert [(event.step, event.skipped) for event in taken] == [(1, 0), (1, 1), (2, 1)]
