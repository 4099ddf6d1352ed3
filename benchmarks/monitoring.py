"""Measure what monitoring costs a run: a scrape, and the share of a step that goes into metrics.

    python -m benchmarks.monitoring --json OUT [--quick]

One rank trains the recipe `d2tv` at its own sizes on a small corpus of 44 languages and serves its endpoint. All calls
for metrics.jsonl, the console and Prometheus are timed (per step: sums of losses and counts, FLOPs, histograms, stamps;
at logged steps: the reduction, the record, every gauge) and divided by the time of the steps. Then the endpoint is
scraped over HTTP, with every series that a run without `prometheus.direction_matrix` can have: 20 worst directions, 64
directions with placeholders, a validation and an evaluation.
"""

import argparse
import functools
import gzip
import os
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("DS_ACCELERATOR", "cpu")


from benchmarks.loader import machine
from benchmarks.output import run as run_benchmark
from benchmarks.output import show_figures
from shards.files.write import check_output
from shards.languages import LANGUAGE_CODES
from shards.schema import Unreadable
from tests.support.tiny import make_corpus
from trainer.assemble import Run, assemble
from trainer.distributed import join, leave
from trainer.evaluation.scoring.rouge import TYPES
from trainer.host import set_threads
from trainer.plan import plan_run
from trainer.ranks import ranks_from_environment
from trainer.recipe import load_recipe
from trainer.telemetry.prometheus.run_metrics import UNREADABLE
from trainer.terminal.progress import stage

_DS_CONFIG = Path(__file__).resolve().parent.parent / "ds_configs" / "zero2_cpu.json"
#: As many as in the paper's setting.
LANGUAGES = tuple(sorted(LANGUAGE_CODES))[:44]
FIGURES = {
    "scrape_ms": "one scrape over HTTP, median",
    "scrape_kb": "its size, without compression",
    "step_overhead_share": "of the time of steps, what goes into metrics",
    "scrape_ms_worst": "the slowest",
    "scrape_kb_gzip": "as Prometheus asks for it",
    "series": "samples of a scrape",
    "scrape_ms_matrix": "with prometheus.direction_matrix",
    "scrape_kb_matrix": "the same",
    "step_ms": "a step, metrics included",
    "step_overhead_us": "what goes into metrics at every step",
    "log_overhead_ms": "and at a logged step",
}


class Stopwatch:
    """Add up the time inside functions, by label; of nested calls the outer one's."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inside = False

    def around(self, owner: Any, name: str, label: str) -> None:
        """Time every call of `owner.name` from now on."""
        function: Callable[..., Any] = getattr(owner, name)

        @functools.wraps(function)
        def timed(*words: Any, **named: Any) -> Any:
            if self._inside:
                return function(*words, **named)
            self._inside, began = True, time.perf_counter()
            try:
                return function(*words, **named)
            finally:
                self._inside = False
                self.seconds[label] = self.seconds.get(label, 0.0) + time.perf_counter() - began

        setattr(owner, name, timed)


def overhead(run: Run, steps: int) -> dict[str, float]:
    """Train, and return the figures of what the metrics took of it."""
    trainer = run.trainer
    assert run.endpoint.node is not None
    log_every = trainer.recipe.training.log_every
    for _ in range(log_every):
        trainer.train_step()
    trainer.log()
    watch = Stopwatch()
    for owner, name, label in (
        (trainer, "emit", "step"),
        (trainer.measurements, "add", "step"),
        (trainer.measurements, "step_ended", "step"),
        (trainer, "log", "log"),
    ):
        watch.around(owner, name, label)
    began = time.perf_counter()
    for number in range(steps):
        trainer.train_step()
        if number % log_every == log_every - 1:
            trainer.log()
    seconds = time.perf_counter() - began
    return {
        "step_overhead_share": sum(watch.seconds.values()) / seconds,
        "step_ms": 1e3 * seconds / steps,
        "step_overhead_us": 1e6 * watch.seconds["step"] / steps,
        "log_overhead_ms": 1e3 * watch.seconds["log"] / (steps // log_every),
    }


def fill(run: Run) -> None:
    """Give every metric all the series that it can have."""
    metrics = run.endpoint.run
    assert metrics is not None
    by_target = {kind: dict.fromkeys(LANGUAGES, 3.14159265358979) for kind in ("mms", "mxls")}
    metrics.validation({"mms": 3.0, "mxls": 3.0}, by_target)
    scores = dict.fromkeys(TYPES, 12.3456789012345)
    metrics.evaluation({"by_kind": {"mms": scores, "mxls": scores}, "by_target": dict.fromkeys(LANGUAGES, scores)})
    for number in range(UNREADABLE + 1):
        source, target = LANGUAGES[number % 44], LANGUAGES[number // 44]
        metrics.unreadable(Unreadable(slot=0, story=0, source=source, target=target, problem=""))


def scrape(url: str, times: int) -> tuple[list[float], bytes]:
    """Return the milliseconds of each scrape, and the last answer."""
    milliseconds, body = [], b""
    for _ in range(times):
        began = time.perf_counter()
        with urllib.request.urlopen(url, timeout=30) as reply:
            body = reply.read()
        milliseconds.append(1e3 * (time.perf_counter() - began))
    return milliseconds, body


def measure(folder: Path, *, matrix: bool, steps: int, scrapes: int, log_every: int) -> dict[str, float]:
    corpus = folder / "corpus"
    words = [f"run={folder / f'run-{matrix}'}", f"corpus.path={corpus}", "network.vision.feature_size=32"]
    words += ["training.steps=1000000", "watchdog.enabled=false", "prometheus.port=0", "checkpoint.every=1000000"]
    words += [f"training.log_every={log_every}", f"prometheus.direction_matrix={str(matrix).lower()}"]
    ranks = ranks_from_environment()
    plan = plan_run(load_recipe("d2tv", words), _DS_CONFIG, ranks)
    set_threads(plan.recipe, ranks)
    run = assemble(plan, join(ranks))
    try:
        found = overhead(run, steps)
        fill(run)
        url = run.endpoint.url
        assert url is not None
        milliseconds, body = scrape(url, scrapes)
    finally:
        run.trainer.close()
        run.endpoint.close()
    lines = [line for line in body.decode().splitlines() if not line.startswith("#")]
    return found | {
        "scrape_ms": statistics.median(milliseconds),
        "scrape_ms_worst": max(milliseconds),
        "scrape_kb": len(body) / 1e3,
        "scrape_kb_gzip": len(gzip.compress(body)) / 1e3,
        "series": float(len(lines)),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.monitoring", description=__doc__.split("\n\n")[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="few steps, for the tests")
    options = parser.parse_args(arguments)
    check_output(options.json)
    quick: bool = options.quick
    with tempfile.TemporaryDirectory(prefix="monitoring-") as name:
        folder = Path(name)
        make_corpus(folder / "corpus", languages=LANGUAGES, stories=20 if quick else 60)
        log_every = 2 if quick else load_recipe("d2tv").training.log_every
        steps, scrapes = (4, 5) if quick else (8 * log_every, 200)
        with stage("steps and scrapes"):
            plain = measure(folder, matrix=False, steps=steps, scrapes=scrapes, log_every=log_every)
            whole = measure(folder, matrix=True, steps=log_every, scrapes=scrapes, log_every=log_every)
    leave()
    figures: dict[str, Any] = plain | {f"{key}_matrix": whole[key] for key in ("scrape_ms", "scrape_kb")}
    figures["machine"] = machine()
    show_figures(f"monitoring, {machine()}", figures, options.json, FIGURES)
    return 0


if __name__ == "__main__":
    sys.exit(run_benchmark(main))
