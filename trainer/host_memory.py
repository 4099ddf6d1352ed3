"""Host memory of a run whose tensors live there."""

import ctypes

import torch

# malloc.h
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def keep_freed_memory(device: torch.device) -> None:
    """On the CPU, have glibc keep what is freed for the next tensor instead of giving it back to the system.

    It maps every block above 32 MB anew, and the system then hands out each page by a fault: at 250,112 words that is
    a fifth of a training step. On other devices torch keeps memory itself, and other C libraries are left as they are.
    """
    if device.type != "cpu":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, -1)
    mallopt(_M_TOP_PAD, 2**28)
