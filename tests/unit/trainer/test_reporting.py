"""Test what rank 0 tells of a run's troubles: console, metrics.jsonl and Prometheus say the same."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from shards.format.index import Corpus
from tests.support.intervals import INTERVAL, LANGUAGES, run_facts, saved
from tests.support.tiny import make_corpus
from trainer.events import (
    Ended,
    Event,
    Logged,
    LossSpiked,
    Notice,
    Observers,
    RolledBack,
    SaveBegan,
    Started,
    TrainingEnded,
    Validated,
)
from trainer.telemetry.console import Console
from trainer.telemetry.exporter import Exporter
from trainer.telemetry.files import RunFiles
from trainer.telemetry.metrics import read_metrics
from trainer.telemetry.prometheus.run_metrics import RunMetrics
from trainer.telemetry.records import Recorder
from trainer.telemetry.spikes import SpikeObserver


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("two") / "corpus", languages=LANGUAGES)


class FakeEndpoint:
    """Serves nothing."""

    def __init__(self, run: RunMetrics) -> None:
        self.run, self.node = run, None

    def serve(self) -> None: ...

    def close(self, *, keep_target: bool) -> None: ...


class Reporting:
    """The observers of rank 0, and a sink of the test's own."""

    def __init__(self, run: Path, corpus: Corpus) -> None:
        self.registry = CollectorRegistry()
        self.events: list[Event] = []
        observers = Observers([RunFiles(run, None, corpus.story_keys)])
        observers.add(Recorder(LANGUAGES, 1e10, observers.emit), Console(100, 0))
        endpoint: Any = FakeEndpoint(RunMetrics(self.registry, run_facts(corpus)))
        observers.add(Exporter(endpoint, LANGUAGES), SpikeObserver(LANGUAGES, 6.0, observers.emit), self)
        self.emit = observers.emit

    def notify(self, event: Event) -> None:
        self.events.append(event)


@contextmanager
def reporting_in(tmp_path: Path, corpus: Corpus) -> Iterator[Reporting]:
    """Not a fixture: a console speaks to the standard output of its beginning, which must be the test's."""
    reporting = Reporting(tmp_path, corpus)
    yield reporting
    reporting.emit(TrainingEnded(step=1))
    reporting.emit(Ended(step=1, outcome="finished"))


def log(reporting: Reporting, step: int, loss: float, nats: list[float], *idle: str) -> None:
    """An interval of 10 tokens a direction: english>english, urdu>english, english>urdu, urdu>urdu."""
    nats_TS, tokens_TS = np.reshape(nats, (2, 2)), np.full((2, 2), 10.0)
    reporting.emit(
        Logged(
            step=step,
            interval=dataclasses.replace(INTERVAL, total_loss=loss, nats_TS=nats_TS, tokens_TS=tokens_TS),
            skipped=0,
            learning_rate=1e-3,
            gradient_norm=1.0,
            loss_scale=None,
            scalars={},
            idle=frozenset(idle),
            unreadable=0,
            groups=4 * step,
        )
    )


def records(tmp_path: Path, kind: str) -> list[dict[str, Any]]:
    return [record for record in read_metrics(tmp_path / "metrics.jsonl") if record["kind"] == kind]


