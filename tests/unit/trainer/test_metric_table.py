"""A metric is declared once: its collector and its line of docs/metrics.md follow from its entry."""

import re

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from trainer.telemetry.prometheus.declared import Metric, Series
from trainer.telemetry.prometheus.document import DOCUMENT, rewrite
from trainer.telemetry.prometheus.metric_table import METRICS

QUEUE = (
    Metric(name="queue_bytes", kind="gauge", help="Bytes that wait", source="Queue.size", labels=("rank",)),
    Metric(name="queue_drops_total", kind="counter", help="Lost entries", source="Queue.drops"),
    Metric(name="queue_seconds", kind="histogram", help="Time in it", source="Queue", buckets=(1, 10)),
    Metric(name="queue_share_ratio", kind="table", help="Share", source="train/queue", labels=("source", "target")),
    Metric(name="queue_info", kind="info", help="What it is", source="recipe", labels=("version",)),
)


def served(registry: CollectorRegistry) -> dict[tuple[str, tuple[str, ...]], float]:
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def test_an_entry_and_the_line_that_observes_it_are_a_metric() -> None:
    registry = CollectorRegistry()
    series = Series(registry, QUEUE)
    series.set("queue_bytes", 7, "0")
    series.add("queue_drops_total", 2)
    series.observe("queue_seconds", 3)
    series.replace("queue_share_ratio", [(("english", "urdu"), 0.5)])
    series.inform("queue_info", {"version": "1"})
    found = served(registry)
    assert found["d2tv_queue_bytes", ("0",)] == 7
    assert found["d2tv_queue_drops_total", ()] == 2
    assert found["d2tv_queue_seconds_bucket", ("10.0",)] == 1
    assert found["d2tv_queue_share_ratio", ("english", "urdu")] == 0.5
    assert found["d2tv_queue_info", ("1",)] == 1
    with pytest.raises(KeyError):
        series.set("queue_length", 1)
    assert [metric.unit for metric in QUEUE] == ["bytes", "", "seconds", "ratio", ""]
    assert [metric.shown_title for metric in QUEUE[:3]] == ["Queue", "Queue drops", "Queue"]


def test_the_document_is_written_from_the_table() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert rewrite(text) == text, "python -m trainer.telemetry.prometheus.document"
    assert re.findall(r"^\| `(d2tv_\w+)`", text, re.MULTILINE) == list(METRICS)


def test_names_say_their_unit_and_counters_that_they_are() -> None:
    for name, metric in METRICS.items():
        assert re.fullmatch(r"d2tv_[a-z_]+", name)
        assert (metric.kind == "counter") == name.endswith("_total")
        assert "|" not in metric.help + metric.source, name
        assert not metric.help.endswith("."), name
