"""Corpora with a fault in their tables whose hashes fit all the same."""

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.batch.reader import Reader, ReaderConfig
from shards.batch.spans import UnreadableError
from shards.format.index import open_corpus
from shards.format.manifest import content_hash
from tests.support.hostile.values import changed_value

ARRAYS = ("articles.npy", *(f"{kind}-{split}.npy" for kind in ("edges", "directions") for split in ("train", "test")))
NUMBERS = (-(2**31), -1, 0, 1, 2, 7, 2**15, 2**16 - 1, 2**31 - 1, 2**32 - 1, 2**53, 2**63 - 1, 2**64 - 1)


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
        changed = changed_value(manifest, draw)
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