def test_a_loss_that_jumps_is_told_of_with_its_directions(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with reporting_in(tmp_path, corpus) as reporting:
        for step in range(1, 13):
            log(reporting, step, 8.0 + 0.01 * (step % 3), [20.0, 30.0, 40.0, 25.0])
        log(reporting, 13, 12.0, [20.0, 30.0, 90.0, 25.0])
        (spike,) = records(tmp_path, "spike")
        assert (spike["step"], spike["loss"]) == (13, 12.0)
        assert spike["directions"][0]["direction"] == "english>urdu"
        assert spike["directions"][0]["nll"] == pytest.approx(9.0)
        assert spike["directions"][0]["usual"] == pytest.approx(4.0)
        assert spike["time"] > 1.6e9
        assert "step 13: the loss jumped from 8.01" in capsys.readouterr().out
        assert reporting.registry.get_sample_value("d2tv_loss_spikes_total") == 1


def test_a_term_that_enters_the_loss_is_no_jump(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing = [0.0] * 4
    with reporting_in(tmp_path, corpus) as reporting:
        for step in range(1, 13):
            log(reporting, step, 1.0, nothing, "contrast")
        for step in range(13, 23):
            log(reporting, step, 30.0, nothing)
        assert not records(tmp_path, "spike"), "its warm-up has ended"
        log(reporting, 23, 60.0, nothing)
        assert [spike["step"] for spike in records(tmp_path, "spike")] == [23]
        assert "the loss jumped from 30.000 to 60.000" in capsys.readouterr().out


def test_an_interval_records_what_a_step_of_it_cost(corpus: Corpus, tmp_path: Path) -> None:
    with reporting_in(tmp_path, corpus) as reporting:
        log(reporting, 10, 8.0, [20.0, 30.0, 40.0, 25.0])
        (record,) = records(tmp_path, "train")
        assert (record["step_seconds"], record["step_flops"]) == (0.5, 2.5e8)  # 10 steps: 5 s, 2.5 GFLOP


def test_a_checkpoint_that_fails_is_counted_and_the_last_good_one_stays_the_newest(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with reporting_in(tmp_path, corpus) as reporting:
        reporting.emit(saved(8))
        reporting.emit(saved(16, "No space left on device"))
        assert [
            (record["step"], record["committed"], record["problem"]) for record in records(tmp_path, "checkpoint")
        ] == [
            (8, True, None),
            (16, False, "No space left on device"),
        ]
        said = capsys.readouterr().out
        assert "no checkpoint of step 16 could be written, training goes on: No space left on device" in said
        registry = reporting.registry
        assert registry.get_sample_value("d2tv_checkpoint_failures_total") == 1
        assert registry.get_sample_value("d2tv_checkpoint_step") == 8
        assert registry.get_sample_value("d2tv_checkpoint_stall_seconds_total") == 0.5


def test_a_return_to_a_checkpoint_forgets_what_came_after_it_and_is_told(corpus: Corpus, tmp_path: Path) -> None:
    with reporting_in(tmp_path, corpus) as reporting:
        for step in range(1, 6):
            log(reporting, step, 8.0, [20.0, 30.0, 40.0, 25.0])
            if step == 3:
                reporting.emit(SaveBegan(step=step))
        reporting.emit(RolledBack(step=3, from_step=5, skipped=0))
        log(reporting, 4, 8.0, [20.0, 30.0, 40.0, 25.0])
        reporting.emit(SaveBegan(step=4))
        assert [record["step"] for record in records(tmp_path, "train")] == [1, 2, 3, 4]
        (rollback,) = records(tmp_path, "rollback")
        assert (rollback["step"], rollback["from_step"]) == (3, 5)
        # What was counted in steps 4 and 5 of the first time is in no list.
        assert [record["examples"]["english>english"] for record in records(tmp_path, "directions")] == [24.0, 8.0]
        assert reporting.registry.get_sample_value("d2tv_rollbacks_total") == 1
        assert reporting.registry.get_sample_value("d2tv_step") == 3


def test_a_logged_line_holds_what_a_person_would_look_for(corpus: Corpus, tmp_path: Path) -> None:
    with reporting_in(tmp_path, corpus) as reporting:
        log(reporting, 10, 8.0, [20.0, 30.0, 40.0, 25.0])
        (line,) = records(tmp_path, "train")
        assert line["nll_by_target"] == {"mms": {"english": 2.0, "urdu": 2.5}, "mxls": {"english": 3.0, "urdu": 4.0}}
        assert line["mfu"] == pytest.approx(0.05)
        assert line["target_tokens_per_second"] == pytest.approx(8.4)
        assert line["examples_per_second"] == pytest.approx(2.4)
        assert (line["slowest_rank"], line["slowest_rank_lag_seconds"]) == (1, pytest.approx(0.1))
        assert line["data_wait_share"] == pytest.approx(0.1)


def test_every_direction_is_listed_once(corpus: Corpus, tmp_path: Path) -> None:
    with reporting_in(tmp_path, corpus) as reporting:
        for step in (10, 20):
            log(reporting, step, 8.0, [20.0, 30.0, 40.0, 25.0])
        reporting.emit(
            Validated(
                step=20,
                nll={"mms": 3.0},
                by_target={"mms": (2.5, float("nan"))},
                measured={"kd_distance": 0.25, "kd_floor": 0.125},
                unreadable=0,
                seconds=1.5,
            )
        )
        reporting.emit(SaveBegan(step=20))  # nothing came since
        (listed,) = records(tmp_path, "directions")
        assert listed["step"] == 20
        assert listed["examples"] == {"english>english": 16.0, "english>urdu": 8.0}
        assert listed["nats"] == {"english>english": 40.0, "english>urdu": 80.0}
        assert listed["tokens"] == {"english>english": 20.0, "english>urdu": 20.0}
        (validation,) = records(tmp_path, "validation")
        assert validation["nll"] == {"mms": 3.0}
        assert validation["nll_by_target"] == {"mms": {"english": 2.5}}
        assert (validation["kd_distance"], validation["kd_floor"]) == (0.25, 0.125)
        registry = reporting.registry
        assert registry.get_sample_value("d2tv_objective_scalar", {"name": "kd_floor"}) == 0.125


def test_a_run_says_how_it_ended(corpus: Corpus, tmp_path: Path) -> None:
    with reporting_in(tmp_path, corpus):
        pass
    (end,) = records(tmp_path, "end")
    assert (end["step"], end["outcome"]) == (1, "finished")


def test_a_sink_of_ones_own_is_told_of_everything(corpus: Corpus, tmp_path: Path) -> None:
    with reporting_in(tmp_path, corpus) as reporting:
        for step in range(1, 14):
            log(reporting, step, 8.0 if step < 13 else 12.0, [20.0, 30.0, 40.0, 25.0])
        reporting.emit(Notice(text="mine"))
    kinds = [type(event) for event in reporting.events]
    assert kinds.count(Logged) == 13
    assert kinds.count(LossSpiked) == 1
    assert kinds[-1] is Ended


def test_starts_are_numbered(corpus: Corpus, tmp_path: Path) -> None:
    with reporting_in(tmp_path, corpus) as reporting:
        reporting.emit(Started(step=7, steps=100, skipped=0, world_size=2, restarts=3, checkpoint_bytes=1))
        (start,) = records(tmp_path, "start")
        assert (start["step"], start["world_size"], start["restarts"]) == (7, 2, 3)
