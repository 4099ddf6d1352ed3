"""The records of metrics.jsonl, made of events. The trackers get the same ones."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from trainer import events
from trainer.telemetry.recent import DirectionSums, by_direction, nll_by_target


class Recorder:
    """Emit a `Recorded` for every event that metrics.jsonl or a tracker keeps.

    languages: the corpus', in its order.  peak_flops: of all ranks, for MFU; 0 where it is not known.
    """

    def __init__(self, languages: Sequence[str], peak_flops: float, emit: Callable[[events.Event], None]) -> None:
        self._languages, self._peak_flops, self._emit = languages, peak_flops, emit
        self._unreported = DirectionSums(len(languages))

    def notify(self, event: events.Event) -> None:
        for record in self._records(event):
            self._emit(events.Recorded(record=record))

    def _records(self, event: events.Event) -> Iterator[dict[str, Any]]:
        match event:
            case events.Started():
                yield _record("start", event.step, world_size=event.world_size, restarts=event.restarts)
            case events.MixtureChanged():
                yield {"kind": "mixture", "step": event.step, "mixture": event.mixture}
            case events.Logged():
                self._unreported.add(event.interval)
                yield self._train(event)
            case events.LossSpiked():
                directions = [{"direction": name, "nll": nll, "usual": usual} for name, nll, usual in event.directions]
                yield _record("spike", event.step, loss=event.loss, usual=event.usual, directions=directions)
            case events.SaveBegan():
                yield from self._directions(event.step)
            case events.Validated():
                yield from self._directions(event.step)
                yield self._validation(event)
            case events.Saved():
                yield _record(
                    "checkpoint",
                    event.step,
                    committed=event.committed,
                    stall_seconds=event.stall_seconds,
                    seconds=event.seconds,
                    bytes=event.bytes,
                    problem=event.problem,
                    untidy=list(event.untidy),
                )
            case events.RolledBack():
                self._unreported.forget()
                yield _record("rollback", event.step, from_step=event.from_step)
            case events.EvaluationEnded(report=report):
                yield {"kind": "evaluation", "step": report["step"], "rouge": report["by_kind"]}
            case events.Ended():
                yield _record("end", event.step, outcome=event.outcome)

    def _train(self, event: events.Logged) -> dict[str, Any]:
        interval = event.interval
        slowest, lag = interval.slowest_rank
        loss_scale = {"loss_scale": event.loss_scale} if event.loss_scale is not None else {}
        mfu = {"mfu": interval.flops_per_second / self._peak_flops} if self._peak_flops else {}
        # To four decimals: it is in every logged line.
        by_target = {
            kind: self._by_language(nll_T.round(4).tolist()) for kind, nll_T in nll_by_target(interval).items()
        }
        return {
            "kind": "train",
            "step": event.step,
            "skipped_steps": event.skipped,
            "steps": interval.steps,
            "loss": {"total": interval.total_loss, **interval.loss},
            "nll": interval.nll,
            "learning_rate": event.learning_rate,
            "gradient_norm": event.gradient_norm,
            **loss_scale,
            **event.scalars,
            "examples": {kind: sum(of_target) for kind, of_target in interval.examples.items()},
            "target_tokens": {kind: sum(of_target) for kind, of_target in interval.tokens.items()},
            "examples_per_second": interval.examples_per_second,
            "target_tokens_per_second": interval.target_tokens_per_second,
            **mfu,
            "step_seconds": interval.seconds / interval.steps,
            "step_flops": interval.flops / interval.steps,
            "real_token_share": interval.real_token_share,
            "data_wait_share": interval.data_wait_seconds / interval.seconds,
            "slowest_rank": slowest,
            "slowest_rank_lag_seconds": lag,
            "read_retries": interval.read_retries,
            "unreadable": event.unreadable,
            "nll_by_target": by_target,
            "time": time.time(),
        }

    def _validation(self, event: events.Validated) -> dict[str, Any]:
        return {
            "kind": "validation",
            "step": event.step,
            "nll": dict(event.nll),
            "nll_by_target": {kind: self._by_language(values) for kind, values in event.by_target.items()},
            **event.measured,
            "unreadable": event.unreadable,
            "seconds": event.seconds,
            "time": time.time(),
        }

    def _directions(self, step: int) -> Iterator[dict[str, Any]]:
        """Yield what every direction had since the last such record, if any had anything."""
        sums = self._unreported
        observed_TS = sums.examples_TS > 0
        if observed_TS.any():
            matrices = {"nats": sums.nats_TS, "tokens": sums.tokens_TS, "examples": sums.examples_TS}
            tables = {
                name: dict(by_direction(self._languages, values_TS, observed_TS))
                for name, values_TS in matrices.items()
            }
            yield _record("directions", step, **tables)
            sums.forget()

    def _by_language(self, values: Sequence[float]) -> dict[str, float]:
        return {name: value for name, value in zip(self._languages, values, strict=True) if not math.isnan(value)}


def _record(kind: str, step: int, **values: Any) -> dict[str, Any]:
    return {"kind": kind, "step": step, **values, "time": time.time()}
