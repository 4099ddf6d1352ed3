"""Short texts beside long ones in one encoder call, without paying for the difference in length.

T5's position bias depends on distance only, so several summaries share a row of document length when a
block-diagonal mask keeps them apart: an 84-token summary costs a sixth of a 512-token row, not a whole one.
Shape suffixes as in shards/schema.py; P packed rows of length L.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Tokens(NamedTuple):
    """Padded token ids and where they are real."""

    ids_BM: Tensor  # int64
    mask_BM: Tensor  # bool


def pad_to(tokens: Tokens, length: int, pad_id: int) -> Tokens:
    """The same rows, padded on the right to `length`."""
    extra = length - tokens.ids_BM.shape[1]
    assert extra >= 0, f"{tokens.ids_BM.shape[1]} tokens do not fit {length}"
    return Tokens(F.pad(tokens.ids_BM, (0, extra), value=pad_id), F.pad(tokens.mask_BM, (0, extra), value=False))


def pack(short: Tokens, length: int, pad_id: int) -> Tokens:
    """`length // N` texts a row, each in its own slice of N positions: ids and mask (P, L)."""
    rows, width = short.ids_BM.shape
    texts_a_row = length // width
    spare = -rows % texts_a_row
    ids = F.pad(short.ids_BM, (0, 0, 0, spare), value=pad_id).reshape(-1, texts_a_row * width)
    mask = F.pad(short.mask_BM, (0, 0, 0, spare), value=False).reshape(-1, texts_a_row * width)
    return pad_to(Tokens(ids, mask), length, pad_id)


def pack_mask(mask_PL: Tensor, width: int) -> Tensor:
    """Allowed pairs (P, 1, L, L) bool: real keys of the same text, and every position itself (no empty softmax)."""
    length = mask_PL.shape[1]
    position_L = torch.arange(length, device=mask_PL.device)
    text_L = position_L // width
    same_LL = text_L[:, None] == text_L
    self_LL = position_L[:, None] == position_L
    return ((same_LL & mask_PL[:, None, :]) | self_LL)[:, None]


def unpack(states_PLD: Tensor, rows: int, width: int) -> Tensor:
    """The states of the packed texts (B, N, D)."""
    texts_a_row = states_PLD.shape[1] // width
    used_PND = states_PLD[:, : texts_a_row * width]
    return used_PND.reshape(-1, width, states_PLD.shape[2])[:rows]
