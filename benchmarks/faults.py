"""Measure what kills, signals and checkpoints cost a run, and whether it survives them.

    python -m benchmarks.faults --json OUT [--quick] [--kills N] [--seed S] [--shape SHAPE]

A run of two ranks on a small corpus is killed with SIGKILL at random moments (one rank or both, while starting,
training, saving, evaluating) and started again until it is finished; then another, until N kills were made. Each must
end with the losses and weights of the undisturbed run, bit for bit, and with every example of its stream trained once.

goodput is computed, from what was measured here: with one failure every 30 minutes and checkpoints at Daly's interval
for that (sqrt(2 c M) - c), the share of time that is neither spent on saving, nor lost with the steps since the last
checkpoint, nor spent on noticing the failure and starting again. --shape (mt5_small, ...) makes the network whose
checkpoints are measured larger than the recipe's; the kills are of the small one.
"""

import argparse
import json
import math
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("DS_ACCELERATOR", "cpu")

from rich.console import Console

from benchmarks.faults_kills import Kills, Life, disturbed, undisturbed
from benchmarks.loader import machine
from benchmarks.output import run, show_figures
from shards.files.write import check_output
from shards.format.index import Corpus
from tests.support.tiny import make_corpus, tiny_overrides
from trainer.checkpoint.directory import damage, whole_checkpoints
from trainer.liveness.exit_codes import STOPPED
from trainer.terminal.progress import stage, track

_DS_CONFIG = Path(__file__).resolve().parent.parent / "tests" / "support" / "fp32.json"
#: Seconds between failures: a bad day on a large cluster.
_MEAN_TIME_BETWEEN_FAILURES = 1800.0
QUICK_KILLS = 4
FIGURES = {
    "kills": "SIGKILLs at random moments",
    "unusable_resumes": "starts after a kill that failed",
    "examples_lost": "of the undisturbed stream, over all runs",
    "examples_repeated": "the same",
    "bitwise_equal": "share of runs whose losses and weights are the undisturbed ones",
    "restart_seconds": "start to the end of the first step, median",
    "takedown_seconds": "from a kill of a run to the end of its last rank, worst",
    "takedown_seconds_starting": "of one whose ranks have not joined: a launcher ends them, here a minute does",
    "term_to_checkpoint_seconds": "SIGTERM of one rank to the end of the run, checkpoint written; the recipe's sizes",
    "checkpoint_stall_share": "of training time at Daly's interval, steps slowed by writing included",
    "goodput": "at one failure every 30 minutes, computed",
}


def small_run(corpus: Corpus, run: Path, steps: int) -> list[str]:
    """Overrides of a run that saves often, validates, and evaluates long enough to be hit in it."""
    return [
        *tiny_overrides(corpus.directory, run),
        "batch.groups_per_micro_batch=1",
        f"training.steps={steps}",
        "training.validate_every=100",
        "checkpoint.every=5",
        "loader.threads=2",
        "evaluation.examples_per_kind=64",
    ]


def words_of(overrides: Sequence[str]) -> list[str]:
    return ["--ds_config", str(_DS_CONFIG), *overrides]


def kill_runs(corpus: Corpus, folder: Path, *, kills: int, steps: int, seed: int, say: Console) -> Kills:
    """Runs one after the other until so many kills were made; at least one."""
    reference = undisturbed(folder / "whole", words_of(small_run(corpus, folder / "whole", steps)), steps)
    done, draw = Kills(), random.Random(seed)
    while done.count < kills:
        run = folder / f"run-{done.runs + len(done.unusable)}"
        disturbed(run, words_of(small_run(corpus, run, steps)), reference, done, kills, draw)
        say.print(
            f"{done.count} kills, {done.runs} runs finished, {len(done.unusable)} unusable, {done.unequal} unequal, "
            f"{done.lost} examples lost, {done.repeated} repeated"
        )
        for problem in done.unusable:
            say.print(problem, style="red", markup=False)
    return done


def endless_run(corpus: Corpus, run: Path, *, quick: bool) -> list[str]:
    """Overrides of a run without an end at the sizes of `d2tv`; with `quick` at those of the tests."""
    never = [f"{key}=1000000" for key in ("training.steps", "training.validate_every", "checkpoint.every")]
    if quick:
        return [*tiny_overrides(corpus.directory, run), *never, "batch.groups_per_micro_batch=2"]
    places = [f"run={run}", f"corpus.path={corpus.directory}"]
    return [*places, *never, "network.vision.feature_size=32", "prometheus.enabled=false"]


