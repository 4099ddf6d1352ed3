"""Where rank 0 reports: console, files, Prometheus."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from shards.schema import Unreadable
from trainer.console import Console
from trainer.metrics import Interval, MetricsLog
from trainer.prometheus import PrometheusExporter
from trainer.saver import Saved
from trainer.spikes import Spike, SpikeDetector


@dataclass(frozen=True, kw_only=True, slots=True)
class Reporting:
    """What rank 0 has and the other ranks have not. languages: the corpus', in its order."""

    languages: tuple[str, ...]
    console: Console
    log: MetricsLog
    unreadable: MetricsLog  # unreadable.jsonl, one line a placeholder
    exporter: PrometheusExporter
    spikes: SpikeDetector | None

    def started(self, step: int, steps: int, world_size: int) -> None:
        """Ranks have joined, and the state of `step` is loaded."""
        self.log.write({"kind": "start", "step": step, "world_size": world_size, "time": time.time()})
        if step:
            self.console.say(f"going on from step {step} of {steps}")

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
    ) -> None:
        """A logged step: what was summed over ranks since the last one. `unreadable` is the run's count so far."""
        examples = sum(sum(by_target) for by_target in interval.examples.values())
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
            "examples_per_second": examples / interval.seconds,
            "step_seconds": interval.seconds / interval.steps,
            "real_token_share": interval.real_token_share,
            "data_wait_share": interval.data_wait_seconds / interval.seconds,
            "read_retries": interval.read_retries,
            "unreadable": unreadable,
            "time": time.time(),
        }
        self.log.write(record)
        self.exporter.interval(interval, learning_rate=learning_rate, gradient_norm=gradient_norm, scalars=scalars)
        self.console.train(record)
        if self.spikes:
            names = [f"{source}>{target}" for target in self.languages for source in self.languages]
            nats = dict(zip(names, interval.direction_nats, strict=True))
            tokens = dict(zip(names, interval.direction_tokens, strict=True))
            spike = self.spikes.look(interval.total_loss, nats, tokens)
            if spike:
                self._spike(spike, step)

    def validation(self, nll: Mapping[str, float], step: int, unreadable: int, seconds: float) -> None:
        """Held-out NLL by kind; `unreadable` examples are not in it."""
        record = {"kind": "validation", "step": step, "nll": dict(nll), "unreadable": unreadable, "seconds": seconds}
        if unreadable:
            self.console.say(f"{unreadable} held-out examples could not be read and are not in the means")
        self.log.write(record)
        self.exporter.validation(nll)
        self.console.validation(record)

    def mixture(self, mixture: Mapping[str, Any], step: int) -> None:
        """Another mixture begins with `step`."""
        self.log.write({"kind": "mixture", "step": step, "mixture": mixture})
        self.console.say(f"step {step}: the mixture changes to {json.dumps(mixture)}")

    def placeholders(self, found: Sequence[Unreadable], step: int, story_keys: Sequence[str]) -> None:
        """List those of one step, at least one; the first is said aloud."""
        for one in found:
            self.unreadable.write({"kind": "unreadable", "step": step, **asdict(one), "story": story_keys[one.story]})
            self.exporter.unreadable(one)
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        self.console.say(f"step {step}: slot {found[0].slot} has a placeholder{more}: {found[0].problem}")

    def rewind(self, step: int) -> None:
        """Training goes back to `step`: what the files tell of later steps will come again."""
        self.log.rewind(step)
        self.unreadable.rewind(step)
        self.console.rewind(step)

    def saved(self, saved: Saved) -> None:
        """A save has ended, well or not."""
        self.exporter.checkpoint(saved)
        self.log.write(
            {
                "kind": "checkpoint",
                "step": saved.step,
                "committed": saved.committed,
                "stall_seconds": saved.stall_seconds,
                "seconds": saved.seconds,
                "bytes": saved.bytes,
                "problem": saved.problem,
                "time": time.time(),
            }
        )
        if not saved.committed:
            self.console.say(f"no checkpoint of step {saved.step} could be written, training goes on: {saved.problem}")
            return
        self.console.say(f"checkpoint {saved.path} ({saved.bytes / 1e6:.0f} MB in {saved.seconds:.1f} s)")
        if saved.problem:
            self.console.say(f"{saved.path} is written, but older checkpoints could not be tidied up: {saved.problem}")

    def _spike(self, spike: Spike, step: int) -> None:
        self.exporter.spike()
        directions = [{"direction": name, "nll": nll, "usual": usual} for name, nll, usual in spike.directions]
        self.log.write(
            {"kind": "spike", "step": step, "loss": spike.loss, "usual": spike.usual, "directions": directions}
        )
        worst = ", ".join(f"{name} {nll:.2f} (usually {usual:.2f})" for name, nll, usual in spike.directions)
        jump = f"the loss jumped from {spike.usual:.3f} to {spike.loss:.3f}"
        self.console.say(f"step {step}: {jump}; NLL of the worst directions: {worst}")

    def close(self) -> None:
        self.console.close()
        self.log.close()
        self.unreadable.close()
