"""Define transforms: what changes examples after they are read and before they are tokenized.

An objective's configuration returns those that its training applies (`ObjectiveConfig.transforms`); `--perturb` is the
same of held-out examples (trainer/evaluation/robustness/perturb.py). Shape suffixes: shards/schema.py.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Protocol

import torch

from shards.arrays import Ints
from shards.batch.types import ImageRows
from shards.schema import Article, Unreadable


@dataclass(frozen=True, kw_only=True, slots=True)
class Fetched:
    """The examples of whole groups, rows in slot order. Rows of a placeholder hold no text, no image, weight 0.

    source_row, target_row: of the articles in the index.
    """

    slot: Ints
    story: Ints
    source_row: Ints
    target_row: Ints
    source: list[Article]
    target: list[Article]
    roi_BIRV: torch.Tensor  # float16, zeros where there is no image
    boxes_BIR4: torch.Tensor  # float32
    image_mask_BI: torch.Tensor  # bool
    images_B: torch.Tensor  # int64, which stored image sequence a row holds; negative, and its own, where it has none
    weight_B: torch.Tensor  # float32
    unreadable: tuple[Unreadable, ...]
    pixels_BIHWC: torch.Tensor | None = None  # uint8, where an objective needs them; zeros where there is no image

    @property
    def images(self) -> ImageRows:
        return ImageRows(
            roi_BIRV=self.roi_BIRV,
            boxes_BIR4=self.boxes_BIR4,
            image_mask_BI=self.image_mask_BI,
            images_B=self.images_B,
            pixels_BIHWC=self.pixels_BIHWC,
        )


class Transform(Protocol):
    """Return examples with other texts, summaries or images; rows, languages and slots stay.

    What a row becomes follows from a seed and the row alone, its slot or story included, never from the rows beside
    it or from calls before: which rows meet depends on ranks and micro-steps, and loader threads call at once.
    Rows that have one number in `images_B` must have one image sequence afterwards: it is computed once for them.
    """

    def __call__(self, fetched: Fetched) -> Fetched: ...


class ExampleTransform(Transform, ABC):
    """A transform of texts and summaries that sees one example at a time, and so cannot depend on those beside it."""

    @abstractmethod
    def change(self, source: Article, target: Article, slot: int) -> tuple[Article, Article]:
        """Return the articles of the example at `slot`, changed; draw by `seeded(seed, NAME, str(slot))`."""

    def __call__(self, fetched: Fetched) -> Fetched:
        """Return the examples, changed; placeholders stay."""
        source, target = list(fetched.source), list(fetched.target)
        for row in torch.nonzero(fetched.weight_B)[:, 0].tolist():
            source[row], target[row] = self.change(source[row], target[row], int(fetched.slot[row]))
        return replace(fetched, source=source, target=target)
