"""Metrics of a node, served by its first rank (metric_table.NODE)."""

from collections.abc import Sequence

from deepspeed.accelerator import get_accelerator
from prometheus_client import CollectorRegistry

from trainer.interval import RankFacts
from trainer.telemetry.prometheus.declared import Series
from trainer.telemetry.prometheus.memory import host_memory
from trainer.telemetry.prometheus.metric_table import NODE


class NodeMetrics:
    """A node's metrics, in `registry`. ranks: those that run on it."""

    def __init__(self, registry: CollectorRegistry, ranks: Sequence[int]) -> None:
        self._ranks = tuple(ranks)
        self._series = series = Series(registry, NODE)
        series.set_now("last_step_timestamp_seconds")
        series.set_now("progress_timestamp_seconds")
        series.set_by("node_memory_total_bytes", lambda: host_memory()[0])
        series.set_by("node_memory_available_bytes", lambda: host_memory()[1])
        series.set("device_memory_total_bytes", float(get_accelerator().total_memory()))

    def progress(self) -> None:
        """Note a sign of life: a step, a batch of an evaluation, a checkpoint."""
        self._series.set_now("progress_timestamp_seconds")

    def step(self, *, seconds: float, data_wait_seconds: float) -> None:
        """Observe a step that was taken or skipped."""
        self._series.observe("step_seconds", seconds)
        self._series.observe("data_wait_seconds", data_wait_seconds)
        self._series.set_now("last_step_timestamp_seconds")

    def interval(self, steps: int, ranks: Sequence[RankFacts]) -> None:
        """Observe a logged interval. ranks: the facts of all ranks of the run, of which the node's are shown."""
        series = self._series
        for rank in self._ranks:
            facts, label = ranks[rank], str(rank)
            series.set("rank_busy_seconds", facts.busy_seconds / max(steps, 1), label)
            series.set("rank_data_wait_seconds", facts.data_wait_seconds / max(steps, 1), label)
            series.add("rank_read_bytes_total", facts.read_bytes, label)
            series.set("rank_open_files", facts.open_files, label)
            series.set("rank_resident_memory_bytes", facts.resident_bytes, label)
            series.set("rank_device_memory_bytes", facts.device_bytes, label)
            series.set("rank_device_memory_peak_bytes", facts.device_peak_bytes, label)
