"""Find a story of a corpus and write its page: `d2tv preview`."""

import bisect
import difflib
import heapq
import re
import urllib.parse
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from launcher.pages.story import ImageSequence, StoryView, story_page
from shards.batch.reader import Reader, ReaderConfig
from shards.batch.spans import UnreadableError
from shards.errors import InputError
from shards.files.write import check_output, write_output
from shards.format.index import Corpus, open_corpus
from shards.format.manifest import SPLITS
from shards.format.stores import open_storage
from shards.format.writer import encode_key
from shards.locations import shown
from shards.schema import Images, Variant
from shards.stream.images import image_numbers
from trainer.terminal.progress import stage
from trainer.terminal.text import Console

_BLOCK = 1 << 20
#: Keys that are compared with one that does not exist: a million would take a minute.
_COMPARED = 5000
#: The writer's end of a key that was too long for a file name.
_CUT = re.compile(r"~[0-9a-f]{32}$")


def preview(location: str, story: str, out: Path | None) -> None:
    """Write a page that shows one story of the corpus at `location`, and print where.

    Raises `InputError` for a story that is not there or cannot be read, and a page that cannot be written.
    """
    check_output(out, reads=[Path(location)])
    with stage("opening the corpus", out=Console(stderr=True)):
        corpus = open_corpus(location)
    keys = corpus.story_keys()
    view = view_story(corpus, find_story(keys, story), keys)
    path = out or Path(f"preview-{view.key}.html")
    write_output(path, story_page(view))
    print(path)


def find_story(keys: Sequence[str], wanted: str) -> int:
    """Return the number of a story named by its key (plain or as stored), its number, or a prefix of its key.

    They are tried in that order, so a key that is a number is found by it. Raises `InputError` with the closest keys.
    """
    try:
        exact = {wanted, encode_key(wanted)}
        prefixes = {wanted, urllib.parse.quote(wanted, safe="").replace(".", "%2E")}
    except UnicodeEncodeError:  # bytes that are no text: as stored they would be, and are not
        raise InputError(f"no story {wanted!a}: a key is text") from None
    for number, key in enumerate(keys):
        if key in exact:
            return number
    if re.fullmatch(r"[0-9]+", wanted) and int(wanted) < len(keys):
        return int(wanted)
    begun = [number for number, key in enumerate(keys) if wanted and key.startswith(tuple(prefixes))]
    if len(begun) == 1:
        return begun[0]
    if begun:
        some = ", ".join(spoken_key(keys[number]) for number in begun[:3])
        raise InputError(f"{len(begun):,} stories begin with {wanted!r}, like {some}: give more of the key")
    close = ", ".join(repr(spoken_key(key)) for key in _closest(keys, encode_key(wanted)))
    raise InputError(f"no story {wanted!r} among {len(keys):,}; the closest keys are {close}")


def spoken_key(key: str) -> str:
    """Return a stored key as a person would write it; what was cut off shows as "…"."""
    kept = _CUT.sub("", key)
    name = urllib.parse.unquote(kept, errors="replace")
    return name if kept == key else name.rstrip("\ufffd") + "…"


def _closest(keys: Sequence[str], wanted: str) -> list[str]:
    """Return up to three keys most like `wanted`; of very many, its neighbours and those that hold it are compared."""
    ordered = sorted(keys)
    index = bisect.bisect_left(ordered, wanted)
    near = ordered
    if len(keys) > _COMPARED:
        holding = [key for key in keys if wanted.lower() in key.lower()]
        near = ordered[max(index - _COMPARED // 2, 0) : index + _COMPARED // 2] + holding[:_COMPARED]
    matcher = difflib.SequenceMatcher(b=wanted, autojunk=False)

    def likeness(key: str) -> float:
        matcher.set_seq1(key)
        # Of a mistyped key, the beginning is most often right.
        begun = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(key, wanted, strict=False)))
        return matcher.ratio() + 0.5 * begun / max(len(wanted), 1)

    return heapq.nlargest(3, dict.fromkeys(near), key=likeness)


def view_story(corpus: Corpus, number: int, keys: Sequence[str]) -> StoryView:
    """Read one story: its texts from the arena, its images from its shard, each checked against its CRC32C."""
    members = np.flatnonzero(np.asarray(corpus.articles)["story"] == number)
    of_articles = ~corpus.is_variant(members)
    rows, made = members[of_articles], members[~of_articles]
    if not len(rows):
        raise InputError(f"story {keys[number]} has no article: `d2tv verify` tells what is damaged")
    records = corpus.articles[rows]
    shard = corpus.shards[int(records["shard"][0])]
    split = next(each for each in SPLITS if shard.startswith(f"{each}-"))
    reader = Reader(corpus, ReaderConfig(io_threads=0), open_storage(corpus))
    try:
        articles = tuple(reader.article(row) for row in rows.tolist())
        variants = tuple(_variant(corpus, reader, row) for row in made.tolist())
        sequences = []
        numbers = image_numbers(np.asarray(corpus.articles), rows)
        for sequence in np.unique(numbers[numbers >= 0]):
            same = np.flatnonzero(numbers == sequence)
            row = int(rows[same[0]])
            images = read_images(corpus, reader, row)
            sizes = tuple(each.size for each in reader.pixels(row)) if images.pixels else ()
            languages = tuple(articles[index].language for index in same)
            sequences.append(ImageSequence(languages=languages, images=images, sizes=sizes))
    finally:
        reader.close()
    return StoryView(
        location=shown(corpus.location),
        number=number,
        key=keys[number],
        name=spoken_key(keys[number]),
        split=split,
        shard=shard,
        articles=articles,
        variants=variants,
        sequences=tuple(sequences),
        edges=_edges(corpus, split, int(rows[0]), int(rows[-1])),
    )


def _variant(corpus: Corpus, reader: Reader, row: int) -> Variant:
    assert corpus.variants is not None
    target = int(corpus.variants["target"][np.searchsorted(corpus.variants["row"], row)])
    made = reader.article(row)
    return Variant(language=made.language, target=reader.article(target).language, text=made.text)


def read_images(corpus: Corpus, reader: Reader, row: int) -> Images:
    """Read the images of article `row`, one or more, with their files where the corpus keeps them.

    Raises `UnreadableError`.
    """
    count = int(corpus.articles["images"][row])
    regions, width = int(corpus.manifest["regions"]), int(corpus.manifest["feature_size"])
    roi_IRV, boxes_IR4 = np.empty((count, regions, width), np.float16), np.empty((count, regions, 4), np.float32)
    [outcome] = reader.images([row], roi_IRV[None], boxes_IR4[None]).finish()
    if isinstance(outcome, UnreadableError):
        raise outcome
    pixels = None if corpus.pixels is None else reader.image_files(row)
    return Images(roi_IRV=roi_IRV, boxes_IR4=boxes_IR4, pixels=pixels)


def _edges(corpus: Corpus, split: str, first: int, last: int) -> tuple[tuple[str, str], ...]:
    """Return the languages (source, target) of edges into articles `first` .. `last`, in the order of directions.

    Edges of variants are left out.
    """
    edges, language = corpus.edges[split], np.asarray(corpus.articles)["language"]
    found: list[tuple[str, str]] = []
    for begin in range(0, len(edges), _BLOCK):
        block: NDArray[np.int32] = np.asarray(edges[begin : begin + _BLOCK])
        of_story = block[(block[:, 1] >= first) & (block[:, 1] <= last)]
        for source, target in of_story[~corpus.is_variant(of_story[:, 0])].tolist():
            found.append((corpus.languages[language[source]], corpus.languages[language[target]]))
    return tuple(found)
