"""A loader that reads on and on: neither its memory nor its open files grow."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from shards.batch.loader import Loader
from shards.batch.reader import Reader, ReaderConfig
from shards.format.index import open_corpus
from shards.stream.mixture import MixtureConfig
from shards.stream.partition import Partition
from shards.stream.sampler import Sampler
from tests.support.forkserver import ROOT
from tests.support.tiny import make_corpus, tiny_collator
from tests.support.waiting import HANGING


@pytest.mark.long
def test_memory_and_open_files_stay_flat_over_20_000_batches(tmp_path: Path) -> None:
    """Less than a megabyte and no file a thousand batches, after the first thousands have filled what is kept."""
    languages = ("english", "french", "hindi", "urdu", "arabic", "welsh", "thai", "tamil")
    corpus = make_corpus(tmp_path / "corpus", languages=languages, stories=400, vocab_size=500)
    code = f"from tests.system.test_loader_endurance import endure; endure({str(corpus.directory)!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=HANGING)
    assert done.returncode == 0, done.stderr
    samples = np.array([[float(word) for word in line.split()] for line in done.stdout.splitlines()])
    thousands, memory, files = samples[samples[:, 0] >= 4].T
    assert thousands[-1] == 20
    slope = np.polyfit(thousands, memory, 1)[0]
    assert slope < 1.0, samples
    # A file that was closed in favour of another stays open until its read ends: one for each of four threads.
    assert files.max() - files.min() <= 4, samples
    assert np.median(files[: len(files) // 2]) == np.median(files[len(files) // 2 :]), samples


def endure(directory: str) -> None:
    """Read 20,000 batches; a line of thousands, megabytes and open files each thousand."""
    corpus, me = open_corpus(directory), psutil.Process()
    reader = Reader(corpus, ReaderConfig(io_threads=2, max_open_files=8))
    one = Loader(
        Sampler(corpus, split="train", mixture=MixtureConfig(), seed=1, group_size=4),
        tiny_collator(corpus, reader),
        Partition(groups_per_step=1, groups_per_micro_batch=1, rank=0, world_size=1),
        first_step=0,
        threads=2,
        prefetch=4,
    )
    for batch in range(1, 20_001):
        next(one)
        if batch % 1000 == 0:
            print(batch // 1000, me.memory_info().rss / 1e6, me.num_fds())
    one.close()
    reader.close()
