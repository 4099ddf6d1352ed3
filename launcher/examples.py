"""Choose and read the predictions that a page shows: of a group the best, the middle, the worst, and one drawn."""

import io
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import numpy as np

from launcher.pages.evaluation import Example, Place
from launcher.preview import read_images, spoken_key
from shards.batch.reader import Reader
from shards.batch.spans import UnreadableError
from shards.format.index import Corpus
from shards.format.pixels import DamagedImageError, decode
from shards.schema import Images
from shards.stream.images import ImageRule, image_owners
from trainer.evaluation.predictions import Prediction

#: Larger files are made smaller before they go into a page.
_LARGE, _SIDE = 64 << 10, 440


def choose(
    rows: Sequence[Prediction], group_of: Callable[[Prediction], str], seed: int
) -> list[tuple[str, Place, Prediction]]:
    """Return four of every group, groups in order of their names: each of another story where there are as many.

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
    document_of: Literal["source", "target", "name"] = "source",
) -> list[Example]:
    """Read the documents and images of predictions.

    document_of: the side whose article is the document; name: the source's summary in its place.
    rule: which article's images were shown.
    """
    rows = corpus.article_rows({row.story for _, _, row in chosen})
    found = []
    for group, place, row in chosen:
        source, target = (rows[row.story, language] for language in (row.source, row.target))
        owner = int(image_owners(np.asarray(corpus.articles), np.array(source), np.array(target), rule))
        document: str | None = None
        images: Images | None = None
        sizes: tuple[tuple[int, int], ...] = ()
        problem: str | None = None
        try:
            article = reader.article(target if document_of == "target" else source)
            document = article.summary if document_of == "name" else article.text
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
    """Return the first `most` images, their files small enough for a page, and the width and height of each file."""
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
