"""What the first rank of a node serves of its node. Names, labels and meanings: docs/metrics.md."""

from collections.abc import Sequence

from deepspeed.accelerator import get_accelerator
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from trainer.interval import RankFacts
from trainer.telemetry.prometheus.memory import host_memory

#: Seconds. The last but one is the default limit of a step (watchdog.step).
STEP_BUCKETS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600)
WAIT_BUCKETS = (0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 60, 300)


class NodeMetrics:
    """A node's metrics, in `registry`. ranks: those that run on it."""

    def __init__(self, registry: CollectorRegistry, ranks: Sequence[int]) -> None:
        self._ranks = tuple(ranks)

        def gauge(name: str, documentation: str, *labels: str) -> Gauge:
            return Gauge(f"d2tv_{name}", documentation, labels, registry=registry)

        self._seconds = Histogram("d2tv_step_seconds", "Wall-clock of a step", buckets=STEP_BUCKETS, registry=registry)
        self._wait = Histogram(
            "d2tv_data_wait_seconds", "How long a step waited for its data", buckets=WAIT_BUCKETS, registry=registry
        )
        self._step_stamp = gauge("last_step_timestamp_seconds", "When the last step ended")
        self._progress = gauge("progress_timestamp_seconds", "When anything was done")
        for stamp in (self._step_stamp, self._progress):
            stamp.set_to_current_time()
        # Asked for by the scrape.
        total = gauge("node_memory_total_bytes", "Host memory, of the machine or of our control group")
        total.set_function(lambda: host_memory()[0])
        available = gauge("node_memory_available_bytes", "Of it, what can be had without swapping or being killed")
        available.set_function(lambda: host_memory()[1])
        device = gauge("device_memory_total_bytes", "Memory of this rank's device")
        device.set(float(get_accelerator().total_memory()))
        self._busy = gauge("rank_busy_seconds", "Waiting for data and forward pass, of a step", "rank")
        self._data_wait = gauge("rank_data_wait_seconds", "Waiting for data, of a step", "rank")
        self._read = Counter("d2tv_rank_read_bytes", "Features read from shards", ["rank"], registry=registry)
        self._files = gauge("rank_open_files", "Open file descriptors", "rank")
        self._resident = gauge("rank_resident_memory_bytes", "Host memory of the process", "rank")
        self._device = gauge("rank_device_memory_bytes", "Device memory in use by tensors", "rank")
        self._device_peak = gauge("rank_device_memory_peak_bytes", "Its peak since the start", "rank")

    def progress(self) -> None:
        """Something was done."""
        self._progress.set_to_current_time()

    def step(self, *, seconds: float, data_wait_seconds: float) -> None:
        """A step was taken, or skipped: what costs no synchronisation."""
        self._seconds.observe(seconds)
        self._wait.observe(data_wait_seconds)
        self._step_stamp.set_to_current_time()

    def interval(self, steps: int, ranks: Sequence[RankFacts]) -> None:
        """At every logged step: the facts of all ranks of the run, of which the node's are shown."""
        for rank in self._ranks:
            facts, label = ranks[rank], str(rank)
            self._busy.labels(label).set(facts.busy_seconds / max(steps, 1))
            self._data_wait.labels(label).set(facts.data_wait_seconds / max(steps, 1))
            self._read.labels(label).inc(facts.read_bytes)
            self._files.labels(label).set(facts.open_files)
            self._resident.labels(label).set(facts.resident_bytes)
            self._device.labels(label).set(facts.device_bytes)
            self._device_peak.labels(label).set(facts.device_peak_bytes)
