"""Local shards: few files stay open however many there are, and every read is filled."""

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import google_crc32c
import numpy as np
import pytest

from shards.format.manifest import SPLITS
from shards.format.merge import finish_corpus, write_manifest
from shards.format.writer import write_shard
from shards.schema import Article, Images, Story
from shards.storage.reads import LocalStorage

SHARDS = 5000


@pytest.fixture(scope="module")
def many_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of 5,000 shards of one story, each with features of its own.

    Written from one real shard by changing a few bytes and the index: the real writer would take minutes.
    """
    model, many = tmp_path_factory.mktemp("model"), tmp_path_factory.mktemp("many")
    images = Images(roi_IRV=np.ones((1, 2, 4), np.float16), boxes_IR4=np.full((1, 2, 4), 0.5, np.float32))
    story = Story(key="one", articles=(Article(language="english", text="a", summary="b"),), shared_images=images)
    write_shard(model / "train-000000.tar", [story], ("english",))
    corpus = finish_corpus(model, name="model", languages=("english",), provenance={})
    record, data = corpus.articles[0], bytearray((model / "train-000000.tar").read_bytes())
    begin, end = int(record["roi_offset"]), int(record["roi_offset"] + record["roi_length"])
    articles = np.repeat(np.asarray(corpus.articles), SHARDS)
    articles["shard"] = articles["story"] = np.arange(SHARDS)
    for shard in range(SHARDS):
        data[end - 8 : end] = np.uint64(shard).tobytes()
        articles["roi_crc"][shard] = google_crc32c.value(bytes(data[begin:end]))
        (many / f"train-{shard:06d}.tar").write_bytes(data)
    np.save(many / "articles.npy", articles)
    for name in ("text.bin", *(f"{kind}-{s}.npy" for kind in ("edges", "directions") for s in SPLITS)):
        (many / name).write_bytes((model / name).read_bytes())
    (many / "story_keys.txt").write_text("".join(f"{shard}\n" for shard in range(SHARDS)))
    write_manifest(
        many,
        name="many",
        languages=("english",),
        regions=2,
        feature_size=4,
        max_images=1,
        splits=dict(corpus.manifest["splits"]) | {"train": {"stories": SHARDS, "articles": SHARDS, "edges": 1}},
        shards=[{"name": f"train-{shard:06d}.tar", "bytes": len(data), "stories": 1} for shard in range(SHARDS)],
        provenance={},
    )
    return many


READ_AT_RANDOM = """
import os, resource, sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from shards.format.index import open_corpus
from shards.batch.reader import Reader, ReaderConfig

_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
corpus = open_corpus(sys.argv[1])
reader = Reader(corpus, ReaderConfig(io_threads=0, retries=0, max_open_files=int(sys.argv[2])))
before = len(os.listdir("/proc/self/fd"))

def read(seed):
    roi, boxes = np.zeros((1, 1, 2, 4), np.float16), np.zeros((1, 1, 2, 4), np.float32)
    most = wrong = 0
    for place, row in enumerate(np.random.default_rng(seed).permutation(len(corpus.articles))[:3000].tolist()):
        wrong += reader.images([row], roi, boxes).finish() != [1] or int(roi[0, 0, 1].view(np.uint64)[0]) != row
        if place % 50 == 0:
            most = max(most, len(os.listdir("/proc/self/fd")) - before)
    return wrong, most

with ThreadPoolExecutor(8) as pool:
    found = list(pool.map(read, range(8)))
reader.close()
print(sum(wrong for wrong, _ in found), max(most for _, most in found), len(os.listdir("/proc/self/fd")) - before)
"""


def test_eight_threads_read_5000_shards_at_random_with_256_open(many_shards: Path) -> None:
    command = [sys.executable, "-c", READ_AT_RANDOM, str(many_shards), "256"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    wrong, most, left = (int(word) for word in done.stdout.split())
    assert wrong == 0
    # Each thread may hold one that was evicted under it, one it is opening, and the listing of what is open.
    assert 256 <= most <= 256 + 3 * 8
    assert left == 0


def test_files_are_evicted_under_other_threads_reads(tmp_path: Path) -> None:
    contents = [os.urandom(200_000) for _ in range(7)]
    for number, content in enumerate(contents):
        (tmp_path / str(number)).write_bytes(content)
    storage = LocalStorage(tmp_path, max_open_files=1)

    def read(seed: int) -> bool:
        random = np.random.default_rng(seed)
        out = bytearray(150_000)
        for number, offset in zip(random.integers(0, 7, 400), random.integers(0, 50_000, 400), strict=True):
            assert storage.readv(str(number), [memoryview(out)], int(offset)) == len(out)
            if out != contents[number][offset : offset + len(out)]:
                return False
            if number == 3:
                storage.forget("3")
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(8)))
    storage.close()


def test_a_file_that_was_replaced_is_read_anew_once_it_is_forgotten(tmp_path: Path) -> None:
    storage, out = LocalStorage(tmp_path), bytearray(3)
    (tmp_path / "shard").write_bytes(b"old")
    storage.readv("shard", [memoryview(out)], 0)
    (tmp_path / "new").write_bytes(b"new")
    os.replace(tmp_path / "new", tmp_path / "shard")
    storage.readv("shard", [memoryview(out)], 0)
    assert out == b"old"
    storage.forget("shard")
    storage.readv("shard", [memoryview(out)], 0)
    assert out == b"new"
    storage.forget("never read")
    storage.close()


@pytest.mark.parametrize("most", [1, 7, 64])
def test_reads_that_the_system_cuts_short_are_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """A network file system may give fewer bytes than there are. Only the end of the file ends a read."""
    content = os.urandom(500)
    (tmp_path / "shard").write_bytes(content)
    whole = os.preadv

    def cut(handle: int, buffers: Sequence[memoryview], offset: int) -> int:
        few, left = [], most
        for buffer in buffers:
            few.append(buffer[:left])
            left -= len(few[-1])
        return whole(handle, few, offset)

    monkeypatch.setattr(os, "preadv", cut)
    storage = LocalStorage(tmp_path)
    for offset, lengths in ((0, (100, 0, 1, 99)), (13, (64, 64)), (400, (60, 70)), (500, (5,)), (10, ())):
        parts = [memoryview(bytearray(length)) for length in lengths]
        wanted = content[offset : offset + sum(lengths)]
        assert storage.readv("shard", parts, offset) == len(wanted)
        assert b"".join(parts)[: len(wanted)] == wanted
    storage.close()
