"""Set up how this process uses its host's cores and memory."""

import ctypes
import os

import torch

from trainer.ranks import Ranks
from trainer.recipe import Recipe

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


def set_threads(recipe: Recipe, ranks: Ranks) -> None:
    """Share the host's cores among its ranks: torch would give each rank all of them."""
    # torchrun sets the first, DeepSpeed's launcher the second.
    local = int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("LOCAL_SIZE") or ranks.world_size)
    cores = len(os.sched_getaffinity(0))
    if cores < int(os.environ.get("SLURM_CPUS_ON_NODE", "0")):
        local = 1  # Slurm has bound this task to cores of its own
    torch.set_num_threads(recipe.training.threads_per_rank or max(1, cores // local))
