"""Keep an index of a source's files in an SQLite file, made once and then only read.

It is written under another name and then renamed. Of several processes that want it at once, one makes it and the
others wait.
"""

import json
import os
import sqlite3
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from shards.corpora import Opening
from shards.errors import InputError
from shards.files.lock import locked
from shards.files.write import partial_file
from shards.format.manifest import SPLITS
from shards.languages import LANGUAGE_CODES
from shards.problems import Problems

#: Fills the tables of an empty index; returns what is to be noted beside them, JSON-able, by name.
Build = Callable[[sqlite3.Connection], Mapping[str, Any]]


def ensure_index(path: Path, about: Mapping[str, Any], schema: str, build: Build) -> None:
    """Make the index `path` with the tables of `schema`, unless one of the same `about` is there.

    about: what it is made from, JSON-able.

    Raises: InputError when the disk is full, and what `build` raises.
    """
    if not _is_index_of(path, about):
        with locked(path.with_suffix(".lock"), optional=True):
            if not _is_index_of(path, about):  # another may have made it meanwhile
                _write_index(path, about, schema, build)


def _is_index_of(path: Path, about: Mapping[str, Any]) -> bool:
    try:
        with _opened(path) as database:
            return bool(read_meta(database, "about") == about)
    except (sqlite3.DatabaseError, TypeError, ValueError):  # not there, or not one of ours
        return False


def _write_index(path: Path, about: Mapping[str, Any], schema: str, build: Build) -> None:
    partial = partial_file(path)
    try:
        partial.touch(exist_ok=False)  # SQLite would follow a link
        with closing(sqlite3.connect(partial, isolation_level=None)) as database:
            # A crash throws the file away, so nothing need be safe before the end.
            database.executescript(
                "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE;"
                "PRAGMA cache_size = -64000; PRAGMA temp_store = MEMORY; BEGIN;"
                f"CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT); {schema}"
            )
            notes = {**build(database), "about": about}
            database.executemany(
                "INSERT INTO meta VALUES (?, ?)", ((name, json.dumps(note)) for name, note in notes.items())
            )
            database.execute("COMMIT")
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        if not _is_index_of(path, about):  # where there are no locks: others read the one that is there
            os.replace(partial, path)
    except sqlite3.OperationalError as error:
        raise InputError(
            f"cannot write the index {path} ({error}): free some space, or choose another --out"
        ) from error
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Yield a finished index, open for reading; `InputError` where it cannot be read."""
    try:
        with _opened(path) as database:
            yield database
    except sqlite3.DatabaseError as error:
        raise InputError(f"cannot read the index {path} ({error}): remove it, and prepare again") from error


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Open without SQLite's locks, which shared file systems may not have."""
    name = urllib.parse.quote(os.fsencode(path))
    with closing(sqlite3.connect(f"file:{name}?mode=ro&immutable=1", uri=True)) as database:
        database.execute("PRAGMA cache_size = -16000")  # kB
        yield database


def read_meta(database: sqlite3.Connection, name: str) -> Any:
    """Return what was noted under `name`."""
    return json.loads(database.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()[0])


class IndexedSource:
    """Base of a `Source` whose index has the table `stories` (split, rank) and notes problems, counts, languages."""

    def __init__(self, name: str, opening: Opening, index: Path, texts: str) -> None:
        """`index` is finished. `opening.stories` keeps the first so many by rank.

        texts: what the table `stories` is joined with to find the `language` of each text, as "texts USING (story)".

        Raises: InputError for too many problems.
        """
        assert opening.listing is not None
        self.name = name
        self._root, self._listed, self._index = opening.listing.root, opening.listing.problems, index
        Problems(limit=opening.max_problems).add(self.problems())
        with reading(index) as database:
            limit: int = read_meta(database, "counts")["stories"] if opening.stories is None else opening.stories
            counts: dict[int, int] = dict(
                database.execute("SELECT split, count(*) FROM stories WHERE rank < ? GROUP BY 1", (limit,))
            )
            languages: list[str] = list(read_meta(database, "languages"))
            if opening.stories is not None:
                found = f"SELECT DISTINCT language FROM stories JOIN {texts} WHERE rank < ?"
                languages = [list(LANGUAGE_CODES)[number] for (number,) in database.execute(found, (limit,))]
        self.languages = tuple(sorted(languages))
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
