"""Make stories of examples to classify: a text, pictures, and a label (XVNLI, xGQA, MaRVL).

The document is the hypothesis, question or description, and the summary the label's word: the corpus format wants one.
An example has each article's text with itself alone.
"""

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from shards.corpora import Opening
from shards.corpora.captions.index import PICTURES
from shards.corpora.iglue.index import LANGUAGES, SCHEMA, ExampleIndex
from shards.corpora.iglue.layouts import LAYOUTS
from shards.corpora.iglue.records import read_records
from shards.corpora.index_file import ensure_index, reading
from shards.corpora.listing import Listing, list_files
from shards.corpora.pictured import PicturedSource
from shards.corpora.pictures import sequence_of
from shards.errors import InputError
from shards.problems import Problems
from shards.schema import Article, Images, Story

#: Changes when an older index would be read wrongly.
_VERSION = 1

_SUFFIXES = tuple(kind + packed for kind in (".jsonl", ".json") for packed in ("", ".gz", ".bz2", ".xz"))


def list_data(name: str, data: Path | None) -> Listing:
    """List the files of annotations below `data`. Raises: InputError where there are none."""
    layout = LAYOUTS[name]
    if data is None:
        raise InputError(f"{name} needs --data DIR: a directory of {layout.wants}")
    listing = list_files(data, _SUFFIXES, lambda path: "other file", PICTURES)
    placed = [(path, size) for path, size in listing.files if layout.place(path) is not None]
    if any("few_shot/" in path for path, _ in placed):  # a part of zero_shot's questions
        placed = [(path, size) for path, size in placed if "zero_shot/" not in path]
    for path, _ in sorted(set(listing.files) - set(placed)):
        listing.problems.count("other file", path)
    if not placed:
        raise InputError(f"no annotations of {name} below {data}: --data must hold {layout.wants}{listing.others()}")
    return replace(listing, files=tuple(placed))


class IglueSource(PicturedSource):
    """A data set of IGLUE as a `shards.corpora.Source`. Keeps an index in `opening.work`, and little in memory."""

    def __init__(self, name: str, opening: Opening) -> None:
        """`opening.stories` keeps the first so many, in an order that mixes splits; those of a picture are neighbours.

        Raises: InputError as `ensure_index`, and for too many problems.
        """
        listing = opening.listing
        assert listing is not None
        path = opening.work / f"{name}.sqlite"

        def build(database: sqlite3.Connection) -> dict[str, Any]:
            index = ExampleIndex(database, listing.root, LAYOUTS[name], Problems(limit=opening.max_problems))
            _read(opening, index, name)
            return {**index.finish(), "problems": index.problems.to_json()}

        ensure_index(path, {"version": _VERSION, "files": listing.fingerprint()}, SCHEMA, build)
        super().__init__(name, opening, path, "texts USING (example)")

    def load(self, split: str, start: int, stop: int, problems: Problems) -> Iterator[Story]:
        """See `Source`. An example of which an image cannot be read is left out.

        Counted: "unreadable image", "image kept as PNG".
        """
        query = "SELECT example, key, label, files FROM stories JOIN examples ON id = example"
        with reading(self._index) as database:
            for rows in self._rows(database, query, split, start, stop):
                files_of = {example: json.loads(files) for example, _, _, files in rows}
                names = {self._root / file: file for files in files_of.values() for file in files}
                images = self._pictures.read(names, problems)
                for example, key, label, _ in rows:
                    found = [images.get(self._root / file) for file in files_of[example]]
                    if None not in found:
                        yield self._story(database, example, key, label, [image for image in found if image])

    def _story(self, database: sqlite3.Connection, example: int, key: str, label: str, images: list[Images]) -> Story:
        texts = database.execute("SELECT language, text FROM texts WHERE example = ? ORDER BY language", (example,))
        articles = tuple(
            Article(language=LANGUAGES[number], text=text, summary=label, url=f"{self.name}:{key}", label=label)
            for number, text in texts
        )
        return Story(
            key=key,
            articles=articles,
            shared_images=sequence_of(images),
            edges=tuple((article.language, article.language) for article in articles),
        )


def _read(opening: Opening, index: ExampleIndex, name: str) -> None:
    """Read all annotations. Counted: the kinds of `ExampleIndex.add` and `read_records`."""
    assert opening.listing is not None
    layout, root = LAYOUTS[name], opening.listing.root
    total, done, number = sum(size for _, size in opening.listing.files), 0, 0
    for path, size in opening.listing.files:
        place = layout.place(path)
        assert place is not None  # it is in the listing
        for where, offset, record in read_records(root, path, index.problems, lines=layout.lines):
            try:
                example = layout.parse(record)
            except ValueError as error:
                index.problems.count("broken line", f"{where}: {error}")
                continue
            index.add(example, *place, where)
            number += 1
            if opening.progress and number % 1000 == 0:
                opening.progress("reading annotations, MB", (done + min(offset, size)) // 10**6, total // 10**6)
        done += size
