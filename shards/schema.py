"""Define an example on disk: articles, images, stories. Imports no torch; for tensors see shards/batch/types.py.

Shape suffixes, here and in every tensor file of the project:
    B  rows of a micro-batch (examples)      I  images an article (n, at most 5 in the paper)
    M  tokens of a document                  R  regions an image (m = 36)
    N  tokens of a summary, with its end     V  width of a region's feature (d_v = 2048)
    D  hidden width of the text backbone     C  common width of the cross-modal attention (d_c)
    W  words of the vocabulary               K  keys of an attention (I * R when flattened)
    S  tokens of a source article's summary, with its end
    H  height of a picture in pixels         W, C  in pixels_BIHWC alone: its width, and red, green, blue
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Stands in a label of two levels between the group and the sub-group.
GROUP_SEPARATOR = " / "


@dataclass(frozen=True, kw_only=True, slots=True)
class Article:
    """One document in one language with its summary. `url` identifies it in its source.

    label: its class, where it has one. The summary of an example to classify is the label's word, that of another
        article is its own.
    """

    language: str
    text: str
    summary: str
    url: str = ""
    label: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """A document in `language` that was made from a story's article in `target`: the source of one more example.

    Summary and images of the example are the article's. A variant is never a target, and no article of its language.
    """

    language: str
    target: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Images:
    """The image sequence of an article (or of all articles of a story), as region features.

    roi_IRV: float16, finite.  boxes_IR4: float32 x1 y1 x2 y2 as shares of width and height, in [0, 1].
    pixels: the I image files, PNG or JPEG, where they are kept too.
    """

    roi_IRV: NDArray[np.float16]
    boxes_IR4: NDArray[np.float32]
    pixels: tuple[bytes, ...] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Story:
    """The parallel articles of one event, at most one a language; the unit of the split.

    shared_images: the one image sequence of all articles, or None where each has its own (or none).
    images: language -> its image sequence, where they are not shared.
    edges: (source language, target language) pairs; None means every ordered pair of its articles,
        each article paired with itself included.
    variants: further sources of the story's articles, at most one a direction; stories of the training split alone
        have any. Each has the edge to its article, which `edges` does not name.
    """

    key: str
    articles: tuple[Article, ...]
    shared_images: Images | None = None
    images: dict[str, Images] | None = None
    edges: tuple[tuple[str, str], ...] | None = None
    variants: tuple[Variant, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Unreadable:
    """An example that could not be read: a placeholder of weight 0 takes its slot."""

    slot: int
    story: int  # number in the corpus
    source: str  # language
    target: str
    problem: str  # what was wrong, and where
