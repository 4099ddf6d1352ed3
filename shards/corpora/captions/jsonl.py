"""Read images with captions as most collections can be written: image files, and JSONL that names them.

A line is {"image": "relative/path.jpg", "language": "en", "caption": "..."}; captions of one image may be in any lines
and files. The caption is both document and summary of its article.
"""

from pathlib import Path, PurePosixPath
from typing import Any

from shards.corpora import Opening, Source
from shards.corpora.captions.index import Caption, CaptionIndex
from shards.corpora.captions.source import CaptionedSource, list_captions
from shards.corpora.listing import Listing
from shards.corpora.packed import packed_lines
from shards.text.lines import has_text, parse_strings

LINES = (".jsonl", ".jsonl.gz", ".jsonl.bz2", ".jsonl.xz")


def list_data(data: Path | None) -> Listing:
    """List the files of captions below `data`. Raises: InputError where there are none."""
    return list_captions(
        data,
        LINES,
        asked="captions needs --data DIR: a directory of .jsonl files of captions and of their images",
        kind=".jsonl file",
        content="lines of image, language and caption",
    )


def open_captions(opening: Opening) -> Source:
    """Return the source. Raises as `CaptionedSource`."""
    return CaptionedSource("captions", opening, _read)


def _read(opening: Opening, index: CaptionIndex) -> dict[str, Any]:
    """Read all captions.

    Counted: the kinds of `CaptionIndex` and `packed_lines`, "further caption", "broken line", "empty caption", "empty
    file".
    """
    assert opening.listing is not None
    total, done = sum(size for _, size in opening.listing.files), 0
    for name, size in opening.listing.files:
        number = 0
        with open(opening.listing.root / name, "rb") as raw:
            for number, offset, line in packed_lines(raw, name, index.problems):
                if line.strip(b"\xef\xbb\xbf \t\r\n"):
                    _add(index, line, f"{name}:{number}")
                if opening.progress and number % 1000 == 0:
                    opening.progress("reading captions, MB", (done + min(offset, size)) // 10**6, total // 10**6)
        if number == 0:
            index.problems.count("empty file", name)
        done += size
    return {}


def _add(index: CaptionIndex, line: bytes, where: str) -> None:
    try:
        fields = parse_strings(line, ("image", "language", "caption"))
        if not has_text(fields["image"]):
            raise ValueError("has an empty 'image'")
    except ValueError as error:
        index.problems.count("broken line", f"{where}: {error}")
        return
    if not has_text(fields["caption"]):
        index.problems.count("empty caption", where)
        return
    if (language := index.language(fields["language"], where)) is None:
        return
    key = PurePosixPath(fields["image"]).as_posix()  # "./a//b.jpg" is a/b.jpg
    index.place(key, key)
    caption = Caption(language=language, caption=fields["caption"], text=None, url=f"captions:{key}")
    index.add(key, caption, where=where, further="further caption")
