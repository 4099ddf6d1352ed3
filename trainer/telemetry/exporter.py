"""Feed this rank's Prometheus metrics from events."""

import math

from trainer import events
from trainer.telemetry.prometheus.endpoint import Endpoint
from trainer.telemetry.prometheus.node_metrics import NodeMetrics
from trainer.telemetry.prometheus.run_metrics import RunMetrics


class Exporter:
    """Serve the metrics that this rank has, from `Started` to `Ended`: the run's on rank 0, the node's on its first."""

    def __init__(self, endpoint: Endpoint, languages: tuple[str, ...]) -> None:
        self._endpoint, self._languages = endpoint, languages

    def notify(self, event: events.Event) -> None:
        if self._endpoint.node is not None:
            _notify_node(self._endpoint.node, event)
        if self._endpoint.run is not None:
            self._notify_run(self._endpoint.run, event)
        match event:
            case events.Started():
                self._endpoint.serve()
            case events.Ended():
                # A failed run keeps its target, so that Prometheus sees an endpoint that is down.
                self._endpoint.close(keep_target=event.outcome == "failed")

    def _notify_run(self, metrics: RunMetrics, event: events.Event) -> None:
        match event:
            case events.StepTaken():
                metrics.step(step=event.step, skipped=event.skipped)
            case events.StepSkipped():
                if event.diverged:
                    metrics.not_finite()
                metrics.step(step=event.step, skipped=event.skipped)
            case events.Logged():
                metrics.interval(
                    event.interval,
                    groups=event.groups,
                    learning_rate=event.learning_rate,
                    gradient_norm=event.gradient_norm,
                    loss_scale=event.loss_scale,
                    scalars=event.scalars,
                )
            case events.LossSpiked():
                metrics.spike()
            case events.ExamplesUnreadable():
                for example in event.found:
                    metrics.unreadable(example)
            case events.Validated():
                by_target = {
                    kind: {name: nll for name, nll in zip(self._languages, values, strict=True) if not math.isnan(nll)}
                    for kind, values in event.by_target.items()
                }
                metrics.validation(event.nll, by_target, event.measured)
            case events.Saved():
                metrics.checkpoint(event)
            case events.RolledBack():
                metrics.rollback(step=event.step, skipped=event.skipped)
            case events.EvaluationEnded():
                metrics.evaluation(event.report)
            case events.Started():
                metrics.begin(
                    step=event.step,
                    steps=event.steps,
                    skipped=event.skipped,
                    restarts=event.restarts,
                    checkpoint_bytes=event.checkpoint_bytes,
                )


def _notify_node(metrics: NodeMetrics, event: events.Event) -> None:
    match event:
        case events.StepTaken() | events.StepSkipped():
            metrics.step(seconds=event.seconds, data_wait_seconds=event.data_wait_seconds)
        case events.PhaseBegan():
            metrics.progress()
        case events.Logged():
            metrics.interval(event.interval.steps, event.interval.ranks)
