"""Open sources of stories: a corpus is a file or folder with its `Source`, and an entry in `SOURCES`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from shards.corpora.listing import Listing
from shards.corpora.npm import Package
from shards.errors import InputError, did_you_mean
from shards.problems import Problems
from shards.schema import Story

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

        A story that turns out to be of no use is counted there too, and left out. Image features are computed in
        batches across stories.
        """

    def problems(self) -> Problems:
        """Return what was wrong with all of the input when it was opened."""

    def provenance(self) -> dict[str, Any]:
        """Return what the corpus was made from, for its manifest: JSON-able, and free of paths and times."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Opening:
    """Hold what a source is opened with: its files, and the arguments of `open_source`."""

    listing: Listing | None
    cache: Path
    work: Path
    pixels: bool
    stories: int | None
    max_problems: int | None
    progress: Progress | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """Declare a source: the one place that names it.

    made_from: for `d2tv prepare --help`.  open: imports the source's module, so that none need load the others'
    libraries.  list_files: its files below `--data`, None for a source that is downloaded.  pieces, coverage: of its
    tokenizer where none are asked for; the fewer pieces, the fewer rare Han characters have one, and others are spelled
    in bytes.  keeps_pixels: its stories can bring their image files.  grid_features: its features are those of
    shards/corpora/features.py, so that a model can be given pictures.  without_images: its texts can be read alone.
    lists: its documents are lists of keywords, divided by commas (shards/text/lists.py), not sentences.  revision:
    raised when the same input makes other stories: shards that an earlier release has begun are begun anew.
    """

    made_from: str
    open: Callable[[Opening], Source]
    list_files: Callable[[Path | None, bool], Listing | None]
    pieces: int
    coverage: float
    keeps_pixels: bool = False
    grid_features: bool = False
    without_images: bool = False
    lists: bool = False
    revision: int = 1


def _open_emoji(opening: Opening) -> Source:
    from shards.corpora.emoji import EmojiSource

    return EmojiSource(opening.cache, stories=opening.stories, pixels=opening.pixels)


def _no_files(data: Path | None, without_images: bool) -> None:
    if data is not None:
        raise InputError("the emoji corpus is downloaded: leave out --data")


def _open_help(opening: Opening) -> Source:
    from shards.corpora.help.source import HelpSource

    return HelpSource(opening)


def _help_files(data: Path | None, without_images: bool) -> Listing:
    from shards.corpora.help.pages import list_pages

    return list_pages(data)


def _open_crosssum(opening: Opening) -> Source:
    from shards.corpora.crosssum.source import CrossSumSource

    return CrossSumSource(opening)


def _crosssum_files(data: Path | None, without_images: bool) -> Listing:
    from shards.corpora.crosssum.files import list_data

    return list_data(data, without_images=without_images)


def _open_captions(opening: Opening) -> Source:
    from shards.corpora.captions.jsonl import open_captions

    return open_captions(opening)


def _captions_files(data: Path | None, without_images: bool) -> Listing:
    from shards.corpora.captions.jsonl import list_data

    return list_data(data)


def _open_wit(opening: Opening) -> Source:
    from shards.corpora.captions.wit import open_wit

    return open_wit(opening)


def _wit_files(data: Path | None, without_images: bool) -> Listing:
    from shards.corpora.captions.wit import list_data

    return list_data(data)


def _iglue(name: str, of: str) -> Entry:
    """Return the entry of a data set of IGLUE, as shards/corpora/iglue/layouts.py describes it."""

    def open_it(opening: Opening) -> Source:
        from shards.corpora.iglue.source import IglueSource

        return IglueSource(name, opening)

    def list_it(data: Path | None, without_images: bool) -> Listing:
        from shards.corpora.iglue.source import list_data

        return list_data(name, data)

    return Entry(
        made_from=f"{of} as published, with pictures, from --data",
        open=open_it,
        list_files=list_it,
        pieces=32000,
        coverage=0.9995,
        keeps_pixels=True,
        grid_features=True,
    )


SOURCES: dict[str, Entry] = {
    "emoji": Entry(
        made_from="Unicode's names and keywords of 1,966 characters, drawn by four vendors, fetched with npm",
        open=_open_emoji,
        list_files=_no_files,
        pieces=16000,
        coverage=0.99,
        keeps_pixels=True,
        grid_features=True,
        lists=True,
        revision=2,  # labels
    ),
    "help": Entry(
        made_from="Mallard pages such as GNOME's user help, from Debian's gnome-user-docs or --data",
        open=_open_help,
        list_files=_help_files,
        pieces=8000,
        coverage=0.995,
        keeps_pixels=True,
        grid_features=True,
    ),
    "crosssum": Entry(
        made_from="XL-Sum and CrossSum JSONL with MM-Sum HDF5 features, from --data",
        open=_open_crosssum,
        list_files=_crosssum_files,
        pieces=32000,
        coverage=0.9995,
        without_images=True,
    ),
    "captions": Entry(
        made_from="image files and JSONL lines of image, language and caption, from --data",
        open=_open_captions,
        list_files=_captions_files,
        pieces=32000,
        coverage=0.9995,
        keeps_pixels=True,
        grid_features=True,
    ),
    "wit": Entry(
        made_from="Google's WIT as .tsv.gz, with images that images.tsv names, from --data",
        open=_open_wit,
        list_files=_wit_files,
        pieces=32000,
        coverage=0.9995,
        keeps_pixels=True,
        grid_features=True,
    ),
    "xvnli": _iglue("xvnli", "XVNLI"),
    "xgqa": _iglue("xgqa", "xGQA and GQA"),
    "marvl": _iglue("marvl", "MaRVL and NLVR2"),
}


def entry_of(name: str) -> Entry:
    """Return the entry of the source called `name`; InputError for an unknown one."""
    if name not in SOURCES:
        raise InputError(f"unknown corpus {name!r}{did_you_mean(name, SOURCES)}; known: {', '.join(SOURCES)}")
    return SOURCES[name]


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
    opening = Opening(
        listing=data_files(name, data, without_images=without_images),
        cache=cache,
        work=work,
        pixels=pixels,
        stories=stories,
        max_problems=max_problems,
        progress=progress,
    )
    return SOURCES[name].open(opening)


def data_files(name: str, data: Path | None, *, without_images: bool = False) -> Listing | None:
    """Return the files that the source called `name` would read from the directory `data`; None for one that has none.

    without_images: the texts alone; files of features need not be there, and are not read.

    Raises: InputError for an unknown name, for a directory that is missing or holds nothing for this source.
    """
    entry = entry_of(name)
    if without_images and not entry.without_images:
        others = " and ".join(other for other, its in SOURCES.items() if its.without_images)
        raise InputError(f"--without-images is for {others}: leave it out for {name}")
    return entry.list_files(data, without_images)
