"""Index the articles, pairs and images of CrossSum and MM-Sum in an SQLite file, in one pass over the data.

It holds places, never features, and texts only of files that are compressed or packed, for there they have no place.
It is built by streaming.
"""

import re
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

from shards.corpora import Progress
from shards.corpora.crosssum.files import TEXTS, text_files
from shards.corpora.crosssum.hdf5 import H5PY_ERRORS, inside, open_features, visit_names
from shards.corpora.crosssum.stories import plan_stories
from shards.corpora.crosssum.texts import add_texts, count_halves
from shards.corpora.index_file import ensure_index
from shards.corpora.listing import Listing
from shards.corpora.packed import ARCHIVES, Unpacked
from shards.languages import LANGUAGE_CODES
from shards.problems import Problems

#: Changes when an older index would be read wrongly.
_VERSION = 3

#: files: by number, path below the root.  articles: language is its place in LANGUAGE_CODES; split as SPLIT_NUMBERS,
#: null for one that only pairs know; then where the record with its text and that with its summary are, which are the
#: same line for XL-Sum's own; without a length, the offset is the number of a record in `texts`.  texts: records of
#: packed files, compressed.  pairs: by article.  images: by SHA-1 of the article's URL and number, the files.
#: stories and members: by split and number in it; rank orders the stories of all splits.
_SCHEMA = """
CREATE TABLE files (number INTEGER PRIMARY KEY, path TEXT);
CREATE TABLE articles (
    id INTEGER PRIMARY KEY, url TEXT, language INTEGER, split INTEGER,
    text_file INTEGER, text_offset INTEGER, text_length INTEGER,
    summary_file INTEGER, summary_offset INTEGER, summary_length INTEGER,
    UNIQUE (url, language)
);
CREATE TABLE texts (number INTEGER PRIMARY KEY, record BLOB);
CREATE TABLE pairs (source INTEGER, target INTEGER, split INTEGER, PRIMARY KEY (source, target)) WITHOUT ROWID;
CREATE TABLE images (url_hash BLOB, number INTEGER, file INTEGER, PRIMARY KEY (url_hash, number, file)) WITHOUT ROWID;
CREATE TABLE stories (split INTEGER, number INTEGER, rank INTEGER, PRIMARY KEY (split, number)) WITHOUT ROWID;
CREATE TABLE members (
    split INTEGER, number INTEGER, article INTEGER, PRIMARY KEY (split, number, article)
) WITHOUT ROWID;
"""

_IMAGE_ID = re.compile(r"([0-9a-f]{40})_(0|[1-9][0-9]{0,8})")

#: Images that are looked at to learn how many regions and how wide features there are.
_SAMPLED_IMAGES = 100
#: Numbers that the features of an image may be: MM-Sum's are 36 x 2048. A file of some bytes may claim any size.
LARGEST_IMAGE = 1 << 24


def open_index(listing: Listing, work: Path, max_problems: int | None, progress: Progress | None) -> Path:
    """Return the index of the files of `listing`, in `work`: the one that is there, else a new one.

    Noted in it: "problems", "features", "languages", "counts".

    Raises: InputError when the disk is full, a feature file is damaged, h5py is missing, or there are more than
        `max_problems` problems.
    """
    path = work / "crosssum.sqlite"

    def build(database: sqlite3.Connection) -> dict[str, Any]:
        with Unpacked(work) as unpacked:
            return _build(database, listing, unpacked, Problems(limit=max_problems), progress)

    ensure_index(path, {"version": _VERSION, "files": listing.fingerprint()}, _SCHEMA, build)
    return path


def _build(
    database: sqlite3.Connection,
    listing: Listing,
    unpacked: Unpacked,
    problems: Problems,
    progress: Progress | None,
) -> dict[str, Any]:
    packed = sum(size for name, size in listing.files if name.lower().endswith(ARCHIVES))

    def tell(done: int) -> None:
        if progress:
            progress("unpacking archives, MB", done // 10**6, packed // 10**6)

    texts = text_files(listing, unpacked, problems, tell)
    features = [name for name, _ in listing.files if not name.lower().endswith(TEXTS)]
    numbers = {name: number for number, name in enumerate([*(file.name for file in texts), *features])}
    database.executemany("INSERT INTO files VALUES (?, ?)", ((number, name) for name, number in numbers.items()))
    add_texts(database, texts, numbers, problems, progress)
    count_halves(database, problems)
    for number, name in enumerate(features):
        if progress:
            progress("listing images", number, len(features))
        _add_images(database, listing.root / name, name, numbers[name], problems)
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
    counts["images"] = database.execute(
        "SELECT count(*) FROM (SELECT DISTINCT url_hash, number FROM images)"
    ).fetchone()[0]
    return {
        "problems": problems.to_json(),
        "features": shape,
        "languages": dict(sorted(languages.items())),
        "counts": counts,
    }


def _add_images(database: sqlite3.Connection, path: Path, name: str, file: int, problems: Problems) -> None:
    def add(group: str) -> None:
        match = _IMAGE_ID.fullmatch(group)
        if match is None:
            problems.count("unknown image id", f"{name}: {group}")
        else:
            row = (bytes.fromhex(match[1]), int(match[2]), file)
            database.execute("INSERT OR IGNORE INTO images VALUES (?, ?, ?)", row)

    visit_names(path, add)


def _feature_shape(database: sqlite3.Connection, root: Path) -> list[int] | None:
    """Return (regions, width) of most of the first images; None when there are none."""
    rows = database.execute(
        "SELECT path, url_hash, images.number FROM images JOIN files ON file = files.number"
        " ORDER BY url_hash, images.number, file LIMIT ?",
        (_SAMPLED_IMAGES,),
    ).fetchall()
    shapes: Counter[tuple[int, ...]] = Counter()
    for path, url_hash, number in rows:
        with open_features(root / path) as features:
            try:
                shape = inside(inside(features, f"{url_hash.hex()}_{number}"), "features").shape
            except H5PY_ERRORS:  # counted when it is wanted
                continue
            if len(shape) == 2 and 0 < shape[0] * shape[1] <= LARGEST_IMAGE:
                shapes[shape] += 1
    return [int(size) for size in shapes.most_common(1)[0][0]] if shapes else None
