"""Seeded fuzz of a corpus whose hashes fit: what opens can be read to the end, the rest is one line; `verify` goes
through all of it. Counts are printed (`pytest -s`)."""

import hashlib
import json
import math
import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from launcher.cli import main
from shards.errors import InputError
from shards.index import ARTICLE, open_corpus
from shards.manifest import content_hash
from shards.reader import Reader, ReaderConfig
from shards.reading import UnreadableError
from tests.tiny import make_corpus

CASES = 60
ARRAYS = ("articles.npy", *(f"{kind}-{split}.npy" for kind in ("edges", "directions") for split in ("train", "test")))
NUMBERS = (-(2**31), -1, 0, 1, 2, 7, 2**15, 2**16 - 1, 2**31 - 1, 2**32 - 1, 2**53, 2**63 - 1, 2**64 - 1)
VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 3, 10**400, 1e300, math.nan, "", "x" * 300, "\x1b[31m", "[/]", "../x", [], [1], {}),
    {"a": 1},
)


def change_array(array: NDArray[Any], draw: random.Random) -> NDArray[Any]:
    """One fault in an array: a value, a type, a shape, an order."""
    kind = draw.choice(("value", "value", "value", "dtype", "shape", "order", "cut"))
    if kind == "value" and array.size:
        place = tuple(draw.randrange(size) for size in array.shape)
        if array.dtype.names:
            field = draw.choice(array.dtype.names)
            array[field][place] = draw.choice(NUMBERS) % (1 << 8 * array.dtype[field].itemsize)
        else:
            limits = np.iinfo(array.dtype)
            array[place] = min(max(draw.choice(NUMBERS), limits.min), limits.max)
    elif kind == "dtype":
        return (
            array.view(np.uint8) if array.dtype.names else array.astype(draw.choice(("<f4", ">i4", "<i2", "<u8", "U9")))
        )
    elif kind == "shape":
        return draw.choice((array[None], array.reshape(-1), array[..., None], array[:0]))
    elif kind == "order":
        return np.array(array[draw.sample(range(len(array)), len(array))]) if len(array) else array
    return array[: draw.randrange(len(array) + 1)] if kind == "cut" else array


def change_manifest(value: Any, draw: random.Random) -> Any:
    """One fault somewhere in the manifest."""
    if isinstance(value, dict | list) and value and draw.random() < 0.85:
        copy = value.copy()
        key = draw.choice(list(copy)) if isinstance(copy, dict) else draw.randrange(len(copy))
        if isinstance(copy, dict) and draw.random() < 0.1:
            del copy[key]
        else:
            copy[key] = change_manifest(copy[key], draw)
        return copy
    return draw.choice(VALUES)


def damage(directory: Path, draw: random.Random) -> str:
    """Damage the corpus, and make its hashes fit; what was damaged."""
    manifest = json.loads((directory / "manifest.json").read_text())
    what = draw.choice((*ARRAYS, *ARRAYS, "text.bin", "story_keys.txt", "manifest.json"))
    path = directory / what
    if what in ARRAYS:
        np.save(path, change_array(np.load(path), draw))
    elif what != "manifest.json":
        data = bytearray(path.read_bytes())
        data[draw.randrange(len(data))] = draw.randrange(256)
        path.write_bytes(data[: draw.choice((len(data), len(data), draw.randrange(1, len(data))))])
    for name in manifest["files"]:
        data = (directory / name).read_bytes()
        manifest["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    if what == "manifest.json":
        changed = change_manifest(manifest, draw)
        manifest = changed if isinstance(changed, dict) else manifest
    path = directory / "manifest.json"
    path.write_text(json.dumps(manifest | {"content_hash": content_hash(manifest)}))
    return what


def read_all(directory: Path) -> str:
    """Read every article and every image; "sound", "unreadable" where some are not what was indexed."""
    corpus = open_corpus(directory)
    reader = Reader(corpus, ReaderConfig(io_threads=0, retries=0))
    rows = range(len(corpus.articles))
    images = max(1, corpus.manifest["max_images"])
    roi, boxes = np.zeros((1, images, 36, 32), np.float16), np.zeros((1, images, 36, 4), np.float32)
    outcome = "sound"
    for row in rows:
        try:
            reader.article(row)
            found = reader.images([row], roi, boxes).finish()
        except UnreadableError:
            found = [UnreadableError()]
        if isinstance(found[0], UnreadableError):
            outcome = "unreadable"
    for split in ("train", "validation", "test"):
        assert corpus.direction_counts(split).sum() == len(corpus.edges[split])
        assert not len(corpus.edges[split]) or corpus.edges[split].min() >= 0
    corpus.story_keys()
    reader.close()
    return outcome


@pytest.mark.parametrize("seed", [0])
def test_hostile_tables_and_manifests(tmp_path: Path, seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    draw, outcomes = random.Random(seed), Counter[str]()
    sound = make_corpus(tmp_path / "sound", stories=12).directory
    assert np.load(sound / "articles.npy").dtype == ARTICLE
    for number in range(CASES):
        copy = Path(shutil.copytree(sound, tmp_path / "copy"))
        what = damage(copy, draw)
        try:
            outcome = read_all(copy)
        except InputError as error:
            outcome = "refused" if "\n" not in str(error) else "refused in several lines"
        outcomes[outcome] += 1
        code = main(["verify", str(copy), "--workers", "1"])
        said = capsys.readouterr()
        assert code in (0, 1, 2), (number, what)
        assert not any(sign in said.out + said.err for sign in "\x1b\x9b"), (number, what)
        assert code or outcome == "sound", (number, what, outcome)
        if number % 4 == 0:
            assert main(["inspect", str(copy)]) in (0, 2), (number, what)
            said = capsys.readouterr()
            assert not any(sign in said.out + said.err for sign in "\x1b\x9b"), (number, what)
        shutil.rmtree(copy)
    print(f"seed {seed}: {outcomes}")
    assert outcomes["refused"] > CASES / 3
    assert not outcomes["refused in several lines"]
