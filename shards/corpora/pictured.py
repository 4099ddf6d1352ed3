"""Read stories and their pictures in batches, for sources of pictures with an index (captions, IGLUE)."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shards.corpora import Opening
from shards.corpora.grid import BATCH_SIZE
from shards.corpora.index_file import IndexedSource, read_meta, reading
from shards.corpora.npm import RESNET, Package
from shards.corpora.pictures import Pictures
from shards.format.manifest import SPLITS

#: Stories that are read together: with pixels, their files are in memory.
_STORIES_AT_ONCE = 4 * BATCH_SIZE


class PicturedSource(IndexedSource):
    """Base of an `IndexedSource` of stories with pictures, which also notes texts by language of no article."""

    def __init__(self, name: str, opening: Opening, index: Path, texts: str) -> None:
        """See `IndexedSource`."""
        super().__init__(name, opening, index, texts)
        self.packages: tuple[Package, ...] = (RESNET,) if any(self._stories.values()) else ()
        self._pictures = Pictures(opening.cache, pixels=opening.pixels, noun="image")

    def provenance(self) -> dict[str, Any]:
        """Return the extractor, stories and articles, articles by language, and texts by language of no article."""
        with reading(self._index) as database:
            return {
                **self._provenance(database, self._pictures.describe() if self.packages else None),
                "other_languages": read_meta(database, "other_languages"),
            }

    def _rows(
        self, database: sqlite3.Connection, query: str, split: str, start: int, stop: int
    ) -> Iterator[list[tuple[Any, ...]]]:
        """Yield what `query` (SELECT … FROM stories …) finds of stories `start` to `stop` - 1, some at a time."""
        stop = min(stop, self._stories[split])
        asked = f"{query} WHERE stories.split = ? AND number BETWEEN ? AND ? ORDER BY number"
        for first in range(start, stop, _STORIES_AT_ONCE):
            last = min(first + _STORIES_AT_ONCE, stop) - 1
            yield database.execute(asked, (SPLITS.index(split), first, last)).fetchall()
