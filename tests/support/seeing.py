"""An objective that reads the pixels of images: patches of pictures of 32 x 32, cut into four."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Literal

import torch
from torch import Tensor

from models.network import Network
from models.objectives import OBJECTIVES
from models.objectives.base import Outputs
from models.objectives.d2tv import D2TV
from models.objectives.d2tv_config import D2TVConfig
from models.patches import PatchEmbedding
from shards.batch import fields
from shards.batch.types import Batch

#: In place of 224; and the rows that the objective remembers, more than a step of the tiny recipe has.
SIDE, QUEUE = 32, 24


class SeeingConfig(D2TVConfig):
    """Registered under `seeing`."""

    needs: ClassVar[frozenset[str]] = frozenset({"pixels"})
    name: Literal["seeing"] = "seeing"

    def build(self, network: Network, references: Mapping[str, Network] = MappingProxyType({})) -> "Seeing":
        return Seeing(self, network)


class Seeing(D2TV):
    """Add a little of the patches to the term `mms` of D2TV, and remember slot and sum of pixels of the last rows."""

    rows: Tensor

    def __init__(self, config: SeeingConfig, network: Network) -> None:
        super().__init__(config, network)
        self.has_state = True
        self.patches = PatchEmbedding(4, network.config.vision.max_images, picture_side=SIDE, patch_side=SIDE // 2)
        self.register_buffer("rows", torch.full((QUEUE, 2), -1))

    def forward(self, batch: Batch, step: int, counts: Mapping[str, float]) -> Outputs:
        outputs, pixels_BIHWC = super().forward(batch, step, counts), batch.pixels_BIHWC
        assert pixels_BIHWC is not None
        embedded_XPD = self.patches(pixels_BIHWC[batch.image_mask_BI], batch.image_mask_BI.nonzero()[:, 1])
        term = outputs.terms["mms"]
        term = dataclasses.replace(term, sum=term.sum + 1e-3 * embedded_XPD.square().sum())
        sum_B = pixels_BIHWC.flatten(1).long() @ torch.arange(1, 1 + pixels_BIHWC[0].numel())
        kept = torch.stack((batch.slot_B, sum_B), dim=1)
        return dataclasses.replace(outputs, terms={**outputs.terms, "mms": term}, keep={"rows": kept})

    def after_step(self, step: int, means: Mapping[str, float], kept: Mapping[str, Tensor]) -> None:
        self.rows.copy_(torch.cat((self.rows, kept["rows"]))[-QUEUE:])


def register() -> None:
    OBJECTIVES["seeing"] = SeeingConfig
    fields.FIELDS = {**fields.FIELDS, "pixels": dataclasses.replace(fields.FIELDS["pixels"], picture_side=SIDE)}
