"""Our text against prometheus_client's own, byte for byte, whatever is in a registry."""

import math

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    disable_created_metrics,
    generate_latest,
)

from shards.format.index import Corpus
from tests.intervals import INTERVAL, run_facts
from tests.tiny import make_corpus
from trainer.telemetry.prometheus.exposition import Exposition
from trainer.telemetry.prometheus.node_metrics import NodeMetrics
from trainer.telemetry.prometheus.run_metrics import RunMetrics
from trainer.telemetry.prometheus.tables import Table

disable_created_metrics()
texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
numbers = st.one_of(
    st.floats(), st.integers(-(10**18), 10**18), st.sampled_from([0.0, -0.0, 1e6, 999999.5, 1e-3, 1e-5])
)


@given(rows=st.dictionaries(st.tuples(texts, texts), numbers, max_size=6), documentation=texts, plain=numbers)
def test_any_labels_and_values(rows: dict[tuple[str, str], float], documentation: str, plain: float) -> None:
    registry = CollectorRegistry()
    table = Table("d2tv_table", documentation or "d", ["target", "kind"], registry)
    table.replace(rows.items())
    gauge = Gauge("d2tv_gauge", documentation or "d", ["b", "a"], registry=registry)
    for labels, value in rows.items():
        gauge.labels(*labels).set(value)
    Gauge("d2tv_plain", "p", registry=registry).set(plain)
    exposition = Exposition(registry)
    for _ in range(2):  # made, and remembered
        assert exposition() == generate_latest(registry)


def test_every_kind_of_metric() -> None:
    registry = CollectorRegistry()
    Counter("d2tv_events", "Events", ["kind"], registry=registry).labels("a").inc(3)
    Counter("d2tv_none", "None yet", ["kind"], registry=registry)
    histogram = Histogram("d2tv_seconds", "Seconds", buckets=(0.5, 1), registry=registry)
    for value in (0.1, 0.7, 1e9):
        histogram.observe(value)
    Info("d2tv_build", "Build", registry=registry).info({"version": "1", "python": "3"})
    gauge = Gauge("d2tv_odd", "Odd", registry=registry)
    exposition = Exposition(registry)
    for value in (math.nan, math.inf, -math.inf, 1.795e9, 123456789.123, 7):
        gauge.set(value)
        assert exposition() == generate_latest(registry)


def test_what_a_run_serves(tmp_path_factory: object) -> None:
    corpus: Corpus = make_corpus(tmp_path_factory.mktemp("two") / "corpus", languages=("english", "urdu"))  # type: ignore[attr-defined]
    registry = CollectorRegistry()
    metrics, node = RunMetrics(registry, run_facts(corpus, direction_matrix=True)), NodeMetrics(registry, [0, 1])
    exposition = Exposition(registry)
    for groups in (10, 20):
        metrics.interval(
            INTERVAL, groups=groups, learning_rate=1e-7, gradient_norm=3.0, loss_scale=65536.0, scalars={"alpha": 0.5}
        )
        node.interval(10, INTERVAL.ranks)
        ours, theirs = exposition().decode(), generate_latest(registry).decode()
        # Memory is asked for at every scrape, and is another one each time.
        varying = "d2tv_node_memory_available_bytes "
        assert [line for line in ours.splitlines() if not line.startswith(varying)] == [
            line for line in theirs.splitlines() if not line.startswith(varying)
        ]
