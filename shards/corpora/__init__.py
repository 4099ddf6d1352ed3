"""Open sources of stories: one file or folder a corpus, each an implementation of `Source`."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from shards.corpora.listing import Listing
from shards.corpora.npm import Package
from shards.errors import InputError, did_you_mean
from shards.problems import Problems
from shards.schema import Story

#: the names `open_source` knows, and what each is made from.
SOURCES: dict[str, str] = {
    "emoji": "Unicode's names and keywords of 1,966 characters, drawn by four vendors; fetched with npm",
    "help": "Mallard pages such as GNOME's user help, from Debian's gnome-user-docs or --data",
    "crosssum": "XL-Sum and CrossSum JSONL with MM-Sum HDF5 features, from --data",
}

#: Told (what is being done, how far, of how much) while a source is opened, when that takes long.
Progress = Callable[[str, int, int], None]


class Source(Protocol):
    """A corpus that can be turned into shards: a fixed sequence of stories in each split.

    Splits and order are the same on every machine. Texts and features are read when a range is loaded, so that
    memory does not grow with them. A source can be pickled: every worker process gets a copy.
    """

    @property
    def name(self) -> str:
        """Return the corpus's name: one of `SOURCES`."""

    @property
    def languages(self) -> tuple[str, ...]:
        """Return names as in shards/languages.py, sorted; every one has at least one article."""

    @property
    def packages(self) -> tuple[Package, ...]:
        """Return npm packages that loading or the provenance will need."""

    def stories(self, split: str) -> int:
        """Return how many stories `split` has."""

    def load(self, split: str, start: int, stop: int, problems: Problems) -> Iterator[Story]:
        """Yield stories `start` to `stop` - 1 of `split`, in order; count in `problems` what is wrong with their input.

        Image features are computed in batches across them.
        """

    def problems(self) -> Problems:
        """Return what was wrong with all of the input when it was opened."""

    def provenance(self) -> dict[str, Any]:
        """Return what the corpus was made from, for its manifest: JSON-able, and free of paths and times."""


def open_source(
    name: str,
    *,
    cache: Path,
    work: Path,
    data: Path | None = None,
    without_images: bool = False,
    pixels: bool = False,
    stories: int | None = None,
    max_problems: int | None = None,
    progress: Progress | None = None,
) -> Source:
    """Return the source called `name`.

    cache: where downloads are kept.  work: an existing directory, where it may keep an index; a second opening, by
    any process, finds it there.  data: the directory that holds its files, where it has one.  without_images: as
    `data_files`.  pixels: stories bring their image files, of which crosssum has none.  stories: only the first so
    many, for trials.  max_problems: how many to bear with while the input is read.

    Raises: InputError for an unknown name, for data that is missing or beyond use, for too many problems.
    """
    # Imported on demand: a source's own module may import ours, and none need load the others' libraries.
    listing = data_files(name, data, without_images=without_images)
    if name == "emoji":
        from shards.corpora.emoji import EmojiSource

        return EmojiSource(cache, stories=stories, pixels=pixels)
    assert listing is not None
    if name == "help":
        from shards.corpora.help.source import HelpSource

        return HelpSource(listing, cache, pixels=pixels, stories=stories, max_problems=max_problems, progress=progress)
    assert not pixels
    from shards.corpora.crosssum.source import CrossSumSource

    return CrossSumSource(listing, work, stories=stories, max_problems=max_problems, progress=progress)


def data_files(name: str, data: Path | None, *, without_images: bool = False) -> Listing | None:
    """Return the files that the source called `name` would read from the directory `data`; None for one that has none.

    without_images: of crosssum, the texts alone; files of features need not be there, and are not read.

    Raises: InputError for an unknown name, for a directory that is missing or holds nothing for this source.
    """
    if without_images and name in SOURCES and name != "crosssum":
        raise InputError(f"--without-images is for crosssum: leave it out for {name}")
    if name == "emoji":
        if data is not None:
            raise InputError("the emoji corpus is downloaded: leave out --data")
        return None
    if name == "help":
        from shards.corpora.help.pages import list_pages

        return list_pages(data)
    if name == "crosssum":
        from shards.corpora.crosssum.files import list_data

        return list_data(data, without_images=without_images)
    raise InputError(f"unknown corpus {name!r}{did_you_mean(name, SOURCES)}; known: {', '.join(SOURCES)}")
