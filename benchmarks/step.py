"""Measure a training step against its two branches alone, the plain step, the hardware's peak, and itself at scale,
and the step of every objective against MMS+MXLS.

    python -m benchmarks.step --json OUT [--quick] [--shape SHAPE] [--device cpu|cuda] [--only PART ...]

Ours trains through the real engine (ZeRO-2, one rank), the plain one (benchmarks/plain_d2tv.py) with torch's AdamW, on
the same batches of 4 examples in two regimes of lengths: `full` (512 and 84 tokens, 5 images; nothing to gain from
leaving padding out) and `real` (as in real corpora, benchmarks/step_shapes.py). Both train in processes of their own
that take turns; a figure is the median over the rounds, a ratio that of the ratios within each round. The CPU share is
processor time over wall time and threads: what is far below 1 was measured beside other programs (near 1 it may have
been, too, since threads that wait for each other are busy: others_processors says).

`--only objectives`: every objective over MMS+MXLS, in time and in FLOPs, in bf16 and `full` batches
(benchmarks/step_objectives.py).

With --shape mt5-small the two need 21 GB together. Nothing is downloaded, all weights are random.
"""

import argparse
import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

# DeepSpeed asks for it at its import, here and in the processes that are started.
os.environ.setdefault("DS_ACCELERATOR", "cuda" if any("cuda" in word for word in sys.argv) else "cpu")

import torch
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.loader import machine, spread
from benchmarks.output import run, show_figures
from benchmarks.step_figures import Figures, cpu_share, mfu, ratio, seconds_an_example
from benchmarks.step_loss import Size, measure_loss
from benchmarks.step_objectives import FIGURES as OBJECTIVE_FIGURES
from benchmarks.step_objectives import objective_figures, table_of_objectives, train_objectives
from benchmarks.step_process import TraineeError
from benchmarks.step_rounds import (
    PRECISIONS,
    Measured,
    Plan,
    Series,
    shares_of_corpora,
    train_in_rounds,
    two_ranks,
)
from benchmarks.step_shapes import SHAPES
from models.objectives import OBJECTIVES
from shards.errors import InputError
from shards.files.write import check_output
from trainer.terminal.progress import stage

PARTS = ("train", "objectives", "loss", "ranks", "share")
#: The figures that are always there, null with a printed reason where there is none, and what each is a ratio of.
FIGURES = {
    "d2tv_over_two_branch": "step time, D2TV over MMS+MXLS, bf16, full",
    "vs_plain_bf16": "examples/s, ours over plain, full",
    "vs_plain_fp32": "the same in fp32",
    "vs_plain_bf16_real": "examples/s, ours over plain, real lengths",
    "vs_plain_fp32_real": "the same in fp32",
    "mfu_bf16": "ours: products of real tokens over the matmul peak of this run, full",
    "plain_mfu_bf16": "the same of the plain step",
    "story_batched_speedup": "examples/s, 4 sources a target: shared over every row on its own",
    "loss_memory_ratio": "bytes, sliced loss over naive, bf16, 64 x 84 tokens",
    "loss_time_ratio": "seconds, the same",
    "languages_44_over_4": "step time, 44 languages over 4",
    "real_token_share": "tokens over places computed, the lower of the two corpora",
    "two_ranks_over_one": "examples/s, 2 ranks x B over 1 rank x 2B, tiny, a thread each",
    **OBJECTIVE_FIGURES,
}


