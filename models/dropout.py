"""Draw dropout masks that cost less than the layers they follow.

torch draws a CPU mask one Mersenne-Twister number an element (6 ns measured, on one thread), which for attention
probabilities is three times the matrix products' own cost. Here a mask is 16 bits an element of a fast counter of
numpy's (0.5 ns), seeded from torch's generator: `torch.manual_seed` and activation checkpointing decide it as they
decide torch's own. On other devices torch's dropout is used.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.compilation import never_compiled

_LEVELS = 2**16


class Masks:
    """Stream of dropout masks on the CPU, seeded by one draw from torch's generator."""

    def __init__(self, p: float) -> None:
        self._threshold = min(round(p * _LEVELS), _LEVELS - 2)  # the factor must fit float16
        self._random = np.random.Generator(np.random.SFC64(int(torch.randint(2**62, ()))))

    def draw(self, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        """Draw 0 with probability p (to 1 / 65,536), else 1 / (1 - p) of that rounded p: the mean stays exact."""
        count = shape.numel()
        bits = self._random.integers(0, 2**64 - 1, -(-count // 4), dtype=np.uint64, endpoint=True)
        values = torch.from_numpy(bits.view(np.int16)[:count]).view(shape)
        keep = (values >= self._threshold - _LEVELS // 2).to(dtype)
        return keep.mul_(_LEVELS / (_LEVELS - self._threshold))


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """Return `x` (any shape), each element zeroed with probability p and the others divided by 1 - p."""
    if not training or p == 0.0:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, p)
    keep = _mask(x.shape, p, x.dtype)
    return x * keep


@never_compiled
def _mask(shape: torch.Size, p: float, dtype: torch.dtype) -> Tensor:
    return Masks(p).draw(shape, dtype)
