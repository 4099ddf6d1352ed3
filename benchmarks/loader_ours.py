"""This project's side of `benchmarks.loader`: the corpus, its loader, and the plain reads it is held against."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.loader_clock import Round, time_round
from benchmarks.loader_records import BATCH, LANGUAGES, RECORD_BYTES, ROI_SHAPE, Delivered, check, make_record
from shards.batch.fetch import Fetcher, ImageSizes
from shards.batch.loader import Loader
from shards.batch.reader import Reader, ReaderConfig
from shards.batch.transforms import Fetched
from shards.format.index import Corpus
from shards.format.merge import finish_corpus
from shards.format.writer import write_shard
from shards.schema import Article, Images, Story
from shards.stream.mixture import MixtureConfig
from shards.stream.partition import Partition
from shards.stream.sampler import Sampler

PREFETCH = 2


def write_corpus(directory: Path, records: int, stories_per_shard: int) -> Corpus:
    """`records` stories of one article each, through the real writer."""
    directory.mkdir()
    for shard, begin in enumerate(range(0, records, stories_per_shard)):
        numbers = range(begin, min(begin + stories_per_shard, records))
        write_shard(directory / f"train-{shard:06d}.tar", map(_story, numbers), LANGUAGES)
    return finish_corpus(directory, name="loader benchmark", languages=LANGUAGES, provenance={"records": records})


def _story(number: int) -> Story:
    record = make_record(number)
    return Story(
        key=f"story-{number}",
        articles=(Article(language=record.language, text=record.text, summary=record.summary),),
        shared_images=Images(roi_IRV=record.roi_IRV, boxes_IR4=record.boxes_IR4),
    )


def read_through(directory: Path) -> None:
    """Have the page cache hold every file below `directory`, all of them as a reading in order leaves them.

    What was written, or read here and there, lies in pages of other sizes, and plain reads of the very same bytes
    were seen to differ by a factor of two for that.
    """
    buffer = bytearray(1 << 20)
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        with open(path, "rb", buffering=0) as file:
            os.fsync(file.fileno())
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            while file.readinto(buffer):
                pass


class PlainReads:
    """The features of the records by `os.preadv`, at the records' sizes, by one thread; no text, no boxes, no checks.

    A batch buffer is what `torch.empty` gives, (8, 737280) bytes at a multiple of 64.
    """

    def __init__(self, corpus: Corpus) -> None:
        articles = corpus.articles
        self._files = [os.open(Path(corpus.location) / shard, os.O_RDONLY) for shard in corpus.shards]
        handle = [self._files[shard] for shard in articles["shard"].tolist()]
        # The array ends its member; before it lies the header.
        begin = articles["roi_offset"] + articles["roi_length"] - RECORD_BYTES
        self._places = list(zip(handle, begin.tolist(), strict=True))
        self._check(corpus)

    def round(self, seconds: float, warm: int, seed: int, *, in_order: bool = False, fresh: bool = False) -> Round:
        """in_order: as they lie on disk, else at random.  fresh: a new buffer for each batch, else one for all."""
        batches = self._batches(seed, in_order=in_order, fresh=fresh)
        return time_round(batches, lambda size: size, seconds, warm)

    def close(self) -> None:
        for file in self._files:
            os.close(file)

    def _batches(self, seed: int, *, in_order: bool, fresh: bool) -> Iterator[int]:
        random = np.random.default_rng(seed)
        places: list[tuple[int, int]] = []
        buffer = _buffer()
        while True:
            while len(places) < BATCH:
                order = range(len(self._places)) if in_order else random.permutation(len(self._places)).tolist()
                places += [self._places[row] for row in order]
            if fresh:
                buffer = _buffer()
            for row, (handle, begin) in zip(buffer, places[:BATCH], strict=True):
                if os.preadv(handle, (row,), begin) != RECORD_BYTES:
                    raise OSError("a read of a whole record came back short")
            del places[:BATCH]
            yield BATCH

    def _check(self, corpus: Corpus) -> None:
        row = len(self._places) // 2
        (read, *_) = _buffer()
        handle, begin = self._places[row]
        os.preadv(handle, (read,), begin)
        key = corpus.story_keys()[int(corpus.articles["story"][row])]
        wanted = make_record(int(key.removeprefix("story-"))).roi_IRV
        if not np.array_equal(np.frombuffer(read, np.float16).reshape(ROI_SHAPE), wanted):
            raise ValueError("plain reads do not deliver what the records hold")


def _buffer() -> list[memoryview]:
    """Room for a batch, a record a row."""
    rows = torch.empty((BATCH, RECORD_BYTES), dtype=torch.uint8).numpy()
    assert rows.ctypes.data % 64 == 0, "torch aligns to cache lines, and so does every record's size"
    return [row.data for row in rows]


class Ours:
    """This project's `Loader`, as a run uses it, without the tokenizer."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus

    def round(self, seconds: float, warm: int, seed: int, *, threads: int, io_threads: int) -> Round:
        reader = Reader(self._corpus, ReaderConfig(io_threads=io_threads))
        loader: Any = self._loader(reader, seed, threads)
        try:
            check(_delivered(next(loader)))
            return time_round(loader, lambda fetched: len(fetched.target), seconds, warm)
        finally:
            loader.close()
            reader.close()

    def _loader(self, reader: Reader, seed: int, threads: int) -> Loader:
        images, regions, width = ROI_SHAPE
        sampler = Sampler(self._corpus, split="train", mixture=MixtureConfig(), seed=seed, group_size=BATCH)
        # What it fetches is not tokenised: the others' text stays text too.
        fetch: Any = Fetcher(self._corpus, reader, ImageSizes(images=images, regions=regions, feature_size=width))
        partition = Partition(groups_per_step=1, groups_per_micro_batch=1, rank=0, world_size=1)
        return Loader(sampler, fetch, partition, first_step=0, threads=threads, prefetch=PREFETCH)


def _delivered(fetched: Fetched) -> Delivered:
    rows = len(fetched.target)
    return Delivered(
        fetched.roi_BIRV.flatten(1, 2),
        fetched.boxes_BIR4.view(rows, -1, 4),
        fetched.image_mask_BI,
        [article.text for article in fetched.target],
        [article.summary for article in fetched.target],
    )
