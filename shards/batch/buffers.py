"""Reuse host memory for features: fresh memory costs a page fault every 4 KB, which halves a loader's speed."""

import math
import threading
import weakref
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch


class BufferPool:
    """Gives out uninitialised tensors. What is no longer referred to, in any view, is given out again.

    pinned: page-locked memory for copies to a CUDA device. torch's own allocator reuses that, and waits for
    copies that are under way.
    """

    def __init__(self, *, pinned: bool = False, keep: int = 8) -> None:
        self._pinned = pinned
        self._keep = keep
        self._free: list[torch.Tensor] = []  # bytes, flat
        self._lent: dict[int, tuple[torch.Tensor, weakref.ref[Any]]] = {}
        # The callback may come while this very thread holds it, from a collection of garbage.
        self._lock = threading.RLock()

    def take(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """Return an uninitialised contiguous tensor of `shape`."""
        if self._pinned:
            return torch.empty(*shape, dtype=dtype, pin_memory=True)
        size = math.prod(shape) * dtype.itemsize
        if not size:
            return torch.empty(*shape, dtype=dtype)
        memory = self._pick(size)
        if memory is None:
            memory = torch.empty(size, dtype=torch.uint8)
        # torch holds on to this very array for as long as any view of its memory lives, so its end is theirs.
        lent = memory.numpy()[:size]
        # A plain reference: `weakref.finalize` costs five times as much. Nothing else keeps it until its callback.
        self._lent[id(memory)] = (memory, weakref.ref(lent, partial(self._give_back, id(memory))))
        return torch.from_numpy(lent).view(dtype).view(*shape)

    def _pick(self, size: int) -> torch.Tensor | None:
        with self._lock:
            # The one that was given back last: the processor's cache may still hold it.
            for index in reversed(range(len(self._free))):
                if size <= len(self._free[index]) <= 2 * size:
                    return self._free.pop(index)
        return None

    def _give_back(self, key: int, _: object) -> None:
        with self._lock:
            self._free.append(self._lent.pop(key)[0])
            if len(self._free) > self._keep:
                del self._free[0]
