"""Compute losses: pure functions on tensors, one file each, each citing its equation, in float32 or wider."""

import torch
from torch import Tensor


def widen(x: Tensor) -> Tensor:
    """Return `x` in float32, or as it is where it is wider (float64 in the tests against references)."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
