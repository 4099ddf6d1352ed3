"""Measure the sampler on an index of M³Sum's size: 1.08 M articles, 2.8 M examples, 1,898 directions.

    python -m benchmarks.sampler --json OUT [--quick] [--dir DIR]

An index that lies in DIR is used; else one is made in a new directory below DIR (default: that for temporary files),
and removed. Times are medians of interleaved repetitions in one run; the first batch is measured in fresh processes,
after their imports.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.m3sum import IMAGES, REGIONS, WIDTH, make_index
from benchmarks.output import run, show_figures
from shards.batch.collate import Collator, Lengths
from shards.batch.fetch import Fetcher, ImageSizes
from shards.batch.loader import Loader
from shards.batch.reader import Reader
from shards.errors import InputError
from shards.files.write import check_output
from shards.format.index import Corpus, open_corpus
from shards.stream.mixture import MixtureConfig
from shards.stream.partition import Partition
from shards.stream.sampler import Sampler
from shards.text.tokenizer import open_tokenizer
from trainer.checkpoint.directory import TrainState, state_json
from trainer.terminal.progress import stage

GROUP, GROUPS_A_CALL = 8, 4
FAR = 10**10
#: The four languages with the most examples: 16 directions, none of them small.
FOUR = ("english", "indonesian", "portuguese", "spanish")


def sampler_of(corpus: Corpus, languages: tuple[str, ...] | None = None, seed: int = 0) -> Sampler:
    return Sampler(corpus, split="train", mixture=MixtureConfig(languages=languages), seed=seed, group_size=GROUP)


def seconds_for(sampler: Sampler, first_group: int, slots: int) -> float:
    """Seconds of CPU for `slots` slots, a micro-batch a call, as a loader asks for them."""
    began = time.process_time()
    for group in range(first_group, first_group + slots // GROUP, GROUPS_A_CALL):
        sampler.groups(group, GROUPS_A_CALL)
    return time.process_time() - began


def costs(corpus: Corpus, slots: int, repetitions: int) -> dict[str, float]:
    """Microseconds a slot over all directions and over sixteen, and the time of a jump."""
    all_directions, sixteen, jumps = [], [], []
    for repetition in range(repetitions):
        first = 2 * repetition * slots // GROUP
        for languages, seconds in ((None, all_directions), (FOUR, sixteen)):
            sampler = sampler_of(corpus, languages, seed=repetition)
            # Amortised: every target's first block is there, as it is after the first thousand steps of a run.
            seconds_for(sampler, first, slots)
            seconds.append(seconds_for(sampler, first + slots // GROUP, slots))
        fresh = sampler_of(corpus, seed=100 + repetition)
        began = time.perf_counter()
        fresh.groups(FAR // GROUP, GROUPS_A_CALL)
        jumps.append(time.perf_counter() - began)
    ratios = [a / b for a, b in zip(all_directions, sixteen, strict=True)]
    return {
        "us_per_slot": statistics.median(all_directions) / slots * 1e6,
        "us_per_slot_worst": max(all_directions) / slots * 1e6,
        "us_per_slot_16": statistics.median(sixteen) / slots * 1e6,
        "cost_1936_over_16": statistics.median(ratios),
        "cost_1936_over_16_worst": max(ratios),
        "jump_seconds": statistics.median(jumps),
    }


def first_batch(directory: Path) -> float:
    """Seconds from nothing but imports to the first micro-batch of real size, text and features in it."""
    began = time.perf_counter()
    corpus = open_corpus(directory)
    sampler = sampler_of(corpus)
    fetch = Fetcher(corpus, Reader(corpus), ImageSizes(images=IMAGES, regions=REGIONS, feature_size=WIDTH))
    collate = Collator(corpus, fetch, open_tokenizer(directory / "tokenizer"), Lengths(document=512, summary=84))
    partition = Partition(groups_per_step=GROUPS_A_CALL, groups_per_micro_batch=1, rank=0, world_size=1)
    loader = Loader(sampler, collate, partition, first_step=0, threads=2, prefetch=2)
    next(loader)
    seconds = time.perf_counter() - began
    loader.close()
    return seconds


def first_batches(directory: Path, repetitions: int) -> list[float]:
    command = [sys.executable, "-m", "benchmarks.sampler", "--first-batch", str(directory)]
    outputs = [subprocess.run(command, check=True, capture_output=True, text=True) for _ in range(repetitions)]
    return [float(output.stdout) for output in outputs]


def index_mb(directory: Path) -> float:
    """Megabytes of what every rank maps: articles, edges and where directions begin. Text is not index."""
    return sum(path.stat().st_size for path in directory.glob("*.npy")) / 1e6


def state_bytes() -> int:
    """Return the bytes of a checkpoint's whole data position, for the longest-lived run."""
    state = TrainState(step=10**9, attempts=10**9, seed=2**63, slot=FAR, world_size=10**4, corpus="0" * 64)
    return len(state_json(state))


def figures(directory: Path, *, quick: bool) -> dict[str, float | str]:
    corpus = open_corpus(directory)
    repetitions = 3 if quick else 7
    firsts = first_batches(directory, repetitions)
    return {
        "machine": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "articles": len(corpus.articles),
        "examples": len(corpus.edges["train"]),
        "directions": int((corpus.direction_counts("train") > 0).sum()),
        **costs(corpus, 50_000 if quick else 1_000_000, repetitions),
        "state_bytes": state_bytes(),
        "first_batch_seconds": statistics.median(firsts),
        "first_batch_seconds_worst": max(firsts),
        "index_mb": index_mb(directory),
    }


@contextmanager
def index(parent: Path | None) -> Iterator[Path]:
    """Yield `parent` where an index lies there, else a directory below it with a new one, removed afterwards."""
    if parent is not None and (parent / "manifest.json").is_file():
        yield parent
        return
    if parent is not None and not parent.is_dir():
        raise InputError(f"--dir {parent} is no directory: make it, or name another one")
    with tempfile.TemporaryDirectory(prefix="d2tv-sampler-", dir=parent) as name:
        make_index(Path(name))
        yield Path(name)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--quick", action="store_true", help="the same path, small: for the tests")
    parser.add_argument("--dir", type=Path, help="where the index is, or one is made and removed")
    parser.add_argument("--first-batch", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    check_output(options.json)
    if options.first_batch:
        print(first_batch(options.first_batch))
        return 0
    with stage("measuring the sampler"), index(options.dir) as directory:
        found = figures(directory, quick=options.quick)
    show_figures("sampler", found, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
