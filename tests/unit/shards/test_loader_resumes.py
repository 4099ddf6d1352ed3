"""A stream that is cut anywhere goes on: other ranks, other threads, a kill at any moment, a slow disk."""

import hashlib
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from shards.batch.loader import Loader
from shards.batch.types import Batch
from shards.format.index import Corpus, open_corpus
from shards.stream.mixture import MixtureConfig
from shards.stream.partition import Partition
from shards.stream.sampler import Sampler
from tests.support.forkserver import Program
from tests.support.tiny import tiny_collator
from tests.support.waiting import HANGING
from tests.unit.shards.test_loader_partition import rows_of

G, PER_STEP = 4, 16


def loader(corpus: Corpus, *, rank: int = 0, ranks: int = 1, threads: int = 0, first_step: int = 0) -> Loader:
    return Loader(
        Sampler(corpus, split="train", mixture=MixtureConfig(), seed=11, group_size=G),
        tiny_collator(corpus),
        Partition(groups_per_step=PER_STEP, groups_per_micro_batch=2, rank=rank, world_size=ranks),
        first_step=first_step,
        threads=threads,
        prefetch=3,
    )


def digest(batch: Batch) -> list[str]:
    """A line a row: its slot, and a hash of everything in it."""
    return [f"{row['slot']} {hashlib.sha256(repr(row).encode()).hexdigest()}" for row in rows_of(batch)]


def steps(corpus: Corpus, first: int, last: int, ranks: int, threads: int) -> list[list[str]]:
    """Steps first .. last - 1 as `ranks` ranks read them, each step's rows in slot order."""
    loaders = [loader(corpus, rank=rank, ranks=ranks, threads=threads, first_step=first) for rank in range(ranks)]
    found = []
    for _ in range(first, last):
        rows = [line for one in loaders for _ in range(PER_STEP // (2 * ranks)) for line in digest(next(one))]
        found.append(sorted(rows, key=lambda line: int(line.split()[0])))
    for one in loaders:
        one.close()
    return found


def test_eight_ranks_then_two_then_four_read_what_one_reads(tiny_corpus: Corpus) -> None:
    plain = steps(tiny_corpus, 0, 9, ranks=1, threads=0)
    elastic = [
        *steps(tiny_corpus, 0, 3, ranks=8, threads=1),
        *steps(tiny_corpus, 3, 5, ranks=2, threads=4),
        *steps(tiny_corpus, 5, 9, ranks=4, threads=0),
    ]
    assert elastic == plain


def read_on(corpus_directory: str, log: str, last: int) -> None:
    """Append the rows of each step to `log`, from its first incomplete step on: what the killed process runs."""
    lines = Path(log).read_text().splitlines() if Path(log).exists() else []
    whole = [line for line in lines if len(line.split()) == 2 and len(line.split()[1]) == 64]
    done = len(whole) // (PER_STEP * G)
    kept = "".join(line + "\n" for line in whole[: done * PER_STEP * G])
    Path(log).write_text(kept)
    corpus = open_corpus(corpus_directory)
    one = loader(corpus, threads=2, first_step=done)
    with open(log, "a", buffering=1) as file:
        for _ in range(done, last):
            for _ in range(PER_STEP // 2):
                for line in digest(next(one)):
                    file.write(line + "\n")
    one.close()


def test_killed_at_random_points_the_stream_is_the_undisturbed_one(tiny_corpus: Corpus, tmp_path: Path) -> None:
    log, last = tmp_path / "rows", 40
    words = [str(tiny_corpus.directory), str(log), str(last)]
    dice, kills = random.Random(5), 0
    while True:
        process = Program("tests.unit.shards.test_loader_resumes", words, output=tmp_path / "output")
        if kills < 4:
            wanted = (log.stat().st_size if log.exists() else 0) + dice.randrange(1, 40_000)
            while process.poll() is None and not (log.exists() and log.stat().st_size >= wanted):
                time.sleep(0.001)
            process.send_signal(signal.SIGKILL)
            kills += 1
        code_of_exit = process.wait(HANGING)
        if code_of_exit == 0:
            break
        assert code_of_exit == -signal.SIGKILL
    assert kills == 4
    undisturbed = [line for step in steps(tiny_corpus, 0, last, ranks=1, threads=0) for line in step]
    assert log.read_text().splitlines() == undisturbed


def test_a_reader_that_stalls_delays_its_batch_and_nothing_else(
    tiny_corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One slow disk: reads of one shard hang for a while. Order and content stay, the other threads read on."""
    plain = steps(tiny_corpus, 0, 2, ranks=1, threads=0)
    real, slow, stalled = os.preadv, threading.Event(), []
    shard = str(tiny_corpus.directory / tiny_corpus.shards[0])

    def preadv(handle: int, *arguments: object) -> int:
        if os.readlink(f"/proc/self/fd/{handle}") == shard and not slow.is_set():
            stalled.append(handle)
            slow.wait(0.3)
            slow.set()
        return real(handle, *arguments)

    monkeypatch.setattr(os, "preadv", preadv)
    assert steps(tiny_corpus, 0, 2, ranks=1, threads=3) == plain
    assert stalled


if __name__ == "__main__":
    read_on(sys.argv[1], sys.argv[2], int(sys.argv[3]))
