"""What an example is, from an article on disk to a batch on a device.

Shape suffixes, here and in every tensor file of the project:
    B  rows of a micro-batch (examples)      I  images an article (n, at most 5 in the paper)
    M  tokens of a document                  R  regions an image (m = 36)
    N  tokens of a summary, with its end     V  width of a region's feature (d_v = 2048)
    D  hidden width of the text backbone     C  common width of the cross-modal attention (d_c)
    W  words of the vocabulary               K  keys of an attention (I * R when flattened)
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True)
class Article:
    """One document in one language with its summary. `url` identifies it in its source."""

    language: str
    text: str
    summary: str
    url: str = ""


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
    """

    key: str
    articles: tuple[Article, ...]
    shared_images: Images | None = None
    images: dict[str, Images] | None = None
    edges: tuple[tuple[str, str], ...] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Unreadable:
    """An example that could not be read: a placeholder of weight 0 takes its slot."""

    slot: int
    story: int  # number in the corpus
    source: str  # language
    target: str
    problem: str  # what was wrong, and where


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """A micro-batch of whole groups. Masks are True at real tokens, images and rows.

    The teacher reads `target_*` and the student `source_*`; both produce `summary_*`. A row whose source
    is its target (`cross_B` False) is monolingual: it trains the teacher only.
    """

    source_ids_BM: torch.Tensor  # int64, document in the source language, padded with the pad id
    source_mask_BM: torch.Tensor  # bool
    target_ids_BM: torch.Tensor  # int64, document in the target language (its own M)
    target_mask_BM: torch.Tensor  # bool
    summary_ids_BN: torch.Tensor  # int64, summary in the target language, ends with the end token
    summary_mask_BN: torch.Tensor  # bool
    start_B: torch.Tensor  # int64, the decoder's start token: one a target language
    roi_BIRV: torch.Tensor  # float16 (zeros where there is no image)
    boxes_BIR4: torch.Tensor  # float32
    image_mask_BI: torch.Tensor  # bool
    images_B: torch.Tensor  # int64: rows with the same number have the same image sequence
    cross_B: torch.Tensor  # bool, source language != target language
    weight_B: torch.Tensor  # float32, 1 for a real example, 0 for a placeholder
    source_language_B: torch.Tensor  # int64, index in the manifest's languages
    target_language_B: torch.Tensor  # int64
    story_B: torch.Tensor  # int64
    group_B: torch.Tensor  # int64: rows of one group are each other's negatives
    slot_B: torch.Tensor  # int64
    unreadable: tuple[Unreadable, ...] = ()  # the rows of weight 0, in slot order

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on `device`; page-locked host memory is copied without waiting."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        tensors = {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}
        return Batch(**values | {name: value.to(device, non_blocking=True) for name, value in tensors.items()})

    def __len__(self) -> int:
        return int(self.cross_B.shape[0])