def training_figures(measured: Measured, threads: int) -> Figures:
    """Every series' own figures, and the ratios between them that there are."""
    flat: Figures = {f"matmul_{precision}_tflops": peak / 1e12 for precision, peak in measured.peaks.items()}
    seconds = {series: seconds_an_example(timings) for series, timings in measured.timings.items()}
    for series, timings in measured.timings.items():
        name = _name(series)
        parts = measured.apart[series].parts
        whole = parts.forward + parts.backward + parts.optimizer
        speeds = [timing.speed for timing in timings]
        flat |= {
            f"{name}_examples_per_second": statistics.median(speeds),
            f"{name}_spread": spread(speeds),
            f"{name}_cpu_share": cpu_share(timings, threads),
            f"{name}_mfu": mfu(timings, measured.peaks[series.precision]),
            f"{name}_forward_share": parts.forward / whole,
            f"{name}_backward_share": parts.backward / whole,
            f"{name}_optimizer_share": parts.optimizer / whole,
            f"{name}_peak_gb": max(timing.peak_bytes for timing in timings) / 1e9,
        }

    def compare(name: str, over: Series, under: Series) -> None:
        if over in seconds and under in seconds:
            flat.update(ratio(seconds[over], seconds[under], name))

    for precision in PRECISIONS:
        for regime, suffix in (("full", ""), ("real", "_real")):
            ours = Series("ours", precision, regime, "d2tv")
            plain = Series("plain", precision, regime, "d2tv")
            compare(f"vs_plain_{precision}{suffix}", plain, ours)
            ending = suffix if precision == "bf16" else f"_{precision}{suffix}"
            compare(f"d2tv_over_two_branch{ending}", ours, Series("ours", precision, regime, "two_branch"))
            flat[f"mfu_{precision}{suffix}"] = flat.get(f"{_name(ours)}_mfu")
            flat[f"plain_mfu_{precision}{suffix}"] = flat.get(f"{_name(plain)}_mfu")
    unshared, shared = (Series("ours", "bf16", "stories", variant) for variant in ("unshared", "d2tv"))
    compare("story_batched_speedup", unshared, shared)
    many, few = (Series("ours", "bf16", f"languages_{n}", f"d2tv@{n}") for n in (44, 4))
    compare("languages_44_over_4", many, few)
    return flat


def loss_figures(plan: Plan) -> Figures:
    """Both precisions; the figures without a name of one are bf16's."""
    size = Size(words=4096, width=64, tokens=2048, rounds=2) if plan.quick else Size()
    flat: Figures = {}
    for precision in plan.precisions:
        found = measure_loss(precision, size, plan.device, plan.threads)
        values = {
            "loss_memory_ratio": found.memory_ratio,
            "loss_time_ratio": found.time_ratio,
            "loss_time_spread": found.time_spread,
            "loss_cpu_share": found.cpu_share,
            "loss_naive_tokens": found.memory_tokens,
            **{f"loss_{kind}_gb": used / 1e9 for kind, used in found.bytes.items()},
            **{f"loss_{kind}_seconds": taken for kind, taken in found.seconds.items()},
        }
        flat |= {f"{name}_{precision}": value for name, value in values.items()}
    return flat | {name: flat.get(f"{name}_bf16") for name in ("loss_memory_ratio", "loss_time_ratio")}


def rank_figures(plan: Plan) -> Figures:
    rounds = two_ranks(plan)
    pair = [max(first.wall, second.wall) for first, second, _ in rounds]
    flat = ratio([whole.wall for _, _, whole in rounds], pair, "two_ranks_over_one")
    return flat | {
        "two_ranks_cpu_share": statistics.median((a.cpu + b.cpu) / 2 / max(a.wall, b.wall) for a, b, _ in rounds)
    }


def table(measured: Measured, threads: int) -> Table:
    """A line a series; `f / b / o` are the shares of forward, backward and optimizer in percent."""
    shown = Table(
        "step", "examples/s", "spread", "MFU", "f / b / o", "CPU", "GB", box=box.SIMPLE, padding=(0, 1), pad_edge=False
    )
    flat = training_figures(measured, threads)
    for series in sorted(measured.timings, key=lambda series: (series.precision, series.batches)):
        value = {key: float(flat[f"{_name(series)}_{key}"] or 0.0) for key in _KEYS}
        shares = " / ".join(f"{100 * value[f'{part}_share']:.0f}" for part in ("forward", "backward", "optimizer"))
        shown.add_row(
            " ".join(series),
            f"{value['examples_per_second']:.3g}",
            f"{value['spread']:.0%}",
            f"{value['mfu']:.1%}",
            shares,
            f"{value['cpu_share']:.2f}",
            f"{value['peak_gb']:.1f}",
        )
    return shown


_KEYS = (
    *("examples_per_second", "spread", "mfu", "cpu_share", "peak_gb"),
    *("forward_share", "backward_share", "optimizer_share"),
)


