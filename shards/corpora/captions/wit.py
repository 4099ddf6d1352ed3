"""Read Google's WIT, images of Wikipedia with texts in 108 languages (Srinivasan et al. 2021), as it is published.

Tables (wit_v1.train.all-00000-of-00010.tsv.gz and so on) name images by their URL. Which file an image was downloaded
to says a table of one's own, images.tsv: a header, `image_url` and `file` below the directory. A hash of the URL as a
name would ask of every downloader to name files our way and would leave their kind open; and a table says which images
were meant to be there, so that a small part of WIT is no list of millions of missing files.
"""

import re
from collections import Counter
from pathlib import Path
from typing import Any

from shards.corpora import Opening, Source
from shards.corpora.captions.index import Caption, CaptionIndex
from shards.corpora.captions.source import CaptionedSource, list_captions
from shards.corpora.captions.tsv import read_rows
from shards.corpora.listing import Listing
from shards.errors import InputError
from shards.problems import Problems
from shards.text.lines import has_text

TABLES = (".tsv", ".tsv.gz", ".tsv.bz2", ".tsv.xz")

_IMAGES = tuple(f"images{suffix}" for suffix in TABLES)
_IMAGES_COLUMNS = ("image_url", "file")
_COLUMNS = (
    "language",
    "page_url",
    "image_url",
    "caption_reference_description",
    "caption_alt_text_description",
    "context_section_description",
    "context_page_description",
)
#: Columns of a caption, and of its text, the first that says something.
_CHOICES = (
    ("caption_reference_description", "caption_alt_text_description"),
    ("context_section_description", "context_page_description"),
)
#: Ordered as SPLITS of format/manifest.py.
_SPLIT_NUMBERS = {"train": 0, "val": 1, "test": 2}
_SPLIT = re.compile(r"\.(train|val|test)\.")


def list_data(data: Path | None) -> Listing:
    """List the tables below `data`. Raises: InputError where there are none, or images.tsv is missing."""
    listing = list_captions(
        data,
        TABLES,
        asked="wit needs --data DIR: a directory of WIT's .tsv.gz files, images, and images.tsv",
        kind=".tsv file of WIT",
        content="wit_v1.train.all-00000-of-00010.tsv.gz and so on",
        beside=_IMAGES,
    )
    images = [name for name, _ in listing.files if name in _IMAGES]
    if len(images) != 1:
        raise InputError(
            f"{data} must hold one images.tsv, with a header and two columns, image_url and file, which says where "
            f"each image lies; it has {' and '.join(images) or 'none'}"
        )
    return listing


def open_wit(opening: Opening) -> Source:
    """Return the source. Raises as `CaptionedSource`, and InputError for a table that lacks a column."""
    return CaptionedSource("wit", opening, _read)


def _read(opening: Opening, index: CaptionIndex) -> dict[str, Any]:
    """Read all tables. A story is in the split of its files; by its key where no table is of a held-out split.

    Returns: how many rows there are, and which columns captions and texts are from.

    Counted: the kinds of `CaptionIndex` and `read_rows`, "duplicate image url" (in images.tsv), "image not in
    images.tsv", "row without caption", "further page" (with the same image, in the same language).
    """
    assert opening.listing is not None
    root, files = opening.listing.root, opening.listing.files
    tables = [(name, size) for name, size in files if name not in _IMAGES]
    (images,) = (name for name, _ in files if name in _IMAGES)
    for name, columns in ((images, _IMAGES_COLUMNS), *((name, _COLUMNS) for name, _ in tables)):
        next(read_rows(root, name, columns, Problems()), None)  # a header that is wrong shows before hours of reading
    if opening.progress:
        opening.progress(f"reading {images}", 0, 1)
    for line, _, (url, file) in read_rows(root, images, _IMAGES_COLUMNS, index.problems):
        if not (has_text(url) and has_text(file)):
            index.problems.count("broken row", f"{images}:{line}: an empty image_url or file")
        elif not index.place(url, file):
            index.problems.count("duplicate image url", f"{images}:{line}: {url}")
    splits = {name: _SPLIT_NUMBERS[match[1]] for name, _ in tables if (match := _SPLIT.search(Path(name).name.lower()))}
    published = any(splits.values())
    rows = 0
    sources: Counter[str] = Counter()
    total, done = sum(size for _, size in tables), 0
    for name, size in tables:
        split = splits.get(name, 0) if published else None
        for line, offset, values in read_rows(root, name, _COLUMNS, index.problems):
            rows += 1
            sources.update(_add(index, values, f"{name}:{line}", split))
            if opening.progress and rows % 1000 == 0:
                opening.progress("reading tables, MB", (done + min(offset, size)) // 10**6, total // 10**6)
        done += size
    return {"rows": rows, "published_splits": published, "columns": dict(sorted(sources.items()))}


def _add(index: CaptionIndex, values: tuple[str, ...], where: str, split: int | None) -> tuple[str, ...]:
    """Add the caption of a row; return the columns of its caption and text, of none where it is left out.

    The caption is what stands below the image on its page, else what describes it to those who do not see it; the
    description on Wikimedia Commons is no choice, for it is in any language. The text is that of the section with the
    image, else the beginning of the page.
    """
    code, page, url, *_ = values
    by_column = dict(zip(_COLUMNS, values, strict=True))
    if (language := index.language(code, where)) is None:
        return ()
    if not index.has_image(url):
        index.problems.count("image not in images.tsv", f"{where}: {url}")
        return ()
    caption, text = (next((column for column in pair if has_text(by_column[column])), None) for pair in _CHOICES)
    if caption is None:
        index.problems.count("row without caption", f"{where}: {url}")
        return ()
    made = Caption(
        language=language, caption=by_column[caption], text=None if text is None else by_column[text], url=page
    )
    added = index.add(url, made, where=where, further="further page", split=split)
    return (f"caption: {caption}", f"text: {text or caption}") if added else ()
