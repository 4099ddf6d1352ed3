"""Report a training from rank 0: to console, files, Prometheus."""

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.schema import Unreadable
from trainer.checkpoint.saver import Saved
from trainer.evaluation.heldout import HeldOutNLL
from trainer.telemetry.console import Console
from trainer.telemetry.metrics import MetricsLog
from trainer.telemetry.prometheus.run_metrics import RunMetrics
from trainer.telemetry.recent import DirectionSums, nll_by_target
from trainer.telemetry.spikes import Spike, SpikeDetector
from trainer.telemetry.totals import Interval
from trainer.telemetry.trackers import Trackers


@dataclass(frozen=True, kw_only=True, slots=True)
class Reporting:
    """Sinks of rank 0's reports. languages: the corpus', in its order."""

    languages: tuple[str, ...]
    console: Console
    log: MetricsLog
    unreadable: MetricsLog  # unreadable.jsonl, one line a placeholder
    metrics: RunMetrics
    peak_flops: float  # of all ranks, for MFU; 0 where it is not known
    trackers: Trackers
    spikes: SpikeDetector | None
    untold: DirectionSums  # by direction, since the log had them last

    def started(self, step: int, steps: int, world_size: int, restarts: int) -> None:
        """Ranks have joined, and the state of `step` is loaded. restarts: starts of this run before this one."""
        start = {"kind": "start", "step": step, "world_size": world_size, "restarts": restarts, "time": time.time()}
        self._tell(start)
        if step:
            self.console.say(f"going on from step {step} of {steps}")

    def step(self, step: int, skipped: int) -> None:
        """A step was taken, or skipped."""
        self.metrics.step(step=step, skipped=skipped)
        self.console.advance(step)

    def not_finite(self) -> None:
        """Steps are skipped in a row because of their data or weights, and have no loss."""
        self.metrics.not_finite()

    def interval(
        self,
        interval: Interval,
        *,
        step: int,
        skipped: int,
        learning_rate: float,
        gradient_norm: float,
        loss_scale: float | None,
        scalars: Mapping[str, float],
        unreadable: int,
        groups: int,
    ) -> None:
        """A logged step: what was summed over ranks since the last one. unreadable, groups: the run's, so far."""
        slowest, lag = interval.slowest_rank
        record = {
            "kind": "train",
            "step": step,
            "skipped_steps": skipped,
            "steps": interval.steps,
            "loss": {"total": interval.total_loss, **interval.loss},
            "nll": interval.nll,
            "learning_rate": learning_rate,
            "gradient_norm": gradient_norm,
            **({"loss_scale": loss_scale} if loss_scale is not None else {}),
            **scalars,
            "examples": {kind: sum(by_target) for kind, by_target in interval.examples.items()},
            "target_tokens": {kind: sum(by_target) for kind, by_target in interval.tokens.items()},
            "examples_per_second": interval.examples_per_second,
            "target_tokens_per_second": interval.target_tokens_per_second,
            **({"mfu": interval.flops_per_second / self.peak_flops} if self.peak_flops else {}),
            "step_seconds": interval.seconds / interval.steps,
            "real_token_share": interval.real_token_share,
            "data_wait_share": interval.data_wait_seconds / interval.seconds,
            "slowest_rank": slowest,
            "slowest_rank_lag_seconds": lag,
            "read_retries": interval.read_retries,
            "unreadable": unreadable,
            "nll_by_target": self._nll_by_target(interval),
            "time": time.time(),
        }
        self._tell(record)
        self.metrics.interval(
            interval,
            groups=groups,
            learning_rate=learning_rate,
            gradient_norm=gradient_norm,
            loss_scale=loss_scale,
            scalars=scalars,
        )
        self.console.train(record)
        self.untold.add(interval)
        if self.spikes:
            nats, tokens = dict(self._directions(interval.nats_TS)), dict(self._directions(interval.tokens_TS))
            spike = self.spikes.look(interval.total_loss, nats, tokens)
            if spike:
                self._spike(spike, step)

    def directions(self, step: int) -> None:
        """List what every direction had since the last such list: before a checkpoint, and at a validation."""
        there_TS = self.untold.examples_TS > 0
        if there_TS.any():
            lists = {
                name: dict(self._directions(getattr(self.untold, f"{name}_TS"), there_TS))
                for name in ("nats", "tokens", "examples")
            }
            self._tell({"kind": "directions", "step": step, **lists, "time": time.time()})
            self.untold.forget()

    def validation(
        self, found: Mapping[str, HeldOutNLL], measured: Mapping[str, float], step: int, seconds: float
    ) -> None:
        """Held-out NLL by kind; examples that could not be read are not in it. measured: by the objective."""
        self.directions(step)
        nll = {kind: of_kind.nll for kind, of_kind in found.items()}
        unreadable = sum(of_kind.unreadable for of_kind in found.values())
        by_target = {kind: self._by_language(of_kind.by_target) for kind, of_kind in found.items()}
        record = {
            "kind": "validation",
            "step": step,
            "nll": nll,
            "nll_by_target": by_target,
            **measured,
            "unreadable": unreadable,
            "seconds": seconds,
            "time": time.time(),
        }
        if unreadable:
            self.console.say(f"{unreadable} held-out examples could not be read and are not in the means")
        self._tell(record)
        self.metrics.validation(nll, by_target, measured)
        self.console.validation(record)

    def evaluation(self, report: Mapping[str, Any]) -> None:
        """The final evaluation, after everything else."""
        self.metrics.evaluation(report)
        self.trackers.tell({"kind": "evaluation", "step": report["step"], "rouge": report["by_kind"]})

    def mixture(self, mixture: Mapping[str, Any], step: int) -> None:
        """Another mixture begins with `step`."""
        self._tell({"kind": "mixture", "step": step, "mixture": mixture})
        self.console.say(f"step {step}: the mixture changes to {json.dumps(mixture)}")

    def placeholders(self, found: Sequence[Unreadable], step: int, story_keys: Sequence[str]) -> None:
        """List those of one step, at least one; the first is said aloud."""
        for one in found:
            self.unreadable.write({"kind": "unreadable", "step": step, **asdict(one), "story": story_keys[one.story]})
            self.metrics.unreadable(one)
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        self.console.say(f"step {step}: slot {found[0].slot} has a placeholder{more}: {found[0].problem}")

    def rollback(self, step: int, skipped: int, from_step: int) -> None:
        """Training goes back to `step`: what the files tell of later steps will come again."""
        self.log.rewind(step)
        self.trackers.rewind(step)
        self.unreadable.rewind(step)
        self.console.rewind(step)
        self.untold.forget()
        self._tell({"kind": "rollback", "step": step, "from_step": from_step, "time": time.time()})
        self.metrics.rollback(step=step, skipped=skipped)

    def saved(self, saved: Saved) -> None:
        """A save has ended, well or not."""
        self.metrics.checkpoint(saved)
        self._tell(
            {
                "kind": "checkpoint",
                "step": saved.step,
                "committed": saved.committed,
                "stall_seconds": saved.stall_seconds,
                "seconds": saved.seconds,
                "bytes": saved.bytes,
                "problem": saved.problem,
                "untidy": list(saved.untidy),
                "time": time.time(),
            }
        )
        for line in saved.untidy:
            self.console.say(line)
        if not saved.committed:
            self.console.say(f"no checkpoint of step {saved.step} could be written, training goes on: {saved.problem}")
            return
        self.console.say(f"checkpoint {saved.path} ({saved.bytes / 1e6:.0f} MB in {saved.seconds:.1f} s)")

    def _tell(self, record: Mapping[str, Any]) -> None:
        """A line of metrics.jsonl, and whoever else keeps such numbers."""
        self.log.write(record)
        self.trackers.tell(record)

    def _spike(self, spike: Spike, step: int) -> None:
        self.metrics.spike()
        directions = [{"direction": name, "nll": nll, "usual": usual} for name, nll, usual in spike.directions]
        told = {"loss": spike.loss, "usual": spike.usual, "directions": directions, "time": time.time()}
        self._tell({"kind": "spike", "step": step, **told})
        worst = ", ".join(f"{name} {nll:.2f} (usually {usual:.2f})" for name, nll, usual in spike.directions)
        jump = f"the loss jumped from {spike.usual:.3f} to {spike.loss:.3f}"
        self.console.say(f"step {step}: {jump}; NLL of the worst directions: {worst}")

    def _nll_by_target(self, interval: Interval) -> dict[str, dict[str, float]]:
        """By kind and target language, to four decimals: it stands in every logged line."""
        return {kind: self._by_language(nll_T.round(4).tolist()) for kind, nll_T in nll_by_target(interval).items()}

    def _by_language(self, values: Sequence[float]) -> dict[str, float]:
        return {name: value for name, value in zip(self.languages, values, strict=True) if not math.isnan(value)}

    def _directions(
        self, values_TS: NDArray[np.float64], there_TS: NDArray[np.bool_] | None = None
    ) -> Iterator[tuple[str, float]]:
        """source>target and value, of those that are there (None: all)."""
        places = np.argwhere(np.ones_like(values_TS, dtype=bool) if there_TS is None else there_TS)
        for target, source in places.tolist():
            yield f"{self.languages[source]}>{self.languages[target]}", float(values_TS[target, source])

    def close(self) -> None:
        """No more of the training; the trackers stay for an evaluation."""
        self.console.close()
        self.log.close()
        self.unreadable.close()
