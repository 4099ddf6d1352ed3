"""Where the articles, pairs and images of CrossSum and MM-Sum are: an SQLite file, made in one pass over the data.

It holds places, never texts or features, and is built by streaming. It is written under another name and then
renamed. Of several processes that want it at once, one builds it and the others wait.
"""

import importlib
import json
import os
import re
import sqlite3
import urllib.parse
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from shards.corpora import Progress
from shards.corpora.crosssum_files import Record, TextFile, read_records, text_files
from shards.corpora.crosssum_stories import plan_stories
from shards.corpora.listing import Listing
from shards.errors import InputError
from shards.file_lock import locked
from shards.files import partial_file
from shards.languages import LANGUAGE_CODES
from shards.problems import Problems

#: Changes when an older index would be read wrongly.
_VERSION = 2

#: files: by number, path below the root.  articles: language is its place in LANGUAGE_CODES; split as SPLIT_NUMBERS,
#: null for one that only pairs know; then where the record with its text and that with its summary are, which are the
#: same line for XL-Sum's own.  pairs: by article.  images: by SHA-1 of the article's URL and number, the file.
#: stories and members: by split and number in it; rank orders the stories of all splits.  meta: JSON by name.
_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT);
CREATE TABLE files (number INTEGER PRIMARY KEY, path TEXT);
CREATE TABLE articles (
    id INTEGER PRIMARY KEY, url TEXT, language INTEGER, split INTEGER,
    text_file INTEGER, text_offset INTEGER, text_length INTEGER,
    summary_file INTEGER, summary_offset INTEGER, summary_length INTEGER,
    UNIQUE (url, language)
);
CREATE TABLE pairs (source INTEGER, target INTEGER, split INTEGER, PRIMARY KEY (source, target)) WITHOUT ROWID;
CREATE TABLE images (url_hash BLOB, number INTEGER, file INTEGER, PRIMARY KEY (url_hash, number)) WITHOUT ROWID;
CREATE TABLE stories (split INTEGER, number INTEGER, rank INTEGER, PRIMARY KEY (split, number)) WITHOUT ROWID;
CREATE TABLE members (
    split INTEGER, number INTEGER, article INTEGER, PRIMARY KEY (split, number, article)
) WITHOUT ROWID;
"""

_LANGUAGE_NUMBERS = {name: number for number, name in enumerate(LANGUAGE_CODES)}
_IMAGE_ID = re.compile(r"([0-9a-f]{40})_(0|[1-9][0-9]{0,8})")

#: Images that are looked at to learn how many regions and how wide features there are.
_SAMPLED_IMAGES = 100


def open_index(listing: Listing, work: Path, max_problems: int | None, progress: Progress | None) -> Path:
    """The index of the files of `listing`, in `work`: the one that is there, else a new one.

    Raises: InputError when the disk is full, a feature file is damaged, h5py is missing, or there are more than
        `max_problems` problems.
    """
    path = work / "crosssum.sqlite"
    if not _is_index_of(path, listing):
        with locked(work / "crosssum.lock", optional=True):
            if not _is_index_of(path, listing):  # another may have made it meanwhile
                _write_index(path, listing, max_problems, progress)
    return path


def _is_index_of(path: Path, listing: Listing) -> bool:
    try:
        with _opened(path) as database:
            return bool(read_meta(database, "about") == _about(listing))
    except (sqlite3.DatabaseError, TypeError, ValueError):  # not there, or not one of ours
        return False


def _write_index(path: Path, listing: Listing, max_problems: int | None, progress: Progress | None) -> None:
    partial = partial_file(path)
    try:
        partial.touch(exist_ok=False)  # SQLite would follow a link
        with closing(sqlite3.connect(partial, isolation_level=None)) as database:
            _build(database, listing, Problems(limit=max_problems), progress)
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        if not _is_index_of(path, listing):  # where there are no locks: others read the one that is there
            os.replace(partial, path)
    except sqlite3.OperationalError as error:
        raise InputError(
            f"cannot write the index {path} ({error}): free some space, or choose another --out"
        ) from error
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A finished index, open for reading; `InputError` where it cannot be read."""
    try:
        with _opened(path) as database:
            yield database
    except sqlite3.DatabaseError as error:
        raise InputError(f"cannot read the index {path} ({error}): remove it, and prepare again") from error


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Without locks of its own, which shared file systems may not have."""
    name = urllib.parse.quote(os.fsencode(path))
    with closing(sqlite3.connect(f"file:{name}?mode=ro&immutable=1", uri=True)) as database:
        database.execute("PRAGMA cache_size = -16000")  # kB
        yield database


def read_meta(database: sqlite3.Connection, name: str) -> Any:
    """What was noted under `name`: "about", "problems", "features", "languages", "counts"."""
    return json.loads(database.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()[0])


def _about(listing: Listing) -> dict[str, Any]:
    return {"version": _VERSION, "files": listing.fingerprint()}


def _build(database: sqlite3.Connection, listing: Listing, problems: Problems, progress: Progress | None) -> None:
    # A crash throws the file away, so nothing need be safe before the end.
    database.executescript(
        "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE;"
        f"PRAGMA cache_size = -64000; PRAGMA temp_store = MEMORY; BEGIN; {_SCHEMA}"
    )
    texts = text_files(listing, problems)
    features = [name for name, _ in listing.files if not name.endswith(".jsonl")]
    numbers = {name: number for number, name in enumerate([*(file.name for file in texts), *features])}
    database.executemany("INSERT INTO files VALUES (?, ?)", ((number, name) for name, number in numbers.items()))
    total, done = sum(file.size for file in texts), 0
    for file in texts:
        add = _add_article if file.target is None else _add_pair
        for record in read_records(listing.root, file, problems):
            add(database, file, numbers[file.name], record, problems)
            if progress and record.line % 1000 == 0:
                progress("reading texts, MB", (done + record.offset) // 10**6, total // 10**6)
        done += file.size
    _count_halves(database, problems)
    for number, name in enumerate(features):
        if progress:
            progress("listing images", number, len(features))
        _add_images(database, listing.root, name, numbers[name], problems)
    shape = _feature_shape(database, listing.root)
    counts = plan_stories(database, problems)
    languages = Counter(
        {
            list(LANGUAGE_CODES)[number]: count
            for number, count in database.execute(
                "SELECT language, count(*) FROM articles WHERE text_file NOT NULL AND summary_file NOT NULL GROUP BY 1"
            )
        }
    )
    counts["images"] = database.execute("SELECT count(*) FROM images").fetchone()[0]
    notes = {
        "about": _about(listing),
        "problems": problems.to_json(),
        "features": shape,
        "languages": dict(sorted(languages.items())),
        "counts": counts,
    }
    database.executemany("INSERT INTO meta VALUES (?, ?)", ((name, json.dumps(note)) for name, note in notes.items()))
    database.execute("COMMIT")


def _add_article(database: sqlite3.Connection, file: TextFile, number: int, record: Record, problems: Problems) -> None:
    place = (number, record.offset, record.length)
    row = (record.fields["url"], _LANGUAGE_NUMBERS[file.source], file.split, *place, *place)
    if not database.execute("INSERT OR IGNORE INTO articles VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row).rowcount:
        problems.count("duplicate article", f"{file.name}:{record.line}: {record.fields['url']}")
        # The first one stays, in the most held-out split that any file gives it.
        database.execute(
            "UPDATE articles SET split = max(split, ?) WHERE url = ? AND language = ?", (file.split, *row[:2])
        )


def _add_pair(database: sqlite3.Connection, file: TextFile, number: int, record: Record, problems: Problems) -> None:
    assert file.target is not None
    place = (number, record.offset, record.length)
    ends = []
    for url, language, what in (
        (record.fields["source_url"], file.source, "text"),
        (record.fields["target_url"], file.target, "summary"),
    ):
        known = (url, _LANGUAGE_NUMBERS[language])
        database.execute("INSERT OR IGNORE INTO articles (url, language) VALUES (?, ?)", known)
        ((article, had),) = database.execute(
            f"SELECT id, {what}_file FROM articles WHERE url = ? AND language = ?", known
        )
        if had is None:
            database.execute(
                f"UPDATE articles SET {what}_file = ?, {what}_offset = ?, {what}_length = ? WHERE id = ?",
                (*place, article),
            )
        ends.append(article)
    if not database.execute("INSERT OR IGNORE INTO pairs VALUES (?, ?, ?)", (*ends, file.split)).rowcount:
        problems.count("duplicate pair", f"{file.name}:{record.line}")
        database.execute("UPDATE pairs SET split = max(split, ?) WHERE source = ? AND target = ?", (file.split, *ends))


def _count_halves(database: sqlite3.Connection, problems: Problems) -> None:
    """Articles that XL-Sum lacks, and of which no pair has the text or none the summary."""
    for (url,) in database.execute(
        "SELECT url FROM articles WHERE text_file IS NULL OR summary_file IS NULL ORDER BY id"
    ):
        problems.count("article without text or summary", url)


def h5py_module() -> Any:
    """The h5py package; `InputError` says how to get it."""
    try:
        return importlib.import_module("h5py")  # an extra: whoever has no features need not have it
    except ImportError as error:
        raise InputError("image features in HDF5 need h5py: pip install 'd2tv[crosssum]'") from error


#: What h5py raises for what is absent, of another kind, or damaged.
H5PY_ERRORS = (KeyError, OSError, RuntimeError, TypeError, ValueError, AttributeError)


def open_features(path: Path) -> Any:
    """An HDF5 file for reading, without locks; `InputError` when it cannot be."""
    h5py = h5py_module()
    try:
        return h5py.File(path, "r", locking=False)
    except H5PY_ERRORS as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> InputError:
    why = (str(error).splitlines() or [type(error).__name__])[0]
    return InputError(f"{path} is damaged, or no HDF5 file ({why}): get it again, or remove it")


def _add_images(database: sqlite3.Connection, root: Path, name: str, file: int, problems: Problems) -> None:
    def add(raw: bytes) -> None:
        group = raw.decode(errors="replace")
        match = _IMAGE_ID.fullmatch(group)
        if match is None:
            problems.count("unknown image id", f"{name}: {group}")
            return
        row = (bytes.fromhex(match[1]), int(match[2]), file)
        if not database.execute("INSERT OR IGNORE INTO images VALUES (?, ?, ?)", row).rowcount:
            problems.count("duplicate image", f"{name}: {group}")

    try:
        with open_features(root / name) as features:
            features.id.links.iterate(add)  # h5py's own loop would first make a list of all names
    except InputError:
        raise
    except H5PY_ERRORS as error:
        raise _damaged(root / name, error) from error


def _feature_shape(database: sqlite3.Connection, root: Path) -> list[int] | None:
    """(regions, width) of most of the first images; None when there are none."""
    rows = database.execute(
        "SELECT path, url_hash, images.number FROM images JOIN files ON file = files.number"
        " ORDER BY url_hash, images.number LIMIT ?",
        (_SAMPLED_IMAGES,),
    ).fetchall()
    shapes: Counter[tuple[int, ...]] = Counter()
    for path, url_hash, number in rows:
        with open_features(root / path) as features:
            try:
                shape = features[f"{url_hash.hex()}_{number}"]["features"].shape
            except H5PY_ERRORS:  # counted when it is wanted
                continue
            if len(shape) == 2:
                shapes[shape] += 1
    return [int(size) for size in shapes.most_common(1)[0][0]] if shapes else None
