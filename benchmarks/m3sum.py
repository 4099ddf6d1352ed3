"""An index of M³Sum's size and shape, to measure start-up and sampling on: no article of it is real.

1,078,215 articles in 44 languages, and for every ordered pair as many edges as CrossSum has (the counts of its
release, crosssum_pair_counts.csv; its 45th language, chinese_traditional, left out). Texts are few and shared,
features are a hole in a sparse file.
"""

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shards.files.checksum import crc32c
from shards.files.write import whole_file, write_atomically
from shards.format.index import Corpus, open_corpus
from shards.format.merge import write_manifest
from shards.format.records import ARTICLE
from shards.text.sentencepiece_tokenizer import train_sentencepiece

ARTICLES = 1_078_215
PAIR_COUNTS = Path(__file__).with_name("crosssum_pair_counts.csv")
IMAGES, REGIONS, WIDTH = 5, 36, 2048
_SHARDS, _TEXTS = 5_000, 1_000
_ROI, _BOXES, _HEADER = IMAGES * REGIONS * WIDTH * 2, IMAGES * REGIONS * 16, 128


def pair_counts(*, all_45: bool = False) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Languages, and CrossSum's examples (L, L) by [target, source], without a diagonal."""
    with open(PAIR_COUNTS, encoding="utf-8", newline="") as file:
        rows = [(row["column_language"], row["row_language"], int(row["pairs"])) for row in csv.DictReader(file)]
    left_out = set() if all_45 else {"chinese_traditional"}
    languages = tuple(sorted({name for row in rows for name in row[:2]} - left_out))
    counts = np.zeros((len(languages), len(languages)), np.int64)
    for target, source, count in rows:
        if not {target, source} & left_out:
            counts[languages.index(target), languages.index(source)] = count
    return languages, counts


def lay_out(
    counts_TS: NDArray[np.int64], articles: int, random: np.random.Generator
) -> tuple[NDArray[np.void], NDArray[np.int32], NDArray[np.int64]]:
    """Articles (ARTICLE, with story and language alone), edges and direction starts for `counts_TS` plus a diagonal.

    Story k is article k of every language that has so many. At least as many articles as the largest count of a
    language need; more than that are shared out in proportion.
    """
    size = len(counts_TS)
    needed = np.maximum(counts_TS.max(axis=0), counts_TS.max(axis=1)).clip(1)
    of_language = np.maximum(needed, needed * (articles / needed.sum())).astype(np.int64)
    of_language[of_language.argmax()] += max(0, articles - of_language.sum())
    story = np.concatenate([np.arange(count) for count in of_language])
    language = np.repeat(np.arange(size), of_language)
    order = np.lexsort((language, story))
    row_of = np.empty(len(order), np.int64)
    row_of[order] = np.arange(len(order))
    first = np.cumsum(of_language) - of_language
    table = np.zeros(len(order), ARTICLE)
    table["story"], table["language"] = story[order], language[order]
    edges, starts = [], [0]
    for target in range(size):
        for source in range(size):
            common = int(min(of_language[target], of_language[source]))
            count = common if source == target else int(counts_TS[target, source])
            chosen = np.sort(random.choice(common, count, replace=False, shuffle=False))
            edges.append(np.stack([row_of[first[source] + chosen], row_of[first[target] + chosen]], axis=1))
            starts.append(starts[-1] + count)
    return table, np.concatenate(edges).astype(np.int32), np.array(starts)


def make_index(directory: Path) -> Corpus:
    """The corpus in `directory`: an index of full size, sparse shards."""
    directory.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    languages, counts = pair_counts()
    table, edges, starts = lay_out(counts, ARTICLES, random)
    texts = [" ".join(f"{word:x}" for word in random.integers(0, 4096, 512)) for _ in range(_TEXTS)]
    arena, places = bytearray(), []
    for text in texts:
        places.append((len(arena), len(text), 120, crc32c(text.encode() + text[:120].encode())))
        arena += text.encode() + text[:120].encode()
    of_text = np.array(places)[random.integers(0, _TEXTS, len(table))]
    for name, column in zip(("text_offset", "text_length", "summary_length", "text_crc"), of_text.T, strict=True):
        table[name] = column
    member = _HEADER + _ROI + 512 + _HEADER + _BOXES
    number = np.arange(len(table))
    table["shard"], table["images"] = number % _SHARDS, IMAGES
    table["roi_offset"] = number // _SHARDS * member
    table["roi_length"], table["roi_crc"] = _HEADER + _ROI, crc32c(bytes(_HEADER + _ROI))
    table["boxes_offset"] = table["roi_offset"] + _HEADER + _ROI + 512
    table["boxes_length"], table["boxes_crc"] = _HEADER + _BOXES, crc32c(bytes(_HEADER + _BOXES))
    shards = []
    for shard in range(_SHARDS):
        name, size = f"train-{shard:06d}.tar", (len(table) // _SHARDS + 1) * member
        with open(directory / name, "wb") as file:
            file.truncate(size)
        stories = int(table["story"].max()) + 1 if shard == 0 else 0  # in which shard a story is, nothing here asks
        shards.append({"name": name, "bytes": size, "stories": stories})
    write_atomically(directory / "text.bin", bytes(arena))
    write_atomically(directory / "story_keys.txt", b"".join(b"%d\n" % k for k in range(table["story"].max() + 1)))
    arrays = {"articles": table}
    for split in ("train", "validation", "test"):
        arrays[f"edges-{split}"] = edges if split == "train" else edges[:0]
        arrays[f"directions-{split}"] = starts if split == "train" else starts * 0
    for name, array in arrays.items():
        with whole_file(directory / f"{name}.npy") as file:
            np.save(file, array)
    train_sentencepiece(directory / "tokenizer", texts, languages=languages, vocab_size=1500, character_coverage=1.0)
    write_manifest(
        directory,
        name="m3sum-sized",
        languages=languages,
        regions=REGIONS,
        feature_size=WIDTH,
        max_images=IMAGES,
        splits={
            split: {"stories": 0, "articles": len(table) * (split == "train"), "edges": len(arrays[f"edges-{split}"])}
            for split in ("train", "validation", "test")
        },
        shards=shards,
        provenance={"counts": "CrossSum"},
    )
    return open_corpus(directory)
