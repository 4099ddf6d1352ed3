"""Read what a training step of each model costs, in seconds and FLOPs, from the records of a study's trainings."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher.pages.sheet import Sheet, words
from launcher.study.definition import Definition, Trial
from trainer.runs.tail import read_records
from trainer.runs.words import decimals, number


@dataclass(frozen=True, kw_only=True, slots=True)
class StepCost:
    """Cost of a model's step: medians over its seeds. None where the records have none.

    flops: of the matrix products, over all ranks.  ratios: to the baseline's training of the same seed.
    """

    seconds: float | None
    seconds_ratio: float | None
    flops: float | None
    flops_ratio: float | None


def read_step_costs(definition: Definition, trials: Sequence[Trial]) -> dict[str, StepCost]:
    """Return what a step of every model costs."""
    seconds: dict[tuple[str, int], float] = {}
    flops: dict[tuple[str, int], float] = {}
    for trial in trials:
        of_steps, of_products = _read(trial.run)
        if of_steps:
            seconds[trial.model, trial.seed] = statistics.median(of_steps)
        if of_products:
            flops[trial.model, trial.seed] = statistics.fmean(of_products)
    return {
        model: StepCost(
            seconds=_median([seconds.get((model, seed)) for seed in definition.seeds]),
            seconds_ratio=_ratio(seconds, model, definition),
            flops=_median([flops.get((model, seed)) for seed in definition.seeds]),
            flops_ratio=_ratio(flops, model, definition),
        )
        for model in definition.models
    }


def cost_sheet(costs: Mapping[str, StepCost], baseline: str) -> Sheet:
    """Return the costs as a table."""
    rows = []
    for model, cost in costs.items():
        cells = [
            model,
            "–" if cost.seconds is None else f"{cost.seconds:.3g}",
            decimals(cost.seconds_ratio, 2),
            "–" if cost.flops is None else f"{cost.flops / 1e9:,.1f}",
            decimals(cost.flops_ratio, 2),
        ]
        rows.append(tuple(map(words, cells)))
    return Sheet(
        title="cost of a step",
        head=("model", "seconds", f"÷ {baseline}", "GFLOP", f"÷ {baseline}"),
        rows=tuple(rows),
        note="Medians over seeds. Seconds: the median of the logged intervals, without the first after a start, which "
        f"compiles and warms up. GFLOP: of the matrix products of all ranks. ÷ {baseline}: of the same seed. –: the "
        "records have none.",
    )


def _read(run: Path) -> tuple[list[float], list[float]]:
    """Return seconds and FLOPs a step of the logged intervals, without seconds of the first one after each start."""
    seconds, flops, starting = [], [], True
    for record in read_records(run / "metrics.jsonl"):
        if record["kind"] == "start":
            starting = True
        elif record["kind"] == "train":
            if (of_step := number(record.get("step_seconds"))) is not None and not starting:
                seconds.append(of_step)
            if (of_products := number(record.get("step_flops"))) is not None:
                flops.append(of_products)
            starting = False
    return seconds, flops


def _ratio(measured: Mapping[tuple[str, int], float], model: str, definition: Definition) -> float | None:
    pairs = [(measured.get((model, seed)), measured.get((definition.baseline, seed))) for seed in definition.seeds]
    return _median([over / under if over is not None and under else None for over, under in pairs])


def _median(values: Sequence[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return statistics.median(found) if found else None
