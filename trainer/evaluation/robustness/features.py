"""Perturb the region features of images. Shape suffixes: shards/schema.py.

Random numbers follow from the story, not from the row: rows with equal images have equal images afterwards. A larger
share changes all that a smaller one changes.
"""

import numpy as np
import torch
from torch import Tensor

#: The largest float16.
_LARGEST = torch.finfo(torch.float16).max


def noise(roi_IRV: Tensor, boxes_IR4: Tensor, strength: float, seed: int) -> tuple[Tensor, Tensor]:
    """Add Gaussian noise of `strength` standard deviations of the image's own features."""
    generator = np.random.default_rng(seed)
    drawn = torch.from_numpy(generator.standard_normal(tuple(roi_IRV.shape), dtype=np.float32))
    scale_I11 = roi_IRV.float().std(dim=(1, 2), keepdim=True)
    noisy_IRV = roi_IRV.float() + strength * scale_I11 * drawn
    return noisy_IRV.clamp(-_LARGEST, _LARGEST).half(), boxes_IR4


def drop(roi_IRV: Tensor, boxes_IR4: Tensor, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Zero the features of a share of every image's regions; boxes stay."""
    dropped_IRV = roi_IRV.clone()
    for image, regions in enumerate(_regions(roi_IRV, share, seed, least=1)):
        dropped_IRV[image, regions] = 0
    return dropped_IRV, boxes_IR4


def shuffle(roi_IRV: Tensor, boxes_IR4: Tensor, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Move the features of a share of every image's regions, at least two, to each other's boxes."""
    moved_IRV = roi_IRV.clone()
    for image, regions in enumerate(_regions(roi_IRV, share, seed, least=2)):
        moved_IRV[image, regions] = roi_IRV[image, regions.roll(1)]
    return moved_IRV, boxes_IR4


def _regions(roi_IRV: Tensor, share: float, seed: int, *, least: int) -> list[Tensor]:
    """Return the regions of each image that take part, in random order."""
    images, regions = roi_IRV.shape[:2]
    generator = np.random.default_rng(seed)
    count = min(regions, max(least, int(share * regions + 0.5)))
    return [torch.from_numpy(generator.permutation(regions)[:count]) for _ in range(images)]
