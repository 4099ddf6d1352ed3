"""A micro-batch of examples as tensors. The shape suffixes are those of shards/schema.py."""

from dataclasses import dataclass, fields

import torch

from shards.schema import Unreadable


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
