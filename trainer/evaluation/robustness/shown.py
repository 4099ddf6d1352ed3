"""The images that a row shows, as perturbations exchange them. Shape suffixes: shards/schema.py."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from shards.format.pixels import squared


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """The images of a row. number: of the stored image sequence.

    roi_IRV: no wider than 0 where the model reads no features.  pixels_IHWC: None where it reads no pixels.
    """

    roi_IRV: Tensor
    boxes_IR4: Tensor
    number: int
    pixels_IHWC: Tensor | None = None

    @property
    def has_features(self) -> bool:
        return self.roi_IRV.shape[-1] > 0

    @property
    def picture_side(self) -> int:
        """Return the width and height of its pixels; 0 where it has none."""
        return 0 if self.pixels_IHWC is None else self.pixels_IHWC.shape[1]

    def none(self) -> "Shown":
        pixels_IHWC = None if self.pixels_IHWC is None else self.pixels_IHWC[:0]
        return replace(self, roi_IRV=self.roi_IRV[:0], boxes_IR4=self.boxes_IR4[:0], pixels_IHWC=pixels_IHWC)


def squares(pictures: Sequence[Image.Image], side: int) -> Tensor:
    """Return pictures as a batch has them, uint8 (I, side, side, 3)."""
    return torch.from_numpy(np.stack([squared(picture, side) for picture in pictures]))
