"""Embed pictures as patches: RC3 (Zhou et al. 2023), section 2.2, "raw pixels are mapped by another FC layer".

Section 3.2: pictures of 224 x 224 pixels, patches of 32 x 32. It gives 768 as the dimension of "patch embeddings",
which is no number of values of such a patch (32 * 32 * 3 = 3,072): one layer maps those to the width of the encoder.

Shape suffixes beside those of shards/schema.py: X images, P patches of a picture (49), row by row from the top left;
L values of a patch, (32, 32, 3) flattened as they lie in a picture, so colours change fastest.
"""

import torch
from torch import Tensor, nn

from models.shapes import PATCH_SIDE
from shards.batch.fields import PICTURE_SIDE
from shards.errors import InputError

#: Values of a pixel: red, green, blue.
_COLOURS = 3


def patches(pixels_XHWC: Tensor, dtype: torch.dtype, side: int = PATCH_SIDE) -> Tensor:
    """Cut uint8 pictures into patches (X, P, L) of a floating-point `dtype`, scaled from [0, 255] to [-1, 1].

    The scale is a constant: a model needs no statistics of its corpus. The pixels are copied once, as they are cast;
    cutting alone is a view. Raise `InputError` where `side` does not divide height and width.
    """
    images, height, width, colours = pixels_XHWC.shape
    if height % side or width % side:
        raise InputError(f"pictures of {height} x {width} pixels cannot be cut into patches of {side} x {side}")
    cut = pixels_XHWC.view(images, height // side, side, width // side, side, colours).transpose(2, 3)
    values = cut.to(dtype, memory_format=torch.contiguous_format)
    return values.flatten(3).flatten(1, 2).div_(127.5).sub_(1)


class PatchEmbedding(nn.Module):
    """Map the patches of pictures to the width of an encoder, and add where they are: in it, and in the sequence."""

    def __init__(
        self, width: int, max_images: int, picture_side: int = PICTURE_SIDE, patch_side: int = PATCH_SIDE
    ) -> None:
        """Take the encoder's width D, the most images of a sequence, and the pixels of pictures' and patches' sides."""
        super().__init__()
        if picture_side % patch_side:
            raise InputError(f"patches of {patch_side} pixels do not fill pictures of {picture_side}")
        self.picture_side, self.patch_side = picture_side, patch_side
        self.project = nn.Linear(_COLOURS * patch_side**2, width)
        self.patch = nn.Embedding((picture_side // patch_side) ** 2, width)
        self.image = nn.Embedding(max_images, width)
        for position in (self.patch, self.image):  # as of regions (models/vision.py)
            nn.init.normal_(position.weight, std=0.02)

    def forward(self, pixels_XHWC: Tensor, place_X: Tensor) -> Tensor:
        """Return embedded patches (X, P, D) of uint8 pictures that are number `place_X` of their sequence."""
        shape, side = tuple(pixels_XHWC.shape[1:]), self.picture_side
        if shape != (side, side, _COLOURS):
            raise InputError(f"pictures of {shape} do not fit an embedding of ({side}, {side}, {_COLOURS})")
        patches_XPL = patches(pixels_XHWC, self.project.weight.dtype, self.patch_side)
        embedded: Tensor = self.project(patches_XPL) + self.patch.weight + self.image(place_X)[:, None]
        return embedded
