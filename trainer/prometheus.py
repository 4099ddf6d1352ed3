"""What rank 0 serves to Prometheus. Names: prefix d2tv_, base units, `_total` on counters."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    disable_created_metrics,
    start_http_server,
)

from shards.schema import Unreadable
from trainer.metrics import Interval
from trainer.saver import Saved

log = logging.getLogger(__name__)

_STEP_BUCKETS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300)


class PrometheusExporter:
    """The run's metrics and the HTTP server that shows them at /metrics."""

    def __init__(self, languages: Sequence[str], *, run: Path, objective: str, world_size: int) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        self._languages = tuple(languages)
        self.port: int | None = None
        Info("d2tv_run", "What is being trained", registry=registry).info(
            {"run": run.name, "objective": objective, "world_size": str(world_size)}
        )
        self._step = Gauge("d2tv_step", "Optimizer steps taken", registry=registry)
        self._steps = Gauge("d2tv_steps_planned", "Optimizer steps the run will take", registry=registry)
        self._loss = Gauge(
            "d2tv_loss", "Loss by term, averaged over its tokens or anchors", ["term"], registry=registry
        )
        # The teacher branch (mms) reads every row, so a branch's tokens are not those of a kind of direction.
        self._nll = Gauge("d2tv_nll_nats", "Training NLL a target token", ["branch"], registry=registry)
        self._rate = Gauge("d2tv_learning_rate", "Learning rate of the last step", registry=registry)
        self._norm = Gauge("d2tv_gradient_norm", "Global gradient norm before clipping", registry=registry)
        self._alpha = Gauge("d2tv_alpha", "Distillation trade-off of Eq. 8", registry=registry)
        self._examples = Counter("d2tv_examples", "Examples trained on", ["kind", "target"], registry=registry)
        self._tokens = Counter(
            "d2tv_target_tokens", "Target tokens trained on", ["branch", "target"], registry=registry
        )
        self._unreadable = Counter(
            "d2tv_unreadable_examples",
            "Examples that could not be read and had a placeholder of weight 0",
            ["source", "target"],
            registry=registry,
        )
        self._real = Gauge(
            "d2tv_real_token_ratio", "Text tokens a place that self-attention computed for them", registry=registry
        )
        self._retries = Counter("d2tv_read_retries", "Reads of features that were tried again", registry=registry)
        self._skipped = Gauge("d2tv_skipped_steps", "Steps skipped as non-finite", registry=registry)
        self._seconds = Histogram(
            "d2tv_step_seconds", "Wall-clock of a step on rank 0", buckets=_STEP_BUCKETS, registry=registry
        )
        self._wait = Counter("d2tv_data_wait_seconds", "Time rank 0 waited for data", registry=registry)
        self._stamp = Gauge("d2tv_last_step_timestamp_seconds", "When the last step ended", registry=registry)
        self._validation = Gauge("d2tv_validation_nll_nats", "Held-out NLL a token", ["kind"], registry=registry)
        self._saved_step = Gauge("d2tv_checkpoint_step", "Step of the newest whole checkpoint", registry=registry)
        self._saved_stamp = Gauge(
            "d2tv_checkpoint_timestamp_seconds", "When the newest checkpoint was committed", registry=registry
        )
        self._saved_seconds = Gauge("d2tv_checkpoint_duration_seconds", "How long its saving took", registry=registry)
        self._stall = Counter(
            "d2tv_checkpoint_stall_seconds", "Time that training waited for checkpoints", registry=registry
        )
        self._failed = Counter("d2tv_checkpoint_failures", "Checkpoints that could not be written", registry=registry)
        self._spikes = Counter("d2tv_loss_spikes", "Logged intervals whose loss stood out", registry=registry)
        self._rollbacks = Counter("d2tv_rollbacks", "Returns to a checkpoint after skipped steps", registry=registry)
        self._saved_bytes = Gauge("d2tv_checkpoint_bytes", "Its size", registry=registry)

    def serve(self, address: str, port: int) -> int | None:
        """Serve on `port`, or on a free one where it is taken. None where no server starts: a run goes on without."""
        for wanted in (port, 0):
            try:
                server, _ = start_http_server(wanted, addr=address, registry=self.registry)
            except OSError as error:
                log.warning("metrics: port %d on %s is not to be had (%s)", wanted, address, error)
                continue
            self.port = int(server.server_port)
            return self.port
        return None

    def begin(self, *, step: int, steps: int, skipped: int) -> None:
        """Where the run stands as it starts: an age counted from 1970 would raise every alert."""
        self._step.set(step)
        self._steps.set(steps)
        self._skipped.set(skipped)
        self._stamp.set_to_current_time()
        self._saved_step.set(step)
        self._saved_stamp.set_to_current_time()

    def step(self, *, step: int, seconds: float, data_wait_seconds: float, skipped: int) -> None:
        """After every step: what costs no synchronisation."""
        self._step.set(step)
        self._seconds.observe(seconds)
        self._wait.inc(data_wait_seconds)
        self._skipped.set(skipped)
        self._stamp.set_to_current_time()

    def interval(
        self, interval: Interval, *, learning_rate: float, gradient_norm: float, scalars: Mapping[str, float]
    ) -> None:
        """At every logged step: what was summed over the ranks."""
        self._rate.set(learning_rate)
        self._norm.set(gradient_norm)
        self._real.set(interval.real_token_share)
        self._retries.inc(interval.read_retries)
        if "alpha" in scalars:
            self._alpha.set(scalars["alpha"])
        for term, value in interval.loss.items():
            self._loss.labels(term).set(value)
        for kind, value in interval.nll.items():
            self._nll.labels(kind).set(value)
            for language, examples, tokens in zip(
                self._languages, interval.examples[kind], interval.tokens[kind], strict=True
            ):
                if examples:
                    self._examples.labels(kind, language).inc(examples)
                if tokens:
                    self._tokens.labels(kind, language).inc(tokens)

    def unreadable(self, example: Unreadable) -> None:
        """One placeholder. Directions that have none have no series."""
        self._unreadable.labels(example.source, example.target).inc()

    def validation(self, nll: Mapping[str, float]) -> None:
        for kind, value in nll.items():
            self._validation.labels(kind).set(value)

    def spike(self) -> None:
        self._spikes.inc()

    def rollback(self, *, step: int, skipped: int) -> None:
        self._rollbacks.inc()
        self._step.set(step)
        self._skipped.set(skipped)

    def checkpoint(self, saved: Saved) -> None:
        self._stall.inc(saved.stall_seconds)
        if not saved.committed:
            self._failed.inc()
            return
        self._saved_step.set(saved.step)
        self._saved_stamp.set_to_current_time()
        self._saved_seconds.set(saved.seconds)
        self._saved_bytes.set(saved.bytes)
