"""A micro-batch of examples as tensors: what the model reads, and where its rows came from.

The shape suffixes are those of shards/schema.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from shards.schema import Images, Unreadable


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """The model's inputs: a micro-batch of whole groups. Masks are True at real tokens, images and rows.

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
    story_B: torch.Tensor  # int64: rows of one story and language tell of the same article, maybe in several variants
    group_B: torch.Tensor  # int64: rows of one group are each other's negatives
    # Where an objective's `needs` ask for them (shards/batch/fields.py), else None.
    # source_summary: the source article's own summary, as `summary_*` has the target's.
    source_summary_ids_BS: torch.Tensor | None = None  # int64, in the source language, ends with the end token
    source_summary_mask_BS: torch.Tensor | None = None  # bool
    source_start_B: torch.Tensor | None = None  # int64, the start token of the source language
    # label: the target article's, among the classes that the Collator was given.
    label_B: torch.Tensor | None = None  # int64; -1: it has none, or one that is no class
    # pixels: the images themselves, as `image_mask_BI` counts them, all of each resized to a square (H = W).
    pixels_BIHWC: torch.Tensor | None = None  # uint8; C: red, green, blue; zeros where there is no image

    def to(self, device: torch.device | str) -> Self:
        """Return the same batch on `device`; page-locked host memory is copied without waiting."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        tensors = {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}
        return type(self)(**values | {name: value.to(device, non_blocking=True) for name, value in tensors.items()})

    def __len__(self) -> int:
        return int(self.cross_B.shape[0])


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamBatch(Batch):
    """A batch of the stream with its provenance, which the trainer reads and the model does not."""

    slot_B: torch.Tensor  # int64
    unreadable: tuple[Unreadable, ...] = ()  # the rows of weight 0, in slot order


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageRows:
    """The image sequences of a batch's rows; fields as in `Batch`."""

    roi_BIRV: torch.Tensor
    boxes_BIR4: torch.Tensor
    image_mask_BI: torch.Tensor
    images_B: torch.Tensor
    pixels_BIHWC: torch.Tensor | None = None

    @classmethod
    def of(
        cls,
        sequences: Sequence[Images | None],
        *,
        images: int,
        regions: int,
        feature_size: int,
        pictures: Sequence[Sequence[NDArray[np.uint8]]] = (),
        picture_side: int = 0,
    ) -> Self:
        """Pad one sequence a row, None for none, to `images`; of more, the first ones are taken.

        pictures: those of each row, (picture_side, picture_side, 3); a row may have them and no features.
        """
        rows = len(sequences)
        roi_BIRV = torch.zeros(rows, images, regions, feature_size, dtype=torch.float16)
        boxes_BIR4 = torch.zeros(rows, images, regions, 4)
        mask_BI = torch.zeros(rows, images, dtype=torch.bool)
        for row, sequence in enumerate(sequences):
            if sequence is not None:
                count = min(len(sequence.roi_IRV), images)
                roi_BIRV[row, :count] = torch.from_numpy(sequence.roi_IRV[:count])
                boxes_BIR4[row, :count] = torch.from_numpy(sequence.boxes_IR4[:count])
                mask_BI[row, :count] = True
        pixels_BIHWC = None
        if picture_side:
            pixels_BIHWC = torch.zeros(rows, images, picture_side, picture_side, 3, dtype=torch.uint8)
            for row, each in enumerate(pictures):
                for image, picture in enumerate(each[:images]):
                    pixels_BIHWC[row, image] = torch.tensor(picture)
                    mask_BI[row, image] = True
        return cls(
            roi_BIRV=roi_BIRV,
            boxes_BIR4=boxes_BIR4,
            image_mask_BI=mask_BI,
            images_B=torch.arange(rows),
            pixels_BIHWC=pixels_BIHWC,
        )


def unrelated(rows: int) -> dict[str, torch.Tensor]:
    """Return the fields that say which rows belong together, for rows that share nothing: each has weight 1."""
    return {"story_B": torch.arange(rows), "group_B": torch.arange(rows), "weight_B": torch.ones(rows)}
