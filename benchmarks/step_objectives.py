"""Compare the step of every objective with that of MMS+MXLS, in time and in FLOPs: the part `objectives` of the step.

Each is the objective of models/objectives with its default settings, all around one network in one process, `full`
batches; what one reads frozen is a second network of the same shape.
"""

from collections.abc import Iterator

from rich import box
from rich.table import Table

from benchmarks.loader import spread
from benchmarks.step_figures import Figures, cpu_share, ratio, seconds_an_example
from benchmarks.step_process import trainee
from benchmarks.step_rounds import PRECISIONS, Measured, Plan, Say, Series, take_turns
from benchmarks.step_trainees import TWO_BRANCH
from models.objectives import OBJECTIVES

_BATCHES = "full"
#: The figures in bf16; those in fp32 end in _fp32.
FIGURES = {
    f"objectives_{name}_{what}": f"{words}, {name} over MMS+MXLS, bf16, full"
    for name in OBJECTIVES
    for what, words in (("time", "step time"), ("flops", "FLOPs of a step"))
}


def train_objectives(plan: Plan, say: Say) -> Measured:
    """Time MMS+MXLS and every objective, a precision at a time, in one process that holds them all."""
    measured = Measured()
    for precision in plan.precisions:
        order = [Series("ours", precision, _BATCHES, variant) for variant in (TWO_BRANCH, *OBJECTIVES)]
        with trainee("ours", plan.setup(precision, objectives=True), plan.threads) as ours:
            take_turns(plan, order, {"ours": ours}, measured, say)
    return measured


def objective_figures(measured: Measured, threads: int) -> Figures:
    """Return the ratios of every objective that was timed."""
    flat: Figures = {}
    for name, suffix, ours, plain in _pairs(measured):
        over, under = measured.timings[ours], measured.timings[plain]
        flat |= ratio(seconds_an_example(over), seconds_an_example(under), f"objectives_{name}_time{suffix}")
        flat |= ratio([one.flops for one in over], [one.flops for one in under], f"objectives_{name}_flops{suffix}")
        flat[f"objectives_{name}_cpu_share{suffix}"] = cpu_share(over, threads)
    return flat


def table_of_objectives(measured: Measured, threads: int) -> Table:
    """Return a line for each objective."""
    shown = Table("objective", "examples/s", "spread", "CPU", "time ÷ MMS+MXLS", "FLOPs ÷ MMS+MXLS", box=box.SIMPLE)
    flat = objective_figures(measured, threads)
    for name, suffix, ours, _ in _pairs(measured):
        speeds = sorted(timing.speed for timing in measured.timings[ours])
        shown.add_row(
            f"{name} {ours.precision}",
            f"{speeds[len(speeds) // 2]:.3g}",
            f"{spread(speeds):.0%}",
            f"{flat[f'objectives_{name}_cpu_share{suffix}']:.2f}",
            f"{flat[f'objectives_{name}_time{suffix}']:.3f}",
            f"{flat[f'objectives_{name}_flops{suffix}']:.3f}",
        )
    return shown


def _pairs(measured: Measured) -> Iterator[tuple[str, str, Series, Series]]:
    """Yield name, suffix of its figures, its series and that of MMS+MXLS, of every objective that has both."""
    for precision in PRECISIONS:
        plain = Series("ours", precision, _BATCHES, TWO_BRANCH)
        for name in OBJECTIVES:
            ours = plain._replace(variant=name)
            if ours in measured.timings and plain in measured.timings:
                yield name, "" if precision == "bf16" else f"_{precision}", ours, plain