def _name(series: Series) -> str:
    return "_".join(series).replace("@", "_").replace("-", "_")


def device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else machine()


def measure(plan: Plan, parts: Sequence[str], data: Path, console: Console) -> Figures:
    """All figures of the parts that are asked for; the reasons of what is missing are printed."""
    flat: Figures = {
        "machine": device_name(plan.device),
        "torch": torch.__version__,
        "shape": plan.shape,
        "device": plan.device,
        "threads": plan.threads,
        "rounds": plan.rounds,
        "rows": plan.rows,
    }
    missing: dict[str, str] = {}
    if "train" in parts:
        measured = train_in_rounds(plan, console.print)
        flat |= training_figures(measured, plan.threads) | {"others_processors": measured.others}
        missing |= measured.missing
        console.print(table(measured, plan.threads))
        console.print(f"Of {os.cpu_count()} processors, other programs used {measured.others:.1f} on average.")
    if "objectives" in parts:
        of_objectives = objective_figures(train_objectives(plan, console.print), plan.threads)
        flat |= of_objectives
        console.print(table_of_objectives(of_objectives))
    if "loss" in parts:
        console.print("the loss, sliced and naive")
        try:
            flat |= loss_figures(plan)
        except TraineeError as error:
            missing["loss"] = str(error)
    if "ranks" in parts:
        console.print("two ranks and one")
        try:
            flat |= rank_figures(plan)
        except TraineeError as error:
            missing["two_ranks_over_one"] = str(error)
    if "share" in parts:
        shares, without = shares_of_corpora(data, quick=plan.quick)
        missing |= without
        flat |= {f"real_token_share_{name}": share for name, share in shares.items()}
        flat["real_token_share"] = min(shares.values(), default=None)
    for name in FIGURES:
        flat.setdefault(name, None)
    flat |= {f"{name}_missing": reason for name, reason in missing.items()}
    for name, reason in missing.items():
        console.print(f"[bold]no figure[/] {escape(name)}: {escape(reason)}")
    left_out = [part for part in PARTS if part not in parts]
    if left_out:
        console.print(f"[bold]no figures[/] of {', '.join(left_out)}: not asked for")
    if "objectives" in parts and (skipped := [name for name in OBJECTIVES if name not in plan.objectives]):
        console.print(f"[bold]no figures[/] of the objectives {', '.join(skipped)}: not asked for")
    for precision in set(PRECISIONS) - set(plan.precisions):
        console.print(f"[bold]no figures[/] in {precision}: not asked for")
    return flat


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--quick", action="store_true", help="the same, small: no figure means anything")
    parser.add_argument("--shape", choices=SHAPES, help="the network (default: mt5-small; tiny with --quick)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: all cores")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS, help="default: both")
    parser.add_argument("--rounds", type=int, help="default: 5; 2 with --quick")
    parser.add_argument("--rows", type=int, default=4, help="examples of a micro-batch (default: 4)")
    parser.add_argument("--compile", action="store_true", help="compile our layers, as training.compile does")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="the parts to measure (default: all)")
    names = tuple(OBJECTIVES)
    parser.add_argument("--objectives", nargs="+", choices=names, default=names, help="of their part (default: all)")
    parser.add_argument("--data", type=Path, default=Path("data"), help="where the prepared corpora are")
    options = parser.parse_args(arguments)
    check_output(options.json)
    if options.device == "cuda" and not torch.cuda.is_available():
        raise InputError("there is no CUDA device: run it where there is one, or with --device cpu")
    shape = options.shape or ("tiny" if options.quick else "mt5-small")
    plan = Plan(
        shape=shape,
        device=options.device,
        threads=options.threads,
        quick=options.quick,
        rounds=options.rounds or (2 if options.quick else 5),
        steps=1 if options.quick or (options.device == "cpu" and shape != "tiny") else 4,
        rows=options.rows,
        precisions=tuple(options.precisions),
        compile=options.compile,
        objectives=tuple(options.objectives),
    )
    console = Console()
    with stage("measuring steps"):
        flat = measure(plan, options.only, options.data, console)
    measured = {name: words for name, words in FIGURES.items() if flat[name] is not None}
    show_figures(f"steps, {flat['machine']}", flat, options.json, measured)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
