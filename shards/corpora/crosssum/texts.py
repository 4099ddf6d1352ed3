"""Index the articles and pairs in files of text, with the places of their texts and summaries."""

import sqlite3
import zlib
from collections import Counter
from typing import Any

from shards.corpora import Progress
from shards.corpora.crosssum.files import Record, TextFile, digest_of, parse_record, read_records
from shards.languages import LANGUAGE_CODES
from shards.problems import Problems

_LANGUAGE_NUMBERS = {name: number for number, name in enumerate(LANGUAGE_CODES)}


def add_texts(
    database: sqlite3.Connection,
    texts: list[TextFile],
    numbers: dict[str, int],
    problems: Problems,
    progress: Progress | None,
) -> None:
    """Add the articles and pairs of all files. One whose text another has as well, packed or not, is read once."""
    total, done = sum(file.size for file in texts), 0
    wanted = Counter((file.source, file.target, file.split) for file in texts)
    seen: dict[tuple[str, str | None, int], set[bytes | None]] = {}
    kept = _KeptTexts(database)
    for file in texts:
        add = _add_article if file.target is None else _add_pair
        key = (file.source, file.target, file.split)
        digest = digest_of(file) if wanted[key] > 1 else None
        if digest is not None and digest in seen.setdefault(key, set()):
            problems.count("repeated file", file.name)
            continue
        seen.setdefault(key, set()).add(digest)
        for record in read_records(file, problems):
            add(database, file, numbers[file.name], record, kept, problems)
            if progress and record.line % 1000 == 0:
                progress("reading texts, MB", (done + min(record.offset, file.size)) // 10**6, total // 10**6)
        done += file.size


class _KeptTexts:
    """Records of packed files, as the table `texts` keeps them."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database, self._next = database, 0

    def place(self, file: TextFile, number: int, record: Record) -> tuple[int, int, int | None]:
        """Return where the record is, or will be if it is kept: file, offset and length as in the table `articles`."""
        return (number, self._next, None) if file.packed else (number, record.offset, len(record.content))

    def keep(self, file: TextFile, record: Record) -> None:
        """Keep the record at its place, which something refers to now. One of a plain file is there already."""
        if file.packed:
            content = zlib.compress(record.content, 1)
            self._database.execute("INSERT INTO texts VALUES (?, ?)", (self._next, content))
            self._next += 1


def _add_article(
    database: sqlite3.Connection, file: TextFile, number: int, record: Record, kept: _KeptTexts, problems: Problems
) -> None:
    place = kept.place(file, number, record)
    row = (record.fields["url"], _LANGUAGE_NUMBERS[file.source], file.split, *place, *place)
    if database.execute("INSERT OR IGNORE INTO articles VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row).rowcount:
        kept.keep(file, record)
    else:
        problems.count("duplicate article", f"{file.name}:{record.line}: {record.fields['url']}")
        # The first one stays, in the most held-out split that any file gives it.
        database.execute(
            "UPDATE articles SET split = max(split, ?) WHERE url = ? AND language = ?", (file.split, *row[:2])
        )


def _add_pair(
    database: sqlite3.Connection, file: TextFile, number: int, record: Record, kept: _KeptTexts, problems: Problems
) -> None:
    assert file.target is not None
    place = kept.place(file, number, record)
    ends = []
    used = False
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
            used = True
            database.execute(
                f"UPDATE articles SET {what}_file = ?, {what}_offset = ?, {what}_length = ? WHERE id = ?",
                (*place, article),
            )
        ends.append(article)
    if used:
        kept.keep(file, record)
    if not database.execute("INSERT OR IGNORE INTO pairs VALUES (?, ?, ?)", (*ends, file.split)).rowcount:
        problems.count("duplicate pair", f"{file.name}:{record.line}")
        database.execute("UPDATE pairs SET split = max(split, ?) WHERE source = ? AND target = ?", (file.split, *ends))


def count_halves(database: sqlite3.Connection, problems: Problems) -> None:
    """Count articles that XL-Sum lacks, and of which no pair has the text or none the summary."""
    for (url,) in database.execute(
        "SELECT url FROM articles WHERE text_file IS NULL OR summary_file IS NULL ORDER BY id"
    ):
        problems.count("article without text or summary", url)


def kept_text(database: sqlite3.Connection, number: int) -> dict[str, Any]:
    """Return a record of a packed file that the index keeps."""
    ((content,),) = database.execute("SELECT record FROM texts WHERE number = ?", (number,))
    return parse_record(zlib.decompress(content), ("text", "summary"))
