"""What rank 0 tells of a run's troubles: console, metrics.jsonl and Prometheus say the same."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.unit.trainer.test_exporter import INTERVAL, saved
from trainer.console import Console
from trainer.metrics import MetricsLog, read_metrics
from trainer.prometheus import PrometheusExporter
from trainer.reporting import Reporting
from trainer.spikes import SpikeDetector

LANGUAGES = ("english", "urdu")


@contextmanager
def reporting_in(tmp_path: Path) -> Iterator[Reporting]:
    reporting = Reporting(
        languages=LANGUAGES,
        console=Console(100, 0),
        log=MetricsLog(tmp_path / "metrics.jsonl", None),
        unreadable=MetricsLog(tmp_path / "unreadable.jsonl", None),
        exporter=PrometheusExporter(LANGUAGES, run=tmp_path, objective="d2tv", world_size=1),
        spikes=SpikeDetector(6.0),
    )
    yield reporting
    reporting.close()


def log(reporting: Reporting, step: int, loss: float, nats: list[float]) -> None:
    """An interval of 10 tokens a direction: english>english, urdu>english, english>urdu, urdu>urdu."""
    interval = dataclasses.replace(INTERVAL, total_loss=loss, direction_nats=nats, direction_tokens=[10.0] * 4)
    reporting.interval(
        interval,
        step=step,
        skipped=0,
        learning_rate=1e-3,
        gradient_norm=1.0,
        loss_scale=None,
        scalars={},
        unreadable=0,
    )


def test_a_loss_that_jumps_is_told_of_with_its_directions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with reporting_in(tmp_path) as reporting:
        for step in range(1, 13):
            log(reporting, step, 8.0 + 0.01 * (step % 3), [20.0, 30.0, 40.0, 25.0])
        log(reporting, 13, 12.0, [20.0, 30.0, 90.0, 25.0])
        (spike,) = (record for record in read_metrics(tmp_path / "metrics.jsonl") if record["kind"] == "spike")
        assert (spike["step"], spike["loss"]) == (13, 12.0)
        assert spike["directions"][0]["direction"] == "english>urdu"
        assert spike["directions"][0]["nll"] == pytest.approx(9.0)
        assert spike["directions"][0]["usual"] == pytest.approx(4.0)
        assert "step 13: the loss jumped from 8.01" in capsys.readouterr().out
        assert reporting.exporter.registry.get_sample_value("d2tv_loss_spikes_total") == 1


def test_a_checkpoint_that_fails_is_counted_and_the_last_good_one_stays_the_newest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with reporting_in(tmp_path) as reporting:
        reporting.saved(saved(8))
        reporting.saved(saved(16, "No space left on device"))
        records = read_metrics(tmp_path / "metrics.jsonl")
        assert [(record["step"], record["committed"], record["problem"]) for record in records] == [
            (8, True, None),
            (16, False, "No space left on device"),
        ]
        said = capsys.readouterr().out
        assert "no checkpoint of step 16 could be written, training goes on: No space left on device" in said
        registry = reporting.exporter.registry
        assert registry.get_sample_value("d2tv_checkpoint_failures_total") == 1
        assert registry.get_sample_value("d2tv_checkpoint_step") == 8
        assert registry.get_sample_value("d2tv_checkpoint_stall_seconds_total") == 0.5


def test_a_return_to_a_checkpoint_forgets_what_came_after_it(tmp_path: Path) -> None:
    with reporting_in(tmp_path) as reporting:
        for step in range(1, 6):
            log(reporting, step, 8.0, [20.0, 30.0, 40.0, 25.0])
        reporting.rewind(3)
        reporting.exporter.rollback(step=3, skipped=0)
        log(reporting, 4, 8.0, [20.0, 30.0, 40.0, 25.0])
        assert [record["step"] for record in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2, 3, 4]
        assert reporting.exporter.registry.get_sample_value("d2tv_rollbacks_total") == 1
        assert reporting.exporter.registry.get_sample_value("d2tv_step") == 3
