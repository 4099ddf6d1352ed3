"""Keep a document's keys and values in transformers' generation, computed once for all summaries of it.

transformers would make them for every beam of every row, keep so many copies, and with every token put all copies into
the beams' new order. They are the same for all beams, and for all rows that read the document. So they lie here once,
and all that read them are the queries of one attention.

Shape suffixes as in models/ragged.py; K memories, M tokens of the longest, R rows times beams, G readers of a memory,
H heads, C width of a head.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.ragged import Rows

Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """Documents that summaries are written from, and which row reads which.

    states_KMD: Z_{T+V}, padded.  mask_K11M: 0 and, where there is no token, -inf.  readers: rows of G for the memories.
    """

    states_KMD: Tensor
    mask_K11M: Tensor
    readers: Rows

    @classmethod
    def of(cls, states_KMD: Tensor, real_KM: Tensor, memory_of: Sequence[int], beams: int) -> "Memory":
        """memory_of: the memory of every row, whose beams are neighbours. Each memory has a row. real_KM: bool."""
        owner_R = np.repeat(np.asarray(memory_of, np.int64), beams)
        counts_K = np.bincount(owner_R, minlength=len(states_KMD))
        order_R = np.argsort(owner_R, kind="stable")
        column_R = np.empty_like(owner_R)
        column_R[order_R] = np.arange(len(owner_R)) - np.repeat(np.cumsum(counts_K) - counts_K, counts_K)
        place_R = owner_R * counts_K.max() + column_R
        mask_KM = torch.zeros(real_KM.shape, dtype=states_KMD.dtype, device=states_KMD.device)
        return cls(
            states_KMD=states_KMD,
            mask_K11M=mask_KM.masked_fill_(~real_KM, -torch.inf)[:, None, None],
            readers=Rows(
                rows=len(counts_K),
                length=int(counts_K.max()),
                place_T=torch.from_numpy(place_R).to(states_KMD.device),
                dense=np.array_equal(place_R, np.arange(counts_K.size * counts_K.max())),
            ),
        )


class MemoryAttention(nn.Module):
    """Replace a decoder layer's cross-attention, with the layer's own projections."""

    def __init__(
        self,
        memory: Memory,
        *,
        query: nn.Module,
        key: nn.Module,
        value: nn.Module,
        output: nn.Module,
        heads: int,
        scale: float,
        results: int,
    ) -> None:
        """results: how many transformers takes: of its own, what was read is the first."""
        super().__init__()
        self.query, self.output, self.heads, self.scale = query, output, heads, scale
        self.memory, self.results = memory, results
        self.key_KHMC, self.value_KHMC = (self._of_heads(project(memory.states_KMD)) for project in (key, value))

    def forward(self, hidden_states: Tensor, **_: object) -> tuple[Tensor | None, ...]:
        """Return the attention (R, 1, D) of one token a row, and None for transformers' other results.

        Called as transformers calls its own: what else it hands over is for the keys that it would make.
        """
        readers = self.memory.readers
        query_KHGC = self._of_heads(readers.pad(self.query(hidden_states[:, 0])))
        read_KHGC = F.scaled_dot_product_attention(
            query_KHGC, self.key_KHMC, self.value_KHMC, attn_mask=self.memory.mask_K11M, scale=self.scale
        )
        read_R1D = self.output(readers.unpad(read_KHGC.transpose(1, 2).flatten(2)))[:, None]
        return (read_R1D, *[None] * (self.results - 1))

    def _of_heads(self, x_KLE: Tensor) -> Tensor:
        """Reshape (K, L, E) to (K, H, L, C)."""
        return x_KLE.view(*x_KLE.shape[:2], self.heads, -1).transpose(1, 2)


def with_children(module: Module, children: Mapping[str, nn.Module]) -> Module:
    """Return `module` with other `children` under these names; everything else is shared with the original."""
    shell = copy.copy(module)
    assert children.keys() <= module._modules.keys()
    shell._modules = {**module._modules, **children}
    return shell
