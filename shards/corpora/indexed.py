"""Answer what a source that keeps an index of its files (index_file.py) is asked beside its stories."""

import sqlite3
from pathlib import Path
from typing import Any

from shards.corpora.index_file import read_meta, reading
from shards.corpora.listing import Listing
from shards.format.manifest import SPLITS
from shards.problems import Problems


class IndexedSource:
    """Base of a `Source` whose index has the table `stories` (split, rank) and notes problems, counts, languages."""

    def __init__(
        self, name: str, listing: Listing, index: Path, *, stories: int | None, max_problems: int | None
    ) -> None:
        """`index` is finished. `stories` keeps the first so many by rank. Raises: InputError for too many problems."""
        self.name = name
        self._root, self._listed, self._index = listing.root, listing.problems, index
        Problems(limit=max_problems).add(self.problems())
        with reading(index) as database:
            self._limit: int = read_meta(database, "counts")["stories"] if stories is None else stories
            counts: dict[int, int] = dict(
                database.execute("SELECT split, count(*) FROM stories WHERE rank < ? GROUP BY 1", (self._limit,))
            )
        self._stories = {split: int(counts.get(number, 0)) for number, split in enumerate(SPLITS)}

    def stories(self, split: str) -> int:
        """Return how many stories `split` has."""
        return self._stories[split]

    def problems(self) -> Problems:
        """Return what listing (listing.py) and index counted."""
        problems = Problems()
        problems.add(self._listed)
        with reading(self._index) as database:
            problems.add(Problems.from_json(read_meta(database, "problems")))
        return problems

    def _provenance(self, database: sqlite3.Connection, features: dict[str, Any] | None) -> dict[str, Any]:
        """Return the corpus, its counts, `features`, and how many articles there are by language."""
        return {
            "corpus": self.name,
            **read_meta(database, "counts"),
            "features": features,
            "languages": {name: {"articles": count} for name, count in read_meta(database, "languages").items()},
        }
