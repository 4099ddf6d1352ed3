"""Measure how fast batches come, against plain reads of the same bytes and against other loaders.

    python -m benchmarks.loader --json OUT [--quick] [--dir DIR] [--peers-python PATH]

Everyone delivers the same thing from a warm page cache: batches of 8 records at random, each with 5 x 36 x 2048 float16
features as one tensor, boxes, a mask, and 3 kB of text with a summary as `str`. A GB is 10^9 bytes of features. Rounds
of all contenders take turns; a figure is the median over the rounds, a ratio that of the ratios within each round.
Each contender counts with the best of the settings it was tried with. Needs 5 GB below DIR (default: where temporary
files go) and in memory; all of it is removed at the end.

The peers run under an interpreter of their own, since their pins do not fit this project's (default: this one):

    python3 -m venv peers
    peers/bin/pip install torch==2.13.0 webdataset megatron-energon mosaicml-streaming litdata
    peers/bin/pip uninstall --yes torchvision    # only where it does not fit torch, as with a CPU build of torch alone
    python -m benchmarks.loader --json OUT --peers-python peers/bin/python
"""

import argparse
import os
import platform
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.loader_clock import Round
from benchmarks.loader_records import RECORD_BYTES
from benchmarks.loader_rounds import CONTENDERS, FULL, OURS, PEERS, PREAD, QUICK, Setting, Size, measure
from benchmarks.output import run, write_figures
from shards.errors import InputError
from shards.files.write import check_output
from trainer.terminal.progress import stage

Rounds = dict[Setting, list[Round]]


def speed(rounds: Sequence[Round]) -> list[float]:
    """GB/s of each round."""
    return [taken.records * RECORD_BYTES / 1e9 / taken.wall for taken in rounds]


def spread(each: Sequence[float]) -> float:
    """From the slowest round to the fastest, as a share of the median."""
    return (max(each) - min(each)) / statistics.median(each)


def cpu_seconds_per_gb(rounds: Sequence[Round]) -> float:
    return statistics.median(taken.cpu / (taken.records * RECORD_BYTES / 1e9) for taken in rounds)


def cpu_share(rounds: Sequence[Round]) -> float:
    """CPU time over wall time."""
    return statistics.median(taken.cpu / taken.wall for taken in rounds)


def best_settings(found: Rounds) -> dict[str, Setting]:
    """Each contender's fastest setting."""
    best: dict[str, Setting] = {}
    for setting, rounds in found.items():
        known = best.get(setting.contender)
        if known is None or statistics.median(speed(rounds)) > statistics.median(speed(found[known])):
            best[setting.contender] = setting
    return best


def ratios(found: Rounds, over: Setting, under: Setting) -> list[float]:
    return [a / b for a, b in zip(speed(found[over]), speed(found[under]), strict=True)]


def figures(found: Rounds) -> dict[str, float | str | None]:
    """The flat figures: ratios of ours to the others', then every setting's own."""
    best = best_settings(found)
    flat: dict[str, float | str | None] = {}
    for name in (PREAD, *PEERS):
        if name not in best:
            flat[f"vs_{name}"] = None
            continue
        each = ratios(found, best[OURS], best[name])
        flat |= {f"vs_{name}": statistics.median(each), f"vs_{name}_low": min(each), f"vs_{name}_high": max(each)}
    flat["cpu_seconds_per_gb"] = cpu_seconds_per_gb(found[best[OURS]])
    flat |= {f"{name}_best": setting.options for name, setting in best.items() if setting.options}
    for setting, rounds in found.items():
        name = "_".join((setting.contender, *setting.options.split()))
        each = speed(rounds)
        flat[f"{name}_gb_per_second"] = statistics.median(each)
        flat[f"{name}_spread"] = spread(each)
        flat[f"{name}_cpu_seconds_per_gb"] = cpu_seconds_per_gb(rounds)
        flat[f"{name}_cpu_share"] = cpu_share(rounds)
    return flat


def table(found: Rounds) -> Table:
    """Every setting, the best of each contender in bold; the last column is the ratio of our best to it."""
    best = best_settings(found)
    shown = Table("loader", "setting", "GB/s", "spread", "CPU s/GB", "CPU share", "d2tv / it", box=box.SIMPLE)
    order = list(CONTENDERS)
    for setting, rounds in sorted(found.items(), key=lambda item: order.index(item[0].contender)):
        each = speed(rounds)
        shown.add_row(
            setting.contender,
            setting.options,
            f"{statistics.median(each):.2f}",
            f"{spread(each):.0%}",
            f"{cpu_seconds_per_gb(rounds):.3f}",
            f"{cpu_share(rounds):.2f}",
            f"{statistics.median(ratios(found, best[OURS], setting)):.2f}",
            style="bold" if best[setting.contender] == setting else "dim",
        )
    return shown


def machine() -> str:
    """The processor's name, and how many this process may use."""
    names = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").is_file() else ""
    name = next((line.split(":", 1)[1].strip() for line in names.splitlines() if line.startswith("model name")), "")
    return f"{name or platform.processor() or platform.machine()}, {os.cpu_count()} cores"


@contextmanager
def scratch(parent: Path, size: Size) -> Iterator[Path]:
    """A folder that is gone afterwards, whatever happens."""
    if not parent.is_dir():
        raise InputError(f"--dir {parent} is not a directory")
    needed, free = int(3.2 * size.records * RECORD_BYTES), shutil.disk_usage(parent).free
    if free < needed:
        raise InputError(f"{parent} has {free / 1e9:.1f} GB left, {needed / 1e9:.1f} are needed: choose another --dir")
    with tempfile.TemporaryDirectory(prefix="d2tv-loader-", dir=parent) as name:
        yield Path(name)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--quick", action="store_true", help="the same, small: no figure means anything")
    parser.add_argument("--dir", type=Path, default=Path(tempfile.gettempdir()), help="where the data are written")
    parser.add_argument("--peers-python", default=sys.executable, help="the interpreter the peers are installed for")
    options = parser.parse_args(arguments)
    check_output(options.json)
    console = Console()
    size = QUICK if options.quick else FULL
    with scratch(options.dir, size) as directory, stage("measuring loaders"):
        measured = measure(directory, size, options.peers_python, console.print)
    console.print(table(measured.rounds))
    legend = Table.grid(padding=(0, 1))
    for name, what in CONTENDERS.items():
        reason = measured.missing.get(name)
        legend.add_row(name, what if reason is None else f"[bold]no figure:[/] {escape(reason)}")
    console.print(legend)
    console.print(f"Of {os.cpu_count()} processors, other programs used {measured.others:.1f} on average.")
    flat = figures(measured.rounds) | {"machine": machine(), "others_processors": measured.others}
    flat |= {"records": size.records, "rounds": size.rounds}
    flat |= {f"{name}_version": version for name, version in measured.versions.items()}
    flat |= {f"{name}_missing": reason for name, reason in measured.missing.items()}
    write_figures(options.json, flat)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
