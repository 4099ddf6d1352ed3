"""What a scraper gets from a real HTTP request to the exporter."""

import re
import socket
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from shards.schema import Unreadable
from trainer.metrics import Interval
from trainer.prometheus import PrometheusExporter
from trainer.saver import Saved


def saved(step: int, problem: str | None = None) -> Saved:
    size = 0 if problem else 4096
    return Saved(path=Path("step"), step=step, stall_seconds=0.25, seconds=1.25, bytes=size, problem=problem)


INTERVAL = Interval(
    steps=10,
    seconds=5.0,
    data_wait_seconds=0.5,
    read_retries=2,
    total_loss=8.0,
    loss={"mms": 4.0, "tco": 0.25},
    nll={"mms": 3.5, "mxls": 3.75},
    nll_by_target={"mms": [7.0, 0.0], "mxls": [0.0, 7.5]},
    tokens={"mms": [20.0, 0.0], "mxls": [0.0, 12.0]},
    examples={"mms": [8.0, 0.0], "mxls": [0.0, 4.0]},
    direction_nats=[],
    direction_tokens=[],
    real_token_share=0.95,
)
UNREADABLE = Unreadable(slot=9, story=3, source="english", target="urdu", problem="its checksum is wrong")


@pytest.fixture
def exporter() -> PrometheusExporter:
    exporter = PrometheusExporter(("english", "urdu"), run=Path("runs/mine"), objective="d2tv", world_size=2)
    exporter.begin(step=0, steps=400, skipped=0)
    return exporter


def scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as reply:
        assert reply.status == 200
        return str(reply.read().decode())


def samples(exporter: PrometheusExporter) -> dict[tuple[str, frozenset[str]], float]:
    port = exporter.port or exporter.serve("127.0.0.1", 0)
    assert port is not None
    return {
        (sample.name, frozenset(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(scrape(port))
        for sample in family.samples
    }


def report_everything(exporter: PrometheusExporter) -> None:
    exporter.step(step=7, seconds=0.3, data_wait_seconds=0.1, skipped=1)
    exporter.interval(INTERVAL, learning_rate=2e-3, gradient_norm=1.5, scalars={"alpha": 0.75})
    exporter.unreadable(UNREADABLE)
    exporter.validation({"mms": 3.0, "mxls": 3.25})
    exporter.checkpoint(saved(7))


def test_values_arrive_after_each_report(exporter: PrometheusExporter) -> None:
    none: frozenset[str] = frozenset()
    assert samples(exporter)["d2tv_steps_planned", none] == 400
    assert samples(exporter)["d2tv_run_info", frozenset({"mine", "d2tv", "2"})] == 1

    exporter.step(step=7, seconds=0.3, data_wait_seconds=0.1, skipped=1)
    exporter.step(step=8, seconds=0.6, data_wait_seconds=0.2, skipped=1)
    found = samples(exporter)
    assert found["d2tv_step", none] == 8
    assert found["d2tv_skipped_steps", none] == 1
    assert found["d2tv_step_seconds_count", none] == 2
    assert found["d2tv_step_seconds_sum", none] == pytest.approx(0.9)
    assert found["d2tv_step_seconds_bucket", frozenset({"0.5"})] == 1
    assert found["d2tv_data_wait_seconds_total", none] == pytest.approx(0.3)
    assert found["d2tv_last_step_timestamp_seconds", none] > 1.6e9

    for _ in range(2):
        exporter.interval(INTERVAL, learning_rate=2e-3, gradient_norm=1.5, scalars={"alpha": 0.75})
    found = samples(exporter)
    assert found["d2tv_loss", frozenset({"tco"})] == 0.25
    assert found["d2tv_nll_nats", frozenset({"mxls"})] == 3.75
    assert found["d2tv_learning_rate", none] == 2e-3
    assert found["d2tv_gradient_norm", none] == 1.5
    assert found["d2tv_alpha", none] == 0.75
    assert found["d2tv_examples_total", frozenset({"mms", "english"})] == 16
    assert found["d2tv_target_tokens_total", frozenset({"mxls", "urdu"})] == 24
    assert ("d2tv_examples_total", frozenset({"mms", "urdu"})) not in found  # nothing trained, nothing said

    assert found["d2tv_read_retries_total", none] == 4

    for _ in range(3):
        exporter.unreadable(UNREADABLE)
    assert samples(exporter)["d2tv_unreadable_examples_total", frozenset({"english", "urdu"})] == 3

    exporter.validation({"mms": 3.0, "mxls": 3.25})
    exporter.checkpoint(saved(8))
    found = samples(exporter)
    assert found["d2tv_validation_nll_nats", frozenset({"mms"})] == 3.0
    assert found["d2tv_checkpoint_step", none] == 8
    assert found["d2tv_checkpoint_duration_seconds", none] == 1.25
    assert found["d2tv_checkpoint_bytes", none] == 4096
    assert found["d2tv_checkpoint_timestamp_seconds", none] > 1.6e9


def test_names_follow_the_conventions(exporter: PrometheusExporter) -> None:
    report_everything(exporter)
    port = exporter.serve("127.0.0.1", 0)
    assert port is not None
    families = list(text_string_to_metric_families(scrape(port)))
    assert len(families) > 15
    for family in families:
        assert re.fullmatch(r"d2tv_[a-z_]+", family.name)
        assert family.documentation
        names = {sample.name for sample in family.samples}
        assert not any(name.endswith("_created") for name in names)
        if family.type == "counter":
            assert names == {f"{family.name}_total"}
        else:
            assert not any(name.endswith("_total") for name in names)
    assert {family.type for family in families} == {"counter", "gauge", "histogram"}


def test_a_taken_port_gives_another_one_and_both_answer(exporter: PrometheusExporter) -> None:
    first = exporter.serve("127.0.0.1", 0)
    assert first is not None
    other = PrometheusExporter(("english",), run=Path("runs/other"), objective="mms", world_size=1)
    second = other.serve("127.0.0.1", first)
    assert second not in (None, first)
    assert second is not None
    assert 'run="mine"' in scrape(first)
    assert 'run="other"' in scrape(second)


def test_a_wanted_free_port_is_the_one_taken(exporter: PrometheusExporter) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert exporter.serve("127.0.0.1", port) == port


def test_only_the_given_address_listens(exporter: PrometheusExporter) -> None:
    port = exporter.serve("127.0.0.1", 0)
    assert port is not None
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.2", port)) != 0


@pytest.mark.parametrize("address", ["203.0.113.7", "not an address"])
def test_an_address_that_cannot_be_had_does_not_end_the_run(exporter: PrometheusExporter, address: str) -> None:
    assert exporter.serve(address, 0) is None
    report_everything(exporter)
