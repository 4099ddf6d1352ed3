"""How fast do batches come, against plain reads of the same bytes and against other loaders?

    python -m benchmarks.loader --json OUT [--quick] [--dir DIR] [--peers-python PATH]

Everyone delivers the same thing from a warm page cache: batches of 8 records at random, each with 5 x 36 x 2048 float16
features as one tensor, boxes, a mask, and 3 kB of text with a summary as `str`. A GB is 10^9 bytes of features. Rounds
of all contenders take turns; a figure is the median over the rounds, a ratio that of the ratios within each round.
Each contender counts with the best of the settings it was tried with. Needs 5 GB below DIR (default: where temporary
files go) and in memory; all of it is removed at the end.

The peers run under an interpreter of their own, since their pins do not fit this project's (default: this one):

    python3 -m venv peers
    peers/bin/pip install torch webdataset megatron-energon mosaicml-streaming litdata
    peers/bin/pip uninstall --yes torchvision    # only where it does not fit torch, as with a CPU build of torch alone
    python -m benchmarks.loader --json OUT --peers-python peers/bin/python
"""

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.loader_clock import Round
from benchmarks.loader_ours import Ours, PlainReads, read_through, write_corpus
from benchmarks.loader_process import PeerError, PeerProcess
from benchmarks.loader_records import BATCH, RECORD_BYTES
from shards.errors import InputError

OURS, PREAD = "d2tv", "pread"
#: Every contender and what it does, in the order of the table.
CONTENDERS = {
    PREAD: "features only, any order, one thread, one buffer of (8, 737280) bytes, 64-byte aligned: the 1.0",
    "pread_fresh": "the same into new memory each batch",
    "sequential": "pread in the order of the disk",
    OURS: "any order, CRC32C of every byte checked; t: loader threads, io: reader threads",
    "webdataset": "its own decoder; shards at random, then a buffer of 256; w: worker processes",
    "webdataset_lean": "with a decoder that copies nothing, which a user has to write",
    "energon": "slices of 64 at random, then a buffer of 256; the lean decoder",
    "mosaicml": "MDS; any order",
    "litdata": "memory-mapped; chunks of 64 MB at random, any order inside each; no checks",
}
PEERS = tuple(CONTENDERS)[4:]


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """How much is measured."""

    records: int
    stories_per_shard: int
    rounds: int
    seconds: float  # a round of a setting
    threads: tuple[int, ...]
    io_threads: tuple[int, ...]
    workers: tuple[int, ...]

    @property
    def warm(self) -> int:
        """Batches before the clock starts: more than anyone prefetches, and a small part of an epoch."""
        return max(1, min(16, self.records // BATCH // 4))


FULL = Size(
    records=2000,
    stories_per_shard=60,
    rounds=5,
    seconds=1.0,
    threads=(0, 1, 2),
    io_threads=(0, 1, 2, 4),
    workers=(0, 1, 2),
)
QUICK = Size(
    records=64, stories_per_shard=12, rounds=2, seconds=0.05, threads=(0, 1), io_threads=(0, 2), workers=(0, 1)
)


class Setting(NamedTuple):
    contender: str
    options: str  # "" where there is nothing to choose


Rounds = dict[Setting, list[Round]]
Timed = Callable[[float, int, int], Round]  # seconds, warm, seed


def measure(
    directory: Path, size: Size, python: str, say: Callable[[str], None]
) -> tuple[Rounds, dict[str, str], dict[str, str]]:
    """The rounds of every setting; the peers' versions; why a peer is missing."""
    versions: dict[str, str] = {}
    missing: dict[str, str] = {}
    with ExitStack() as stack:
        say(f"writing {size.records} records")
        corpus = write_corpus(directory / "corpus", size.records, size.stories_per_shard)
        plain, ours = PlainReads(corpus), Ours(corpus)
        stack.callback(plain.close)
        peers: dict[str, PeerProcess] = {}
        for name in PEERS:
            peer = stack.enter_context(PeerProcess(name, python, directory, size.records))
            try:
                versions[name] = peer.version()
                say(f"writing them for {name} {versions[name]}")
                peer.write()
                peers[name] = peer
            except PeerError as error:
                missing[name] = str(error)
        settings: list[tuple[Setting, Timed]] = []
        for threads in size.threads:
            for io_threads in size.io_threads:
                # Plain reads come between all of ours, so that whatever slows the machine meets both.
                settings.append((Setting(PREAD, ""), plain.round))
                options = f"t{threads} io{io_threads}"
                settings.append((Setting(OURS, options), partial(ours.round, threads=threads, io_threads=io_threads)))
        settings.append((Setting("sequential", ""), partial(plain.round, in_order=True)))
        settings.append((Setting("pread_fresh", ""), partial(plain.round, fresh=True)))
        for workers in size.workers:
            settings += [(Setting(name, f"w{workers}"), partial(peer.round, workers)) for name, peer in peers.items()]
        say("reading all of it once")
        read_through(directory)
        found: Rounds = {setting: [] for setting, _ in settings}
        for number in range(size.rounds):
            say(f"round {number + 1} of {size.rounds}")
            for setting, timed in settings:
                if setting.contender in missing:
                    continue
                try:
                    got = timed(size.seconds, size.warm, number)
                except PeerError as error:
                    missing[setting.contender] = str(error)
                    continue
                rounds = found[setting]
                if len(rounds) > number:
                    rounds[number] += got
                else:
                    rounds.append(got)
    return {s: rounds for s, rounds in found.items() if s.contender not in missing}, versions, missing


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
    console = Console()
    size = QUICK if options.quick else FULL
    try:
        with scratch(options.dir, size) as directory:
            found, versions, missing = measure(directory, size, options.peers_python, console.print)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    console.print(table(found))
    legend = Table.grid(padding=(0, 1))
    for name, what in CONTENDERS.items():
        legend.add_row(name, f"[bold]no figure:[/] {missing[name]}" if name in missing else what)
    console.print(legend)
    flat = figures(found) | {"machine": machine(), "records": size.records, "rounds": size.rounds}
    flat |= {f"{name}_version": version for name, version in versions.items()}
    flat |= {f"{name}_missing": reason for name, reason in missing.items()}
    if options.json:
        options.json.write_text(json.dumps(flat, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the folder goes then, too
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
