"""Make stories of news articles in 45 languages (XL-Sum), their pairs (CrossSum) and image features (MM-Sum).

A story is what pairs connect; its edges are the pairs as they are listed, and every article with itself. It need not
be a clique. An article's images are its own. What is read is described in files.py and images.py.
"""

import hashlib
import os
import sqlite3
from collections.abc import Iterator
from typing import Any

from shards.corpora import Opening
from shards.corpora.crosssum.files import text_at
from shards.corpora.crosssum.images import FeatureFiles, OpenFiles
from shards.corpora.crosssum.index import open_index
from shards.corpora.crosssum.texts import kept_text
from shards.corpora.index_file import IndexedSource, read_meta, reading
from shards.corpora.npm import Package
from shards.format.manifest import SPLITS
from shards.languages import LANGUAGE_CODES
from shards.problems import Problems
from shards.schema import Article, Images, Story

_LANGUAGES = tuple(LANGUAGE_CODES)

#: Text files that are open at a time: those of one split would be 45 and, for articles that only pairs know, more.
_OPEN_TEXTS = 64


class CrossSumSource(IndexedSource):
    """The three as a `shards.corpora.Source`. Keeps an index in `opening.work`, and little in memory."""

    packages: tuple[Package, ...] = ()

    def __init__(self, opening: Opening) -> None:
        """`opening.stories` keeps the first so many, in an order that mixes languages and splits.

        Raises: InputError as `shards.corpora.crosssum.index.open_index`, and for too many problems.
        """
        assert opening.listing is not None
        index = open_index(opening.listing, opening.work, opening.max_problems, opening.progress)
        super().__init__("crosssum", opening, index, "members USING (split, number) JOIN articles ON id = article")

    def load(self, split: str, start: int, stop: int, problems: Problems) -> Iterator[Story]:
        """See `Source`. Counted: the kinds of `FeatureFiles.read`.

        Raises: InputError when the data is no longer what was indexed.
        """
        stop = min(stop, self._stories[split])
        with reading(self._index) as database:
            shape = read_meta(database, "features")
            texts = OpenFiles(lambda name: os.open(self._root / name, os.O_RDONLY), os.close, _OPEN_TEXTS)
            with texts, FeatureFiles(self._root, shape) as features:
                for number in range(start, stop):
                    yield self._story(database, texts, features, SPLITS.index(split), number, problems)

    def provenance(self) -> dict[str, Any]:
        """Return how many articles by language, pairs, stories and images there are, and the features' shape."""
        with reading(self._index) as database:
            shape = read_meta(database, "features")
            features = {"extractor": "as delivered", "regions": shape[0], "width": shape[1]} if shape else None
            return self._provenance(database, features)

    def _story(
        self,
        database: sqlite3.Connection,
        texts: OpenFiles[int],
        features: FeatureFiles,
        split: int,
        number: int,
        problems: Problems,
    ) -> Story:
        rows = database.execute(
            "SELECT id, url, language, t.path, text_offset, text_length, s.path, summary_offset, summary_length"
            " FROM members JOIN articles ON id = article"
            " JOIN files AS t ON t.number = text_file JOIN files AS s ON s.number = summary_file"
            " WHERE members.split = ? AND members.number = ? ORDER BY language",
            (split, number),
        ).fetchall()
        language_of = {article: _LANGUAGES[language] for article, _, language, *_ in rows}
        articles = []
        images: dict[str, Images] = {}
        edges = []
        for article, url, _, text_file, offset, length, summary_file, summary_offset, summary_length in rows:
            language = language_of[article]
            record = _record(database, texts, text_file, offset, length)
            summary = record["summary"]
            if (summary_file, summary_offset) != (text_file, offset):
                summary = _record(database, texts, summary_file, summary_offset, summary_length)["summary"]
            articles.append(Article(language=language, text=record["text"], summary=summary, url=url))
            url_hash = hashlib.sha1(url.encode()).hexdigest()
            places: dict[int, list[str]] = {}
            for image, name in database.execute(
                "SELECT images.number, path FROM images JOIN files ON files.number = file"
                " WHERE url_hash = ? ORDER BY images.number, file",
                (bytes.fromhex(url_hash),),
            ):
                places.setdefault(image, []).append(name)
            if (own := features.read(url, url_hash, places, problems)) is not None:
                images[language] = own
            targets = {article} | {
                t for (t,) in database.execute("SELECT target FROM pairs WHERE source = ?", (article,))
            }
            edges += [(language, language_of[target]) for target in targets & language_of.keys()]
        return Story(
            key=_key(database, rows), articles=tuple(articles), images=images or None, edges=tuple(sorted(edges))
        )


def _record(
    database: sqlite3.Connection, texts: OpenFiles[int], name: str, offset: int, length: int | None
) -> dict[str, Any]:
    return kept_text(database, offset) if length is None else text_at(texts[name], name, offset, length)


def _key(database: sqlite3.Connection, rows: list[tuple[Any, ...]]) -> str:
    """Return the story's smallest URL; with its language behind it where the data has that page in several."""
    url, language = min((row[1], row[2]) for row in rows)
    (languages,) = database.execute("SELECT count(*) FROM articles WHERE url = ?", (url,)).fetchone()
    return url if languages == 1 else f"{url}#{_LANGUAGES[language]}"
