"""Make stories of images with captions: an image is a story, its caption in a language an article."""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from shards.corpora import Opening
from shards.corpora.captions.index import PICTURES, SCHEMA, CaptionIndex, OutsideError, file_below
from shards.corpora.index_file import ensure_index, read_meta, reading
from shards.corpora.listing import Listing, kind_of_other, list_files
from shards.corpora.pictured import PicturedSource
from shards.errors import InputError
from shards.languages import LANGUAGE_CODES
from shards.problems import Problems
from shards.schema import Article, Story

#: Fills an index from the files of an opening's listing; returns what the provenance says besides, JSON-able.
Read = Callable[[Opening, CaptionIndex], dict[str, Any]]

#: Changes when an older index would be read wrongly.
_VERSION = 1

_LANGUAGES = tuple(LANGUAGE_CODES)


def list_captions(
    data: Path | None, suffixes: Sequence[str], *, asked: str, kind: str, content: str, beside: Sequence[str] = ()
) -> Listing:
    """List the files below `data` whose names end in one of `suffixes`, pictures aside: captions say which are missing.

    asked: the error where `data` is None.  kind, content: name what is missing where all files are of `beside`.

    Raises: InputError in those two cases.
    """
    if data is None:
        raise InputError(asked)
    listing = list_files(data, suffixes, kind_of_other, PICTURES)
    if all(name in beside for name, _ in listing.files):
        raise InputError(f"no {kind} below {data}: --data must hold {content}{listing.others()}")
    return listing


class CaptionedSource(PicturedSource):
    """Images with captions as a `shards.corpora.Source`. Keeps an index in `opening.work`, and little in memory."""

    def __init__(self, name: str, opening: Opening, read: Read) -> None:
        """`opening.stories` keeps the first so many, in an order that mixes folders and splits.

        Raises: InputError as `ensure_index`, what `read` raises, and for too many problems.
        """
        listing = opening.listing
        assert listing is not None
        path = opening.work / f"{name}.sqlite"

        def build(database: sqlite3.Connection) -> dict[str, Any]:
            index = CaptionIndex(database, listing.root, Problems(limit=opening.max_problems))
            notes = read(opening, index)
            return {**index.finish(), "notes": notes, "problems": index.problems.to_json()}

        ensure_index(path, {"version": _VERSION, "files": listing.fingerprint()}, SCHEMA, build)
        super().__init__(name, opening, path, "captions USING (image)")

    def load(self, split: str, start: int, stop: int, problems: Problems) -> Iterator[Story]:
        """See `Source`. A story whose image cannot be read is left out: its captions are of nothing.

        Counted: "unreadable image", "image kept as PNG".
        """
        query = "SELECT image, key, file FROM stories JOIN images ON id = image"
        with reading(self._index) as database:
            for rows in self._rows(database, query, split, start, stop):
                paths = {file: path for _, _, file in rows if (path := self._path(file, problems)) is not None}
                images = self._pictures.read({path: file for file, path in paths.items()}, problems)
                for image, key, file in rows:
                    if file in paths and paths[file] in images:
                        articles = self._articles(database, image)
                        yield Story(key=key, articles=articles, shared_images=images[paths[file]])

    def provenance(self) -> dict[str, Any]:
        """Return what every source of pictures does, and the notes of `read`."""
        with reading(self._index) as database:
            return {**super().provenance(), **read_meta(database, "notes")}

    def _path(self, file: str, problems: Problems) -> Path | None:
        """Return where an image is. The index found it there, but that may be hours ago."""
        try:
            return file_below(self._root, file)
        except (OutsideError, FileNotFoundError):
            problems.count("unreadable image", f"{file}: it was there when the captions were read")
            return None

    def _articles(self, database: sqlite3.Connection, image: int) -> tuple[Article, ...]:
        rows = database.execute(
            "SELECT language, caption, coalesce(text, caption), url FROM captions WHERE image = ? ORDER BY language",
            (image,),
        )
        return tuple(
            Article(language=_LANGUAGES[language], text=text, summary=caption, url=url)
            for language, caption, text, url in rows
        )
