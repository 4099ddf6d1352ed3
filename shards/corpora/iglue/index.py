"""Index examples to classify, in one or several languages: a story is an example, its texts are articles."""

import hashlib
import json
import sqlite3
from pathlib import Path, PurePosixPath
from typing import Any

from shards.corpora.captions.index import PICTURES, CaptionIndex
from shards.corpora.iglue.layouts import Example, Layout
from shards.corpora.listing import list_files
from shards.format.manifest import SPLITS, is_label
from shards.languages import LANGUAGE_CODES
from shards.problems import Problems
from shards.text.lines import has_text

#: pictures: files below the root, by their names without the kind.  named: what an example calls a picture (behind a
#: language, where there may be one in each) -> its file, null where it has none.  examples: files is a JSON list; draw
#: orders stories, those of one picture together.  texts: language is its place in LANGUAGE_CODES.  stories: rank orders
#: those of all splits.
SCHEMA = """
CREATE TABLE pictures (stem TEXT, file TEXT, PRIMARY KEY (stem, file)) WITHOUT ROWID;
CREATE TABLE named (name TEXT PRIMARY KEY, file TEXT) WITHOUT ROWID;
CREATE TABLE examples (id INTEGER PRIMARY KEY, key TEXT UNIQUE, split INTEGER, label TEXT, files TEXT, draw INTEGER);
CREATE TABLE texts (example INTEGER, language INTEGER, text TEXT, PRIMARY KEY (example, language)) WITHOUT ROWID;
CREATE TABLE stories (
    split INTEGER, number INTEGER, rank INTEGER, example INTEGER, PRIMARY KEY (split, number)
) WITHOUT ROWID;
"""

LANGUAGES = tuple(LANGUAGE_CODES)
_NUMBERS = {name: number for number, name in enumerate(LANGUAGES)}


class ExampleIndex:
    """Collects examples in the tables of `SCHEMA`. problems: what was wrong with them."""

    def __init__(self, database: sqlite3.Connection, root: Path, layout: Layout, problems: Problems) -> None:
        """List the pictures below `root`."""
        self.problems = problems
        self._database, self._layout = database, layout
        self._codes = CaptionIndex(database, root, problems)
        found = list_files(root, PICTURES, lambda name: None)
        problems.add(found.problems)
        stems = ((PurePosixPath(file).stem, file) for file, _ in found.files)
        database.executemany("INSERT INTO pictures VALUES (?, ?)", stems)

    def add(self, example: Example, code: str, split: str, where: str) -> None:
        """Add an example's text in the language of a code, or count why it is left out.

        Counted: "other language" as `CaptionIndex.language`; "empty text", "unknown label", "missing image file" and
        "ambiguous image", once a picture; "duplicate id", of an example that has a text in that language; "unlike
        translation", whose label or pictures are others than those of the first. Information: "no agreed label",
        "example without image", and "mixed split", of one whose texts are in several: it has the most held-out one.
        """
        if (language := self._codes.language(code, where)) is None:
            return
        labels, problems = self._layout.labels, self.problems
        if example.label is None:
            problems.count("no agreed label", where)
        elif not (is_label(example.label) if labels is None else example.label in labels):
            problems.count("unknown label", f"{where}: {example.label}")
        elif not has_text(example.text):
            problems.count("empty text", where)
        else:
            files = [self._file(name, code, where) for name in example.pictures]
            if None in files:
                problems.count("example without image", f"{where}: {example.key}")
            else:
                self._insert(example, json.dumps(files), SPLITS.index(split), language, where)

    def finish(self) -> dict[str, Any]:
        """Number the stories; return what there is, JSON-able, by name."""
        self._database.execute(
            "INSERT INTO stories SELECT split, row_number() OVER (PARTITION BY split ORDER BY draw, key) - 1,"
            " row_number() OVER (ORDER BY draw, key) - 1, id FROM examples"
        )
        languages = self._database.execute("SELECT language, count(*) FROM texts GROUP BY 1 ORDER BY 1").fetchall()
        return {
            "counts": {
                "stories": self._database.execute("SELECT count(*) FROM stories").fetchone()[0],
                "articles": sum(articles for _, articles in languages),
            },
            "languages": {LANGUAGES[number]: articles for number, articles in languages},
            "other_languages": dict(sorted(self._codes.other_languages.items())),
        }

    def _insert(self, example: Example, files: str, split: int, language: str, where: str) -> None:
        draw = int.from_bytes(hashlib.sha256(files.encode()).digest()[:8], "big") >> 1  # SQLite's have a sign
        self._database.execute(
            "INSERT OR IGNORE INTO examples (key, split, label, files, draw) VALUES (?, ?, ?, ?, ?)",
            (example.key, split, example.label, files, draw),
        )
        number, had, *first = self._database.execute(
            "SELECT id, split, label, files FROM examples WHERE key = ?", (example.key,)
        ).fetchone()
        if first != [example.label, files]:
            self.problems.count("unlike translation", f"{where}: {example.key} is {first[0]} with {first[1]} elsewhere")
            return
        row = (number, _NUMBERS[language], example.text)
        if self._database.execute("INSERT OR IGNORE INTO texts VALUES (?, ?, ?)", row).rowcount == 0:
            self.problems.count("duplicate id", f"{where}: {example.key} in {language}")
        elif split != had:
            self.problems.count("mixed split", f"{where}: {example.key} in {SPLITS[split]} and {SPLITS[had]}")
            self._database.execute("UPDATE examples SET split = ? WHERE id = ?", (max(split, had), number))

    def _file(self, name: str, code: str, where: str) -> str | None:
        """Return the file of a picture, None where there is not exactly one."""
        known = f"{code}:{name}" if self._layout.by_language else name
        found = self._database.execute("SELECT file FROM named WHERE name = ?", (known,)).fetchone()
        if found is not None:
            file: str | None = found[0]
            return file
        wanted = PurePosixPath(name).parts
        rows = self._database.execute("SELECT file FROM pictures WHERE stem = ? ORDER BY file", wanted[-1:] or ("",))
        files = [file for (file,) in rows if PurePosixPath(file).parts[-len(wanted) : -1] == wanted[:-1]]
        if len(files) > 1 and self._layout.by_language:
            files = [file for file in files if code in PurePosixPath(file).parts[:-1]] or files
        if len(files) != 1:
            kind = "ambiguous image" if files else "missing image file"
            self.problems.count(kind, f"{where}: {name}{f' is {files[0]} and {files[1]}' if files else ''}")
        file = files[0] if len(files) == 1 else None
        self._database.execute("INSERT INTO named VALUES (?, ?)", (known, file))
        return file
