"""Metrics of the whole run, served by rank 0 (metric_table.RUN). Shape suffixes as in trainer/telemetry/totals.py."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from shards.schema import Unreadable
from shards.stream.sampler import Sampler
from trainer.events import Saved
from trainer.interval import Interval
from trainer.telemetry.prometheus.declared import Series
from trainer.telemetry.prometheus.metric_table import RUN
from trainer.telemetry.recent import cross, mean, nll_by_target, recent_sums

#: How many directions have a series of their own: the worst, the rarest, those with unreadable examples.
WORST, RAREST, UNREADABLE = 20, 10, 64
OTHER = "other"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFacts:
    """Facts that do not change in a run. build, run: labels of the two `_info` metrics. peak_flops: of all ranks."""

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
        # (source, target) by the flat index of [target, source].
        self._directions = [(source, target) for target in facts.languages for source in facts.languages]
        self._recent = recent_sums(len(facts.languages))
        self._examples_TS = np.zeros(facts.counts_TS.shape)
        self._unreadable_directions: set[tuple[str, str]] = set()
        self._series = series = Series(registry, RUN)
        series.inform("build_info", facts.build)
        series.inform("run_info", facts.run)
        series.set("checkpoint_every_steps", facts.checkpoint_every)
        if facts.peak_flops:
            series.replace("peak_flops_per_second", [((), facts.peak_flops)])

    def begin(self, *, step: int, steps: int, skipped: int, restarts: int, checkpoint_bytes: int) -> None:
        """Set where the run stands as it starts. checkpoint_bytes: size of the checkpoint that it goes on from, or 0.

        The checkpoint's time is now: an age counted from 1970 would raise every alert.
        """
        self.step(step=step, skipped=skipped)
        self._series.set("steps_planned", steps)
        self._series.set("restarts", restarts)
        self._series.set("checkpoint_step", step)
        self._series.set_now("checkpoint_timestamp_seconds")
        self._series.set("checkpoint_bytes", checkpoint_bytes)

    def look_at_disk(self) -> None:
        """Measure the free space; what cannot be measured has no series.

        Call it neither in a scrape nor in the training's thread: a file system may hang.
        """
        try:
            usage = psutil.disk_usage(str(self._facts.directory))
            free, size = [((), float(usage.free))], [((), float(usage.total))]
        except OSError:
            free = size = []
        self._series.replace("run_disk_free_bytes", free)
        self._series.replace("run_disk_size_bytes", size)

    def step(self, *, step: int, skipped: int) -> None:
        """Set the number of steps taken and skipped."""
        self._series.set("step", step)
        self._series.set("skipped_steps", skipped)

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
        """Observe a logged interval. groups: of the stream, so far."""
        series = self._series
        self._recent.add(interval)
        self._examples_TS += interval.examples_TS
        series.replace("loss", _rows({"total": interval.total_loss, **interval.loss}))
        series.replace("nll_nats", _rows(interval.nll))
        series.set("learning_rate", learning_rate)
        series.set("gradient_norm", gradient_norm)
        for name, value in scalars.items():
            series.set("objective_scalar", value, name)
        if loss_scale is not None:
            series.replace("loss_scale", [((), loss_scale)])
        series.set("padding_ratio", 1 - interval.real_token_share)
        series.add("read_retries_total", interval.read_retries)
        series.set("examples_per_second", interval.examples_per_second)
        series.set("target_tokens_per_second", interval.target_tokens_per_second)
        series.set("model_flops_per_second", interval.flops_per_second)
        if self._facts.peak_flops:
            series.replace("mfu_ratio", [((), interval.flops_per_second / self._facts.peak_flops)])
        rank, lag = interval.slowest_rank
        series.set("slowest_rank", rank)
        series.set("slowest_rank_lag_seconds", lag)
        self._count(interval)
        self._set_languages(groups)
        self._set_directions()

    def not_finite(self) -> None:
        """Set the loss to NaN until the next logged interval: steps are skipped for their data or weights."""
        self._series.replace("loss", [(("total",), math.nan)])

    def unreadable(self, example: Unreadable) -> None:
        """Count a placeholder: each direction has its own series, past `UNREADABLE` of them the others share one."""
        direction = (example.source, example.target)
        if direction not in self._unreadable_directions and len(self._unreadable_directions) == UNREADABLE:
            direction = (OTHER, OTHER)
        else:
            self._unreadable_directions.add(direction)
        self._series.add("unreadable_examples_total", 1, *direction)

    def validation(
        self,
        nll: Mapping[str, float],
        by_target: Mapping[str, Mapping[str, float]],
        measured: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        """Set held-out NLL by kind, and by kind and target language, and what the objective measured."""
        for name, value in measured.items():
            self._series.set("objective_scalar", value, name)
        for kind, value in nll.items():
            self._series.set("validation_nll_nats", value, kind)
        rows = [((kind, target), value) for kind, values in by_target.items() for target, value in values.items()]
        self._series.replace("validation_target_nll_nats", rows)

    def evaluation(self, report: Mapping[str, Any]) -> None:
        """Set the ROUGE of the final evaluation, which is in per cent there, beside measures of other kinds."""
        for kind, scores in report["by_kind"].items():
            for metric, score in scores.items():
                if metric.startswith("rouge"):
                    self._series.set("rouge_ratio", score / 100, metric, kind)
        # A language has none where no reference has a word, or no segmenter is installed.
        rouge = {target: scores["rougeL"] / 100 for target, scores in report["by_target"].items() if "rougeL" in scores}
        self._series.replace("target_rouge_ratio", _rows(rouge))

    def spike(self) -> None:
        """Count a spike of the loss."""
        self._series.add("loss_spikes_total")

    def rollback(self, *, step: int, skipped: int) -> None:
        """Count a return to the checkpoint of `step`."""
        self._series.add("rollbacks_total")
        self.step(step=step, skipped=skipped)

    def checkpoint(self, saved: Saved) -> None:
        """Observe the end of a save, committed or not."""
        self._series.add("checkpoint_stall_seconds_total", saved.stall_seconds)
        if not saved.committed:
            self._series.add("checkpoint_failures_total")
            return
        self._series.set("checkpoint_step", saved.step)
        self._series.set_now("checkpoint_timestamp_seconds")
        self._series.set("checkpoint_duration_seconds", saved.seconds)
        self._series.set("checkpoint_bytes", saved.bytes)

    def _count(self, interval: Interval) -> None:
        for name, by_kind in (("examples_total", interval.examples), ("target_tokens_total", interval.tokens)):
            for kind, counts in by_kind.items():
                self._add_positive(name, counts, kind)
        for name, counts_TS in (
            ("source_examples_total", interval.examples_TS),
            ("source_target_tokens_total", interval.tokens_TS),
        ):
            self._add_positive(name, cross(counts_TS).sum(axis=0).tolist())

    def _add_positive(self, name: str, counts: Sequence[float], *labels: str) -> None:
        for language, count in zip(self._languages, counts, strict=True):
            if count:
                self._series.add(name, count, *labels, language)

    def _set_languages(self, groups: int) -> None:
        recent, languages, sampler = self._recent, self._languages, self._facts.sampler
        by_target = nll_by_target(recent).items()
        rows = [((kind, *labels), nll) for kind, nll_T in by_target for labels, nll in _known(languages, nll_T)]
        self._series.replace("target_nll_nats", rows)
        nll_S = mean(cross(recent.nats_TS).sum(axis=0), cross(recent.tokens_TS).sum(axis=0))
        self._series.replace("source_nll_nats", _known(languages, nll_S))
        quota_T = sampler.shares(max(groups - 1, 0)).sum(axis=1)
        examples_T = recent.examples_TS.sum(axis=1)
        share_T = examples_T / max(examples_T.sum(), 1e-9)
        # A language that should have examples and has none is shown with 0: an alert compares the two.
        self._series.replace("target_quota_ratio", _known(languages, np.where(quota_T > 0, quota_T, np.nan)))
        shown_T = np.where((quota_T > 0) | (share_T > 0), share_T, np.nan)
        self._series.replace("target_share_ratio", _known(languages, shown_T))
        slots_TS, counts_TS = sampler.slots(groups), self._facts.counts_TS
        rarest = np.argsort(np.where(slots_TS > 0, counts_TS, np.iinfo(np.int64).max), axis=None, kind="stable")
        passes = np.divide(slots_TS, counts_TS, out=np.full(slots_TS.shape, np.nan), where=slots_TS > 0)
        shown = rarest[:RAREST]
        self._replace_directions("rarest_direction_passes", passes, shown[slots_TS.flat[shown] > 0])

    def _set_directions(self) -> None:
        nll_TS = mean(self._recent.nats_TS, self._recent.tokens_TS)
        known = np.flatnonzero(~np.isnan(nll_TS))
        worst = known[np.argsort(-nll_TS.ravel()[known], kind="stable")][:WORST]
        self._replace_directions("worst_direction_nll_nats", nll_TS, worst)
        self._series.set("worst_directions_truncated", len(known) - len(worst))
        if self._facts.direction_matrix:
            self._replace_directions("direction_nll_nats", nll_TS, known)
            self._replace_directions("direction_examples", self._examples_TS, np.flatnonzero(self._examples_TS))

    def _replace_directions(self, name: str, values_TS: NDArray[np.float64], at: NDArray[Any]) -> None:
        """Show the values at these flat indices, in their order."""
        values = values_TS.ravel()[at].tolist()
        self._series.replace(name, zip(map(self._directions.__getitem__, at.tolist()), values, strict=True))


def _rows(values: Mapping[str, float]) -> list[tuple[tuple[str, ...], float]]:
    return [((name,), value) for name, value in values.items()]


def _known(names: Sequence[str], values: NDArray[np.float64]) -> list[tuple[tuple[str, ...], float]]:
    return [((name,), value) for name, value in zip(names, values.tolist(), strict=True) if not math.isnan(value)]
