"""Did the first run learn? Held-out NLL a token against a per-language unigram model, by kind.

    python -m benchmarks.first_light --run runs/d2tv --json OUT

Reads a finished run. Exit code 1 where a kind is not at least 15% better than the unigram model of the
training summaries, or where its NLL did not fall from the first evaluation to the last.
"""

import argparse
import platform
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.output import run, write_figures
from shards.errors import InputError
from shards.files import check_output
from trainer.evaluation.report import read_report
from trainer.metrics import read_metrics
from trainer.totals import KINDS

WANTED = 0.15


def figures(run: Path) -> dict[str, float | str]:
    """The flat figures of a finished run. Raises `InputError` where it is not finished."""
    report = read_report(run, "test")
    if report is None:
        raise InputError(f"{run} has no evaluation/test.json: run `make train` to its end first")
    records = read_metrics(run / "metrics.jsonl")
    validations = [record for record in records if record["kind"] == "validation"]
    training = [record for record in records if record["kind"] == "train"]
    found: dict[str, float | str] = {"machine": platform.processor() or platform.machine()}
    for kind in KINDS:
        nll = report["nll"][kind]
        found[f"{kind}_nll"] = nll["model"]
        found[f"{kind}_unigram_nll"] = nll["unigram"]
        found[f"{kind}_better_by"] = nll["better_by"]
        found[f"{kind}_first_validation_nll"] = validations[0]["nll"][kind]
        found[f"{kind}_last_validation_nll"] = validations[-1]["nll"][kind]
        found |= {f"{kind}_{name}": score for name, score in report["by_kind"][kind].items()}
    found["steps"] = training[-1]["step"]
    speeds = sorted(record["examples_per_second"] for record in training)
    found["examples_per_second"] = speeds[len(speeds) // 2]
    found["data_wait_share"] = sorted(record["data_wait_share"] for record in training)[len(training) // 2]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/d2tv"))
    parser.add_argument("--json", type=Path, help="where the figures go")
    options = parser.parse_args()
    check_output(options.json)
    found = figures(options.run)
    table = Table("figure", "value")
    for name, value in found.items():
        table.add_row(name, f"{value:.4f}" if isinstance(value, float) else str(value))
    Console().print(table)
    if options.json:
        write_figures(options.json, found)
    missed = [kind for kind in KINDS if float(found[f"{kind}_better_by"]) < WANTED]
    risen = [
        kind
        for kind in KINDS
        if float(found[f"{kind}_last_validation_nll"]) >= float(found[f"{kind}_first_validation_nll"])
    ]
    for kind in missed:
        print(f"missed: {kind} is {float(found[f'{kind}_better_by']):.1%} better than unigrams, wanted {WANTED:.0%}")
    for kind in risen:
        print(f"missed: the held-out NLL of {kind} did not fall")
    return 1 if missed or risen else 0


if __name__ == "__main__":
    sys.exit(run(main))
