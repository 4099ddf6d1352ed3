"""Compare the step of every objective with that of MMS+MXLS, in time and in FLOPs: the part `objectives` of the step.

Each is an objective of models/objectives with its default settings (the first choice where one has no default), in a
process of its own with a network of its own: one holds a second decoder, another a frozen network. It takes turns with
MMS+MXLS, in bf16, on `full` batches.
"""

import statistics
from collections.abc import Mapping

from rich import box
from rich.table import Table

from benchmarks.loader import spread
from benchmarks.step_figures import Figures, cpu_share, ratio, seconds_an_example
from benchmarks.step_process import trainee
from benchmarks.step_rounds import Measured, Plan, Say, Series, take_turns
from benchmarks.step_trainees import TWO_BRANCH
from models.objectives import OBJECTIVES

_PRECISION, _BATCHES = "bf16", "full"
FIGURES = {
    f"objectives_{name}_{what}": f"{words}, {name} over MMS+MXLS, bf16, full"
    for name in OBJECTIVES
    for what, words in (("time", "step time"), ("flops", "FLOPs of a step"))
}


def series_of(variant: str) -> Series:
    """Return the series of an objective, or of MMS+MXLS."""
    return Series(variant, _PRECISION, _BATCHES, variant)


def train_objectives(plan: Plan, say: Say) -> dict[str, Measured]:
    """Return name -> timings of the objective and of MMS+MXLS; nothing where bf16 was not asked for."""
    if _PRECISION not in plan.precisions:
        return {}
    found = {}
    with trainee("ours", plan.setup(_PRECISION, objective=TWO_BRANCH), plan.threads) as plain:
        for name in plan.objectives:
            say(f"{name} and MMS+MXLS")
            found[name] = Measured()
            with trainee("ours", plan.setup(_PRECISION, objective=name), plan.threads) as ours:
                order = [series_of(TWO_BRANCH), series_of(name)]
                take_turns(plan, order, {TWO_BRANCH: plain, name: ours}, found[name], say)
    return found


def objective_figures(found: Mapping[str, Measured], threads: int) -> Figures:
    """Return the ratios of every objective that was timed, and why there are none of the others."""
    flat: Figures = {}
    for name, measured in found.items():
        if measured.missing:
            reason = next(iter(measured.missing.values()))
            flat |= {f"objectives_{name}_{what}_missing": reason for what in ("time", "flops")}
            continue
        over, under = measured.timings[series_of(name)], measured.timings[series_of(TWO_BRANCH)]
        flat |= ratio(seconds_an_example(over), seconds_an_example(under), f"objectives_{name}_time")
        flat[f"objectives_{name}_flops"] = statistics.median(
            one.flops / other.flops for one, other in zip(over, under, strict=True)
        )
        flat[f"objectives_{name}_spread"] = spread([one.speed for one in over])
        flat[f"objectives_{name}_cpu_share"] = cpu_share(over, threads)
    return flat


def table_of_objectives(flat: Figures) -> Table:
    """Return a line for each objective that was timed."""
    shown = Table("objective", "time ÷ MMS+MXLS", "low", "high", "FLOPs ÷ MMS+MXLS", "spread", "CPU", box=box.SIMPLE)
    keys = {"time": ".3f", "time_low": ".3f", "time_high": ".3f", "flops": ".3f", "spread": ".0%", "cpu_share": ".2f"}
    for name in OBJECTIVES:
        if f"objectives_{name}_time" in flat:
            shown.add_row(name, *(format(flat[f"objectives_{name}_{key}"], form) for key, form in keys.items()))
    return shown
