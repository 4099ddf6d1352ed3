"""Choose predictions for a page: of each group the best, the middle, the worst, and one drawn at random."""

import io
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from launcher.preview import read_images, spoken_key
from shards.batch.reader import Reader
from shards.batch.spans import UnreadableError
from shards.format.index import Corpus
from shards.format.pixels import DamagedImageError, decode
from shards.schema import Images
from shards.stream.images import ImageRule, image_owners
from trainer.evaluation.predictions import Prediction

Place = Literal["best", "middle", "worst", "drawn"]
#: Bytes above which an image is made smaller for a page, and the side that it then has.
_LARGE, _SIDE = 64 << 10, 440


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """A prediction with its document and images.

    group: of which it is the best, middle or worst by ROUGE-L.  name: of its story.
    document: of the source language.  images: those that the network saw, with files where the corpus keeps them;
    None for none.  problem: the reason why one of the two could not be read.
    sizes: width and height of the picture in each file.
    """

    group: str
    place: Place
    row: Prediction
    name: str
    document: str | None
    images: Images | None
    sizes: tuple[tuple[int, int], ...] = ()
    problem: str | None = None


def choose(
    rows: Sequence[Prediction], group_of: Callable[[Prediction], str], seed: int
) -> list[tuple[str, Place, Prediction]]:
    """Return four of every group, groups sorted by name, each of another story where there are as many.

    The choice depends on rows and seed, not on the rows' order.
    """
    groups: dict[str, list[Prediction]] = defaultdict(list)
    scored = [row for row in rows if row.scores.get("rougeL", 0.0) is not None]
    for row in sorted(scored, key=lambda row: row.key):
        groups[group_of(row)].append(row)
    chosen: list[tuple[str, Place, Prediction]] = []
    for group, of in sorted(groups.items()):
        draw = random.Random(f"{seed} {group}")
        draw.shuffle(of)
        # The random one is taken first, from all.
        drawn = [of[0]]
        by_score = sorted(of, key=lambda row: row.scores.get("rougeL") or 0.0)  # equal ones stay shuffled
        middle = len(by_score) // 2
        outwards = sorted(range(len(by_score)), key=lambda place: abs(place - middle))
        orders: dict[Place, Iterable[Prediction]] = {
            "best": reversed(by_score),
            "middle": (by_score[place] for place in outwards),
            "worst": by_score,
        }
        stories = {row.story for row in drawn}
        picked: dict[Place, Prediction] = {}
        for place, order in orders.items():
            found = next((row for row in order if row.story not in stories), None)
            if found is not None:
                picked[place] = found
                stories.add(found.story)
        chosen += [(group, place, row) for place, row in (picked | {"drawn": drawn[0]}).items()]
    return chosen


def read(
    chosen: Sequence[tuple[str, Place, Prediction]],
    corpus: Corpus,
    reader: Reader,
    max_images: int,
    rule: ImageRule = "source",
    *,
    document_of: Literal["source", "target"] = "source",
) -> list[Example]:
    """Read the documents and images of predictions.

    document_of: the side whose article is the document. rule: which article's images were shown.
    """
    there = corpus.article_rows({row.story for _, _, row in chosen})
    found = []
    for group, place, row in chosen:
        source, target = (there[row.story, language] for language in (row.source, row.target))
        owner = int(image_owners(np.asarray(corpus.articles), np.array(source), np.array(target), rule))
        document: str | None = None
        images: Images | None = None
        sizes: tuple[tuple[int, int], ...] = ()
        problem: str | None = None
        try:
            document = reader.article(source if document_of == "source" else target).text
            if corpus.articles["images"][owner]:
                images, sizes = _seen(read_images(corpus, reader, owner), max_images)
        except UnreadableError as error:
            problem = str(error)
        except DamagedImageError as error:
            problem = f"an image is damaged: {error}"
        found.append(
            Example(
                group=group,
                place=place,
                row=row,
                name=spoken_key(row.story),
                document=document,
                images=images,
                sizes=sizes,
                problem=problem,
            )
        )
    return found


def _seen(images: Images, most: int) -> tuple[Images, tuple[tuple[int, int], ...]]:
    """Return the first `most` images with files small enough for a page, and the sizes of their pictures."""
    small = [_small(file) for file in images.pixels[:most]] if images.pixels else []
    files = tuple(file for file, _ in small) or None
    sizes = tuple(size for _, size in small)
    return Images(roi_IRV=images.roi_IRV[:most], boxes_IR4=images.boxes_IR4[:most], pixels=files), sizes


def _small(file: bytes) -> tuple[bytes, tuple[int, int]]:
    image = decode(file)
    if len(file) <= _LARGE:
        return file, image.size
    image.thumbnail((_SIDE, _SIDE))
    smaller = io.BytesIO()
    image.convert("RGBA").save(smaller, "PNG")
    return smaller.getvalue(), image.size
