"""What rank 0 serves of the whole run. Names, labels and meanings: docs/metrics.md."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Info

from shards.schema import Unreadable
from shards.stream.sampler import Sampler
from trainer.events import Saved
from trainer.interval import Interval
from trainer.telemetry.prometheus.tables import Table
from trainer.telemetry.recent import cross, mean, nll_by_target, recent_sums
from trainer.telemetry.totals import KINDS

#: How many directions have a series of their own: the worst, the rarest, those with unreadable examples.
WORST, RAREST, UNREADABLE = 20, 10, 64
OTHER = "other"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFacts:
    """What does not change in a run. build, run: labels of the two `_info` metrics. peak_flops: of all ranks."""

    languages: tuple[str, ...]
    counts_TS: NDArray[np.int64]  # examples of the training split
    sampler: Sampler
    directory: Path
    build: Mapping[str, str]
    run: Mapping[str, str]
    peak_flops: float  # 0 where it is not known
    checkpoint_every: int
    direction_matrix: bool


class RunMetrics:
    """The run's metrics, in `registry`."""

    def __init__(self, registry: CollectorRegistry, facts: RunFacts) -> None:
        self.registry = registry
        self._facts, self._languages = facts, facts.languages
        self._recent = recent_sums(len(facts.languages))
        self._examples_TS = np.zeros(facts.counts_TS.shape)
        self._unreadable_seen: set[tuple[str, str]] = set()

        def gauge(name: str, documentation: str, *labels: str) -> Gauge:
            return Gauge(f"d2tv_{name}", documentation, labels, registry=registry)

        def counter(name: str, documentation: str, *labels: str) -> Counter:
            return Counter(f"d2tv_{name}", documentation, labels, registry=registry)

        def table(name: str, documentation: str, *labels: str) -> Table:
            return Table(f"d2tv_{name}", documentation, labels, registry)

        Info("d2tv_build", "Versions", registry=registry).info(dict(facts.build))
        Info("d2tv_run", "What is being trained", registry=registry).info(dict(facts.run))
        self._step = gauge("step", "Optimizer steps taken")
        self._steps = gauge("steps_planned", "Optimizer steps the run will take")
        self._skipped = gauge("skipped_steps", "Steps skipped as non-finite, since the run began")
        self._restarts = gauge("restarts", "Starts of this run before this one")
        self._loss = table("loss", "Loss by term, averaged over its tokens or anchors; total is J", "term")
        self._nll = table("nll_nats", "Training NLL a target token", "branch")
        self._target_nll = table("target_nll_nats", "Recent training NLL a token, by target language", "kind", "target")
        self._source_nll = table("source_nll_nats", "Recent cross-lingual NLL, by source language", "source")
        self._worst = table("worst_direction_nll_nats", "Recent NLL of the worst directions", "source", "target")
        self._truncated = gauge("worst_directions_truncated", "Directions with a recent NLL that are not among those")
        self._rate = gauge("learning_rate", "Learning rate of the last step")
        self._norm = gauge("gradient_norm", "Global gradient norm before clipping")
        self._scalar = gauge("objective_scalar", "What the objective tells of itself", "name")
        self._examples = counter("examples", "Examples trained on, by target language", "kind", "target")
        self._source_examples = counter("source_examples", "Cross-lingual examples, by source language", "source")
        self._tokens = counter("target_tokens", "Target tokens trained on, by target language", "branch", "target")
        self._source_tokens = counter("source_target_tokens", "Cross-lingual target tokens, by source", "source")
        self._quota = table("target_quota_ratio", "Share of the examples that the mixture gives", "target")
        self._share = table("target_share_ratio", "Recent share of the examples that it had", "target")
        self._passes = table(
            "rarest_direction_passes", "Passes over the examples of the rarest directions", "source", "target"
        )
        self._speed = gauge("examples_per_second", "Examples trained on a second")
        self._token_speed = gauge("target_tokens_per_second", "Target tokens of both branches a second")
        self._flops = gauge("model_flops_per_second", "Matrix products of the model, over all ranks")
        peak = table("peak_flops_per_second", "What all ranks reached in a large matrix product at the start")
        self._mfu = table("mfu_ratio", "Model operations over that peak")
        if facts.peak_flops:
            peak.replace([((), facts.peak_flops)])
        self._padding = gauge("padding_ratio", "Places of self-attention over texts that hold no token")
        self._unreadable = counter("unreadable_examples", "Examples with a placeholder of weight 0", "source", "target")
        self._retries = counter("read_retries", "Reads of features that were tried again")
        self._slowest = gauge("slowest_rank", "The rank with the longest busy time")
        self._lag = gauge("slowest_rank_lag_seconds", "That time a step over the median of the ranks")
        self._validation = gauge("validation_nll_nats", "Held-out NLL a token", "kind")
        self._validation_target = table(
            "validation_target_nll_nats", "Held-out NLL a token, by target language", "kind", "target"
        )
        self._rouge = gauge("rouge_ratio", "ROUGE F1 of the final evaluation", "metric", "kind")
        self._target_rouge = table("target_rouge_ratio", "ROUGE-L F1 of it, by target language", "target")
        self._saved_step = gauge("checkpoint_step", "Step of the newest whole checkpoint")
        self._saved_stamp = gauge("checkpoint_timestamp_seconds", "When the newest checkpoint was committed")
        self._saved_seconds = gauge("checkpoint_duration_seconds", "How long its saving took")
        self._saved_bytes = gauge("checkpoint_bytes", "Its size")
        gauge("checkpoint_every_steps", "Steps between checkpoints, as planned").set(facts.checkpoint_every)
        self._stall = counter("checkpoint_stall_seconds", "Time that training waited for checkpoints")
        self._failed = counter("checkpoint_failures", "Checkpoints that could not be written")
        self._spikes = counter("loss_spikes", "Logged intervals whose loss stood out")
        self._rollbacks = counter("rollbacks", "Returns to a checkpoint after skipped steps")
        self._disk_free = table("run_disk_free_bytes", "Free space where the run directory lies")
        self._disk_size = table("run_disk_size_bytes", "Size of that file system")
        self._matrix: tuple[Table, Table] | None = None
        if facts.direction_matrix:
            self._matrix = (
                table("direction_nll_nats", "Recent NLL of every direction", "source", "target"),
                table("direction_examples", "Examples of every direction since this start", "source", "target"),
            )
        self._loss_scale = table("loss_scale", "Dynamic loss scale of fp16")

    def begin(self, *, step: int, steps: int, skipped: int, restarts: int, checkpoint_bytes: int) -> None:
        """Where the run stands as it starts: an age counted from 1970 would raise every alert.

        checkpoint_bytes: size of the checkpoint that it goes on from; 0 where it begins.
        """
        self._step.set(step)
        self._steps.set(steps)
        self._skipped.set(skipped)
        self._restarts.set(restarts)
        self._saved_step.set(step)
        self._saved_stamp.set_to_current_time()
        self._saved_bytes.set(checkpoint_bytes)

    def look_at_disk(self) -> None:
        """Measure the free space. Not by a scrape, nor in the training's thread: a file system may hang. What cannot be
        measured has no series."""
        try:
            usage = psutil.disk_usage(str(self._facts.directory))
            self._disk_free.replace([((), float(usage.free))])
            self._disk_size.replace([((), float(usage.total))])
        except OSError:
            self._disk_free.replace([])
            self._disk_size.replace([])

    def step(self, *, step: int, skipped: int) -> None:
        """After every step."""
        self._step.set(step)
        self._skipped.set(skipped)

    def interval(
        self,
        interval: Interval,
        *,
        groups: int,
        learning_rate: float,
        gradient_norm: float,
        loss_scale: float | None,
        scalars: Mapping[str, float],
    ) -> None:
        """At every logged step: what was summed over the ranks. groups: of the stream, so far."""
        self._recent.add(interval)
        self._examples_TS += interval.examples_TS
        self._loss.replace(((term,), value) for term, value in {"total": interval.total_loss, **interval.loss}.items())
        self._nll.replace(((branch,), value) for branch, value in interval.nll.items())
        self._rate.set(learning_rate)
        self._norm.set(gradient_norm)
        for name, value in scalars.items():
            self._scalar.labels(name).set(value)
        if loss_scale is not None:
            self._loss_scale.replace([((), loss_scale)])
        self._padding.set(1 - interval.real_token_share)
        self._retries.inc(interval.read_retries)
        self._throughput(interval)
        rank, lag = interval.slowest_rank
        self._slowest.set(rank)
        self._lag.set(lag)
        self._count(interval)
        self._languages_now(groups)
        self._directions_now()

    def not_finite(self) -> None:
        """Steps are skipped for their data or weights: until the next logged interval the loss is none."""
        self._loss.replace([(("total",), math.nan)])

    def unreadable(self, example: Unreadable) -> None:
        """One placeholder. Directions that have none have no series, and past a number of them all others share one."""
        direction = (example.source, example.target)
        if direction not in self._unreadable_seen and len(self._unreadable_seen) == UNREADABLE:
            direction = (OTHER, OTHER)
        else:
            self._unreadable_seen.add(direction)
        self._unreadable.labels(*direction).inc()

    def validation(
        self,
        nll: Mapping[str, float],
        by_target: Mapping[str, Mapping[str, float]],
        measured: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        """Held-out NLL by kind, and by kind and target language; what the objective measured."""
        for name, value in measured.items():
            self._scalar.labels(name).set(value)
        for kind, value in nll.items():
            self._validation.labels(kind).set(value)
        self._validation_target.replace(
            ((kind, target), value) for kind, values in by_target.items() for target, value in values.items()
        )

    def evaluation(self, report: Mapping[str, Any]) -> None:
        """The final evaluation: its ROUGE, there in per cent, beside measures of other kinds."""
        for kind, scores in report["by_kind"].items():
            for metric, score in scores.items():
                if metric.startswith("rouge"):
                    self._rouge.labels(metric, kind).set(score / 100)
        self._target_rouge.replace(
            ((target,), scores["rougeL"] / 100)
            for target, scores in report["by_target"].items()
            if "rougeL" in scores  # none where no reference has a word, or no segmenter is there
        )

    def spike(self) -> None:
        self._spikes.inc()

    def rollback(self, *, step: int, skipped: int) -> None:
        self._rollbacks.inc()
        self.step(step=step, skipped=skipped)

    def checkpoint(self, saved: Saved) -> None:
        """A save has ended, well or not."""
        self._stall.inc(saved.stall_seconds)
        if not saved.committed:
            self._failed.inc()
            return
        self._saved_step.set(saved.step)
        self._saved_stamp.set_to_current_time()
        self._saved_seconds.set(saved.seconds)
        self._saved_bytes.set(saved.bytes)

    def _throughput(self, interval: Interval) -> None:
        self._speed.set(interval.examples_per_second)
        self._token_speed.set(interval.target_tokens_per_second)
        self._flops.set(interval.flops_per_second)
        if self._facts.peak_flops:
            self._mfu.replace([((), interval.flops_per_second / self._facts.peak_flops)])

    def _count(self, interval: Interval) -> None:
        for kind in KINDS:
            for family, counts in ((self._examples, interval.examples[kind]), (self._tokens, interval.tokens[kind])):
                for language, count in zip(self._languages, counts, strict=True):
                    if count:
                        family.labels(kind, language).inc(count)
        for family, counts_TS in (
            (self._source_examples, interval.examples_TS),
            (self._source_tokens, interval.tokens_TS),
        ):
            for language, count in zip(self._languages, cross(counts_TS).sum(axis=0).tolist(), strict=True):
                if count:
                    family.labels(language).inc(count)

    def _languages_now(self, groups: int) -> None:
        recent, languages = self._recent, self._languages
        self._target_nll.replace(
            ((kind, language), value)
            for kind, nll_T in nll_by_target(recent).items()
            for language, value in _there(languages, nll_T.tolist())
        )
        nll_S = mean(cross(recent.nats_TS).sum(axis=0), cross(recent.tokens_TS).sum(axis=0))
        self._source_nll.replace(((language,), value) for language, value in _there(languages, nll_S.tolist()))
        quota_T = self._facts.sampler.shares(max(groups - 1, 0)).sum(axis=1).tolist()
        self._quota.replace(((language,), share) for language, share in zip(languages, quota_T, strict=True) if share)
        examples_T = recent.examples_TS.sum(axis=1)
        share_T = (examples_T / max(examples_T.sum(), 1e-9)).tolist()
        self._share.replace(
            ((language,), share)
            for language, share, quota in zip(languages, share_T, quota_T, strict=True)
            if share or quota
        )
        slots_TS, counts_TS = self._facts.sampler.slots(groups), self._facts.counts_TS
        rarest = np.argsort(np.where(slots_TS > 0, counts_TS, np.iinfo(np.int64).max), axis=None, kind="stable")
        self._passes.replace(
            (self._direction(place), float(slots_TS.flat[place] / counts_TS.flat[place]))
            for place in rarest[:RAREST].tolist()
            if slots_TS.flat[place] > 0
        )

    def _directions_now(self) -> None:
        nll = mean(self._recent.nats_TS, self._recent.tokens_TS).ravel()
        there = np.flatnonzero(~np.isnan(nll))
        worst = there[np.argsort(-nll[there], kind="stable")][:WORST].tolist()
        self._worst.replace((self._direction(place), float(nll[place])) for place in worst)
        self._truncated.set(len(there) - len(worst))
        if self._matrix is not None:
            by_nll, by_examples = self._matrix
            by_nll.replace((self._direction(place), float(nll[place])) for place in there.tolist())
            examples = self._examples_TS.ravel()
            by_examples.replace(
                (self._direction(place), float(examples[place])) for place in np.flatnonzero(examples).tolist()
            )

    def _direction(self, place: int) -> tuple[str, str]:
        """(source, target) of a place in a matrix by [target, source]."""
        target, source = divmod(place, len(self._languages))
        return self._languages[source], self._languages[target]


def _there(names: Sequence[str], values: Sequence[float]) -> list[tuple[str, float]]:
    return [(name, value) for name, value in zip(names, values, strict=True) if not np.isnan(value)]