def term_to_checkpoint(corpus: Corpus, run: Path, *, quick: bool) -> float:
    """Seconds from SIGTERM to one of two ranks until both have left a checkpoint behind."""
    few = ("training.log_every=1", "validation.examples_per_kind=16")
    life = Life(run, 0, words_of([*endless_run(corpus, run, quick=quick), *few]))
    try:
        while life.attempts() < 10:
            if not life.alive():
                raise RuntimeError(f"a rank ended before it was asked to: see {run}.log")
            time.sleep(0.01)
        began = time.monotonic()
        life.ranks[1].send_signal(signal.SIGTERM)
        life.until_gone()
        seconds = time.monotonic() - began
    finally:
        life.close()
    codes = [rank.returncode for rank in life.ranks]
    found = whole_checkpoints(run / "checkpoints")
    if codes != [STOPPED] * len(codes) or not found or damage(found[0]):
        raise RuntimeError(f"SIGTERM left exit codes {codes} and checkpoints {found}: see {run}.log")
    return seconds


def saving_costs(corpus: Corpus, folder: Path, shape: str | None, saves: int, *, quick: bool) -> dict[str, float]:
    words = [
        *endless_run(corpus, folder / "costs", quick=quick and shape is None),
        *("training.log_every=1000000", "watchdog.enabled=false", "checkpoint.keep_last=1"),
        *([f"network.text.shape={shape}"] if shape else []),
    ]
    spec = folder / "costs.json"
    spec.write_text(json.dumps({"words": words, "ds_config": str(_DS_CONFIG), "saves": saves}))
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.faults_costs", str(spec)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"measuring checkpoints failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return {name: float(value) for name, value in json.loads(done.stdout.splitlines()[-1]).items()}


def computed(costs: dict[str, float], *, restart: float, noticed: float) -> dict[str, float]:
    """Daly's interval and what follows from it. A checkpoint costs its stall and what its writing slows down."""
    cost = costs["stall"] + max(0.0, costs["slowed"])
    mean = _MEAN_TIME_BETWEEN_FAILURES
    # Not shorter than a checkpoint is written, else the next one would wait for it.
    interval = max(math.sqrt(2 * cost * mean) - cost, costs["write"], costs["step"])
    saving = cost / (interval + cost)
    lost = noticed + restart + (interval + cost) / 2
    return {
        "checkpoint_stall_share": saving,
        "daly_interval_seconds": interval,
        "goodput": (1 - saving) * max(0.0, 1 - lost / mean),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__.split("\n\n")[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="few kills, for the tests")
    parser.add_argument("--kills", type=int, help="how many (default: 200, with --quick 4)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shape", help="network.text.shape of the measured checkpoints (default: the recipe's)")
    options = parser.parse_args(arguments)
    check_output(options.json)
    quick: bool = options.quick
    say = Console(highlight=False, soft_wrap=True)
    most = options.kills or (QUICK_KILLS if quick else 200)
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        folder = Path(name)
        corpus = make_corpus(folder / "corpus", stories=60)
        with stage("what a checkpoint costs"):
            costs = saving_costs(corpus, folder, options.shape, 3 if quick else 10, quick=quick)
        say.print(f"a checkpoint: {costs}", markup=False)
        ends = track(range(1 if quick else 5), "runs that SIGTERM ends")
        terms = [term_to_checkpoint(corpus, folder / f"term-{k}", quick=quick) for k in ends]
        steps = 60 if quick else 1000
        with stage(f"{most} kills"):
            kills = kill_runs(corpus, folder, kills=most, steps=steps, seed=options.seed, say=say)
    takedowns = kills.takedowns or kills.takedowns_starting
    restart, noticed = statistics.median(kills.restarts), statistics.median(takedowns)
    figures = {
        "kills": kills.count,
        "unusable_resumes": len(kills.unusable),
        "examples_lost": kills.lost,
        "examples_repeated": kills.repeated,
        "bitwise_equal": (kills.runs - kills.unequal) / kills.runs if kills.runs else 0.0,
        "restart_seconds": restart,
        "takedown_seconds": max(takedowns),
        "takedown_seconds_starting": max(kills.takedowns_starting, default=0.0),
        "term_to_checkpoint_seconds": max(terms),
        **computed(costs, restart=restart, noticed=noticed),
        "restart_seconds_worst": max(kills.restarts),
        "takedown_seconds_median": noticed,
        "runs": kills.runs,
        **{f"kills_while_{phase}": count for phase, count in sorted(kills.phases.items())},
        **{f"checkpoint_{name}": value for name, value in costs.items()},
        "machine": machine(),
        "seed": options.seed,
    }
    show_figures(f"faults, {machine()}", figures, options.json, {name: FIGURES.get(name, "") for name in figures})
    sound = not (kills.unusable or kills.lost or kills.repeated or kills.unequal)
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(run(main))
