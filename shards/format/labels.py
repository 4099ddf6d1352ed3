"""Keep the labels of articles: their names in the manifest, sorted, and in labels.npy a number for each row."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shards.files.write import whole_file
from shards.format.index import Corpus
from shards.format.part_index import read_part


def merge_labels(directory: Path, parts: Sequence[Path]) -> list[str]:
    """Write labels.npy where an article of the shards' parts has a label; return all labels, sorted."""
    number_of = {"": -1}
    columns = []
    for part in parts:
        saved = read_part(part)
        labels = saved.get("labels", np.zeros(len(saved["articles"]), np.str_)).tolist()
        columns.append(np.array([number_of.setdefault(label, len(number_of) - 1) for label in labels], np.int32))
    names = sorted(number_of.keys() - {""})
    if names:
        place = {name: number for number, name in enumerate(names)}
        final = np.array([*(place[name] for name in list(number_of)[1:]), -1], np.int32)  # the last: of -1
        with whole_file(directory / "labels.npy") as file:
            np.save(file, final[np.concatenate(columns)])
    return names


def label_counts(corpus: Corpus, split: str) -> NDArray[np.int64]:
    """Return how many articles of `split` have each of `corpus.label_names`."""
    counts: NDArray[np.int64] = np.zeros(len(corpus.label_names), np.int64)
    if corpus.labels is not None:
        of_split = np.array([name.startswith(f"{split}-") for name in corpus.shards])
        labels = np.asarray(corpus.labels)[of_split[np.asarray(corpus.articles["shard"])]]
        counts += np.bincount(labels[labels >= 0], minlength=len(counts))
    return counts
