"""Measure how soon a command answers: seconds of CPU of commands that need no torch, and of refusals to train.

    python -m benchmarks.startup --json OUT [--rounds N]

Each command runs in a process of its own, in turns with the others, on a corpus of 96 stories and a run of 4,000 steps
with their records, and is charged user and system time of the process and its children. A figure is the median of the
rounds, with the lowest and the highest beside it.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.loader import machine
from benchmarks.output import run, write_figures
from shards.files.write import check_output
from tests.support.runs import eventful_records, write_recipe, write_records
from tests.support.tiny import make_corpus
from trainer.evaluation.predictions import Prediction, write_predictions
from trainer.terminal.progress import track

_ROOT = Path(__file__).resolve().parent.parent
_LANGUAGES = ("english", "french", "hindi", "urdu")
_D2TV = ("-m", "launcher.cli")
_TRAIN = ("launcher/train.py", "--ds_config")
_DS_CONFIG = str(_ROOT / "ds_configs" / "zero2_cpu.json")


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """Words behind `python`, the exit code that they end with, and a part of what a refusal says."""

    words: tuple[str, ...]
    code: int = 0
    says: str = ""


def commands(folder: Path) -> dict[str, Command]:
    """Return the command of each figure, on what `furnish` put into `folder`."""
    corpus, trained, new = str(folder / "corpus"), str(folder / "run"), f"run={folder / 'new'}"
    tiny = (f"corpus.path={corpus}", "network.vision.feature_size=32", new)
    refused = {
        "refused_recipe": ("did you mean 'training'", (_DS_CONFIG, "traning.steps=100", new)),
        "refused_ds_config": ("no DeepSpeed config", ("no-such.json", *tiny)),
        "refused_corpus": ("nothing", (_DS_CONFIG, f"corpus.path={folder / 'nothing'}", new)),
        "refused_features": ("set it to 32", (_DS_CONFIG, f"corpus.path={corpus}", new)),
        "refused_resume": ("--resume must", (_DS_CONFIG, "--resume", "must", *tiny)),
    }
    return {
        "help": Command(words=(*_D2TV, "--help")),
        "recipe": Command(words=(*_D2TV, "recipe", "d2tv")),
        "inspect": Command(words=(*_D2TV, "inspect", corpus)),
        "preview": Command(words=(*_D2TV, "preview", corpus, "--story", "0", "--out", str(folder / "preview.html"))),
        "verify": Command(words=(*_D2TV, "verify", corpus)),
        "watch": Command(words=(*_D2TV, "watch", "--once", trained)),
        "report": Command(words=(*_D2TV, "report", trained)),
        "compare": Command(words=(*_D2TV, "compare", trained, str(folder / "other"))),
        "refused_prepare": Command(
            words=(*_D2TV, "prepare", "crosssum", "--out", str(folder / "new")), code=2, says="needs --data"
        ),
        "refused_train": Command(
            words=(*_D2TV, "train", "--ds_config", _DS_CONFIG, "traning.steps=100", new),
            code=2,
            says="did you mean 'training'",
        ),
        **{name: Command(words=(*_TRAIN, *words), code=2, says=says) for name, (says, words) in refused.items()},
    }


def furnish(folder: Path) -> None:
    """Make a corpus, and two runs with records and evaluations."""
    make_corpus(folder / "corpus", languages=_LANGUAGES)
    for seed, name in enumerate(("run", "other")):
        trained = folder / name
        write_recipe(trained)
        write_records(trained, eventful_records(_LANGUAGES, 4_000, seed=seed))
        rows = [
            Prediction(
                number=number,
                story=f"story-{number // 2}",
                source="english",
                target=("english", "urdu")[number % 2],
                prediction="x",
                reference="y",
                language=None,
                scores={measure: float((number * 7 + seed) % 40) for measure in ("rouge1", "rouge2", "rougeL")},
            )
            for number in range(200)
        ]
        (trained / "evaluation").mkdir()
        write_predictions(trained, "test", rows, list(rows[0].scores))


def seconds(command: Command) -> tuple[float, float]:
    """Run it; return CPU seconds of its processes, and those on the clock. `AssertionError` where it ends otherwise."""
    began = time.perf_counter()
    environment = os.environ | {"PYTHONPATH": str(_ROOT), "DS_ACCELERATOR": "cpu"}
    process = subprocess.Popen(
        [sys.executable, *command.words], cwd=_ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    said = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    ended = f"{command.words} ended with {process.returncode}: {said}"
    assert process.returncode == command.code, ended
    assert command.says in said, ended
    return usage.ru_utime + usage.ru_stime, time.perf_counter() - began


def measure(wanted: Mapping[str, Command], rounds: int) -> dict[str, Any]:
    """Return the figures. A first round is not counted: in it Python compiles its files."""
    series: dict[str, list[float]] = {name: [] for name in wanted}
    cpu, wall = 0.0, 0.0
    for number in track(range(rounds + 1), "rounds"):
        for name, command in wanted.items():
            spent, took = seconds(command)
            if number:
                series[name].append(spent)
                cpu, wall = cpu + spent, wall + took
    figures: dict[str, Any] = {}
    for name, values in series.items():
        figures |= {name: statistics.median(values), f"{name}_low": min(values), f"{name}_high": max(values)}
    return figures | {"rounds": rounds, "cpu_share": cpu / wall, "machine": machine()}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=__doc__.split("\n\n")[0])
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="default: %(default)s")
    options = parser.parse_args(arguments)
    check_output(options.json)
    with tempfile.TemporaryDirectory(prefix="startup-") as name:
        furnish(Path(name))
        wanted = commands(Path(name))
        figures = measure(wanted, options.rounds)
    table = Table("figure", "seconds of CPU", "from", "to", "command", title=f"start-up, {figures['machine']}")
    for name, command in wanted.items():
        words = " ".join(
            "d2tv" if word == "launcher.cli" else Path(word).name for word in command.words if word != "-m"
        )
        table.add_row(name, *(f"{figures[name + part]:.2f}" for part in ("", "_low", "_high")), words)
    console = Console(highlight=False)
    console.print(table)
    console.print(f"The processes had {figures['cpu_share']:.0%} of a processor; far below 100%: others were busy.")
    write_figures(options.json, figures)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
