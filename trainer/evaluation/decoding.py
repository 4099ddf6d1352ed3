"""Put held-out examples into batches that encode a document once, and keep their predictions as they come.

The batches depend on the examples and the batch size alone: ranks and restarts only decide who decodes one.
"""

import contextlib
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shards.arrays import Ints
from shards.errors import InputError
from shards.files.read import parse_json, read_regular
from shards.files.write import is_regular
from shards.format.index import Corpus
from shards.stream.images import ImageRule, image_numbers, image_owners
from shards.stream.sampler import Groups

#: Name of a rank's file: key and rank.
_FILE = re.compile(r"[0-9a-f]{16}-[0-9]{5,}\.jsonl")


def decoding_batches(groups: Groups, corpus: Corpus, size: int, rule: ImageRule = "source") -> list[Ints]:
    """Return batches of places in `groups` (of one example each), at most `size` a batch, every place once.

    Examples with the same document and images (by `rule`) are in one batch, where it is encoded once for all their
    target languages; only more than `size` of them are divided. Documents of like length lie together, long ones
    first: a lack of memory shows at the beginning.
    """
    articles = corpus.articles
    source, target = groups.source[:, 0], groups.target[:, 0]
    owner = image_owners(articles, source, target, rule)
    keys = np.stack([source.astype(np.int64), image_numbers(articles, owner)])
    _, memory = np.unique(keys, axis=1, return_inverse=True)
    length = articles["text_length"][source].astype(np.int64)
    order = np.lexsort((np.arange(len(source)), memory.ravel(), -length))
    documents = np.split(order, np.flatnonzero(np.diff(memory.ravel()[order])) + 1) if len(order) else []
    batches: list[Ints] = []
    waiting: list[Ints] = []
    for document in documents:
        for part in np.split(document, range(size, len(document), size)):
            if sum(map(len, waiting)) + len(part) > size:
                batches.append(np.concatenate(waiting))
                waiting = []
            waiting.append(part)
    return [*batches, np.concatenate(waiting)] if waiting else batches


class Predictions:
    """The predictions of one evaluation written so far, a line a batch; every rank has a file of its own."""

    def __init__(self, directory: Path, groups: Groups, facts: Sequence[object]) -> None:
        """Key the files by examples and facts: those of others do not count.

        facts: all that a prediction depends on beside its example, as JSON.
        """
        self._directory = directory
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
        digest.update(np.stack([groups.source[:, 0], groups.target[:, 0]]).tobytes())
        self._key = digest.hexdigest()[:16]

    def begin(self) -> None:
        """Drop the predictions of other evaluations, and nothing else. For rank 0, before the others read.

        Raises `InputError` where the directory cannot be written.
        """
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            for path in self._directory.iterdir():
                if _FILE.fullmatch(path.name) and not path.name.startswith(self._key) and is_regular(path):
                    path.unlink()
        except OSError as error:
            raise InputError(f"{self._directory} cannot be written: {error}") from error

    def read(self) -> dict[int, list[dict[str, Any]]]:
        """Return batch -> its rows. A line that a kill cut short does not count."""
        found: dict[int, list[dict[str, Any]]] = {}
        for path in sorted(self._directory.glob(f"{self._key}-*.jsonl")):
            try:
                lines = read_regular(path).split(b"\n")
            except OSError as error:
                raise InputError(f"{path} cannot be read ({error.strerror}): remove it") from error
            for line in lines:
                try:
                    record = parse_json(line)
                    batch, rows = record["batch"], record["rows"]
                except (ValueError, KeyError, TypeError):
                    continue
                if type(batch) is int and isinstance(rows, list) and all(isinstance(row, dict) for row in rows):
                    found[batch] = rows
        return found

    def add(self, rank: int, batch: int, rows: Sequence[dict[str, Any]]) -> None:
        """Write a finished batch. The file is closed each time: another host may read it next."""
        path = self._directory / f"{self._key}-{rank:05d}.jsonl"
        line = json.dumps({"batch": batch, "rows": list(rows)}, ensure_ascii=False)
        try:
            with open(path, "ab", buffering=0) as file:
                # The first line end closes a line that was cut short.
                file.write(f"\n{line}\n".encode())
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error}") from error

    def remove(self) -> None:
        """Remove this evaluation's files, and the directory if it is empty then. For rank 0, at the end."""
        for path in self._directory.glob(f"{self._key}-*.jsonl"):
            if _FILE.fullmatch(path.name) and is_regular(path):
                path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty, or a link
            self._directory.rmdir()
