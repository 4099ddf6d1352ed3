"""Index the captions of images on disk: a story is an image with at most one caption a language."""

import hashlib
import os
import re
import sqlite3
import stat
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from shards.corpora.listing import list_files
from shards.format.manifest import SPLITS
from shards.format.writer import split_of
from shards.languages import LANGUAGE_CODES, find_language
from shards.problems import Problems

#: How files of pictures that shards/format/pixels.py reads are named, in small letters; and drawings, which it cannot.
PICTURES = (
    *(".png", ".jpg", ".jpeg", ".gif", ".webp", ".avif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".ico"),
    ".svg",
)

#: images: key is the story's; file below the root, with forward slashes; sound is null until a caption asks for the
#: image, then whether its file is there; draw is what orders stories.  captions: language is its place in
#: LANGUAGE_CODES; text is null where it is the caption itself.  stories: rank orders those of all splits.
SCHEMA = """
CREATE TABLE images (
    id INTEGER PRIMARY KEY, key TEXT UNIQUE, file TEXT, sound INTEGER, split INTEGER, draw INTEGER
);
CREATE TABLE captions (
    image INTEGER, language INTEGER, caption TEXT, text TEXT, url TEXT, PRIMARY KEY (image, language)
) WITHOUT ROWID;
CREATE TABLE stories (
    split INTEGER, number INTEGER, rank INTEGER, image INTEGER, PRIMARY KEY (split, number)
) WITHOUT ROWID;
"""

#: A BCP 47 code: a language of the world, which may be none of ours; and one with a region and no script.
_CODE = re.compile(r"[a-z]{2,3}(-[a-z0-9]{1,8})*")
_REGIONAL = re.compile(r"([a-z]{2,3})-([a-z]{2}|[0-9]{3})")

_LANGUAGES = tuple(LANGUAGE_CODES)
_NUMBERS = {name: number for number, name in enumerate(_LANGUAGES)}


class OutsideError(Exception):
    """A path that leaves the directory of the data."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Caption:
    """A caption of an image in one of our languages.  text: the document, None where the caption is all there is."""

    language: str
    caption: str
    text: str | None
    url: str


def file_below(root: Path, name: str) -> Path:
    """Return the real path of the regular file `name` below the directory `root`, links resolved.

    Raises: OutsideError for a path that leaves `root`: absolute, by "..", or through a link. FileNotFoundError where no
        regular file is there.
    """
    path = PurePosixPath(name)
    try:
        base, real = os.path.realpath(root), os.path.realpath(root / path)
        if path.is_absolute() or ".." in path.parts or os.path.commonpath((base, real)) != base:
            raise OutsideError(name)
        if stat.S_ISREG(os.stat(real).st_mode):
            return Path(real)
    except (OSError, ValueError):  # ValueError: a NUL
        pass
    raise FileNotFoundError(name)


class CaptionIndex:
    """Collects images and captions, in the tables of `SCHEMA`; every caption is read once and kept on disk.

    other_languages: code -> how many captions are in that language, which is none of ours.
    """

    def __init__(self, database: sqlite3.Connection, root: Path, problems: Problems) -> None:
        self.problems = problems
        self.other_languages: Counter[str] = Counter()
        self._database, self._root = database, root

    def language(self, code: str, where: str) -> str | None:
        """Return the language that a caption's `code` or name means, whatever its region; None for one of others.

        Counted: "other language" (information, as a corpus may well have more than we), "unknown language" for what is
        no code.
        """
        plain = code.strip().lower().replace("_", "-")
        regional = _REGIONAL.fullmatch(plain)
        name = find_language(plain) or (find_language(regional[1]) if regional else None)
        if name is None and _CODE.fullmatch(plain):
            self.other_languages[plain] += 1
            self.problems.count("other language", f"{where}: {plain}")
        elif name is None:
            self.problems.count("unknown language", f"{where}: {code}")
        return name

    def place(self, key: str, file: str) -> bool:
        """Note the file of the image `key`; return False if it has one already, which stays."""
        row = (key, PurePosixPath(file).as_posix())
        return self._database.execute("INSERT OR IGNORE INTO images (key, file) VALUES (?, ?)", row).rowcount > 0

    def has_image(self, key: str) -> bool:
        """Return True if `place` was told of the image."""
        return self._database.execute("SELECT 1 FROM images WHERE key = ?", (key,)).fetchone() is not None

    def add(self, key: str, caption: Caption, *, where: str, further: str, split: int | None = None) -> bool:
        """Give the image `key`, which was placed, a caption; return False where it is left out.

        split: number in `SPLITS` that its file asks for, of which an image has the most held-out one; None to draw
        it by the key.

        Counted: "missing image file" and "image outside the data", once an image; `further` for a caption in a
        language in which the image has one: the first stays.
        """
        image, file, sound, had = self._database.execute(
            "SELECT id, file, sound, split FROM images WHERE key = ?", (key,)
        ).fetchone()
        if sound is None:
            sound, had = self._check(file, where), SPLITS.index(split_of(key)) if split is None else split
            draw = int.from_bytes(hashlib.sha256(key.encode()).digest()[8:16], "big") >> 1  # SQLite's have a sign
            row = (sound, had, draw, image)
            self._database.execute("UPDATE images SET sound = ?, split = ?, draw = ? WHERE id = ?", row)
        elif split is not None and split > had:
            self._database.execute("UPDATE images SET split = ? WHERE id = ?", (split, image))
        if not sound:
            return False
        entry = (image, _NUMBERS[caption.language], caption.caption, caption.text, caption.url)
        added = self._database.execute("INSERT OR IGNORE INTO captions VALUES (?, ?, ?, ?, ?)", entry).rowcount > 0
        if not added:
            self.problems.count(further, f"{where}: {file} in {caption.language}")
        return added

    def finish(self) -> dict[str, Any]:
        """Number the stories, in an order that mixes folders and splits; return what there is, JSON-able, by name.

        Counted: "image without caption", noted or found below the root.
        """
        self._database.execute(
            "INSERT INTO stories SELECT split, row_number() OVER (PARTITION BY split ORDER BY draw, key) - 1,"
            " row_number() OVER (ORDER BY draw, key) - 1, id FROM images WHERE sound"
        )
        self._count_unused()
        count = "SELECT count(*) FROM"
        languages = self._database.execute("SELECT language, count(*) FROM captions GROUP BY 1 ORDER BY 1")
        return {
            "counts": {
                "stories": self._database.execute(f"{count} stories").fetchone()[0],
                "articles": self._database.execute(f"{count} captions").fetchone()[0],
            },
            "languages": {_LANGUAGES[number]: articles for number, articles in languages},
            "other_languages": dict(sorted(self.other_languages.items())),
        }

    def _check(self, file: str, where: str) -> bool:
        try:
            file_below(self._root, file)
        except OutsideError:
            self.problems.count("image outside the data", f"{where}: {file}")
        except FileNotFoundError:
            self.problems.count("missing image file", f"{where}: {file}")
        else:
            return True
        return False

    def _count_unused(self) -> None:
        self._database.execute("CREATE INDEX images_by_file ON images (file)")

        def kind(name: str) -> str | None:
            if not name.lower().endswith(PICTURES):
                return None
            try:
                known = self._database.execute("SELECT 1 FROM images WHERE file = ?", (name,)).fetchone()
            except UnicodeEncodeError:  # a name that is not UTF-8, which no line can give
                known = None
            return None if known else "image without caption"

        for (file,) in self._database.execute("SELECT file FROM images WHERE sound IS NULL ORDER BY id"):
            self.problems.count("image without caption", file)
        found = list_files(self._root, (), kind).problems
        # The other kinds were counted when the data was listed.
        kept = {what: values for what, values in found.counts.items() if what == "image without caption"}
        self.problems.add(Problems(counts=kept, named={what: found.named[what] for what in kept}))
