"""Lay out texts of different lengths as one flat stream of tokens, and in rows for attention.

Linear layers, norms and losses work on the flat stream, so they compute nothing for padding. Attention needs rows of
equal length: its texts are packed, several short ones into a row as long as the longest text, kept apart by a mask
(T5's bias depends on distance only; learned positions are given token by token). A layout is made on the host from
lengths alone, so nothing here waits for the device.

Shape suffixes as in shards/schema.py; T and S flat tokens, P rows of Q queries and K keys, E a width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shards.arrays import Ints

#: Tokens up to which a text is short: its scores cost next to nothing beside its linear layers.
_SHORT = 128


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """Places of flat tokens in `rows` rows of `length` places."""

    rows: int
    length: int
    place_T: Tensor  # int64: row * length + column
    dense: bool  # every place is taken, in order: rows are a view of the stream

    def pad(self, x_TE: Tensor) -> Tensor:
        """Return the rows (P, L, E), zeros where no token sits."""
        if not self.dense:
            x_TE = scatter(x_TE, self.place_T, self.rows * self.length)
        return x_TE.view(self.rows, self.length, -1)

    def unpad(self, x_PLE: Tensor) -> Tensor:
        """Return the flat tokens (T, E) of rows."""
        x_TE = x_PLE.reshape(self.rows * self.length, -1)
        return x_TE if self.dense else take(x_TE, self.place_T)

    def to(self, device: torch.device) -> "Rows":
        return replace(self, place_T=self.place_T.to(device, non_blocking=True))


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Attention layout of packed rows. Padding queries attend to arbitrary keys; their outputs are dropped."""

    queries: Rows
    keys: Rows
    text_PQ: Tensor  # int32: which text's token a query is; -1 for none. One column where it is the same for all
    text_PK: Tensor  # int32: likewise the keys. Queries look at keys of the same number
    causal: bool  # and then at none behind them
    masked: bool  # whether that hides anything
    mask_P1QK: Tensor | None = None  # 0 and, where a query must not look, -inf; made by `to`
    position_T: Tensor | None = None  # int64: a query token's place in its own text
    readers_T: Tensor | None = None  # int64: the flat tokens that `queries` holds; None: all of the stream

    def to(self, device: torch.device, dtype: torch.dtype) -> "Layout":
        """Return the layout on `device`; its mask is made there, ready to be added to scores of `dtype`."""
        text_PQ, text_PK = self.text_PQ.to(device, non_blocking=True), self.text_PK.to(device, non_blocking=True)
        mask = None
        if self.masked:
            hidden_PQK = text_PQ[:, :, None] != text_PK[:, None, :]
            if self.causal:
                hidden_PQK = hidden_PQK | torch.ones_like(hidden_PQK[0]).triu(1)
            hidden_P1QK = hidden_PQK[:, None]
            mask = torch.zeros(hidden_P1QK.shape, dtype=dtype, device=device).masked_fill_(hidden_P1QK, -torch.inf)
        queries = self.queries.to(device)
        return replace(
            self,
            queries=queries,
            keys=queries if self.keys is self.queries else self.keys.to(device),
            text_PQ=text_PQ,
            text_PK=text_PK,
            mask_P1QK=mask,
            position_T=_to(self.position_T, device),
            readers_T=_to(self.readers_T, device),
        )


def self_layout(lengths: Sequence[int], *, causal: bool) -> Layout:
    """Lay out texts that attend to themselves, packed into rows of the longest. lengths: tokens, all positive."""
    sizes = np.asarray(lengths, np.int64)
    row_of, column_of, rows, length = _pack(sizes)
    position_T = _count_up(sizes)
    place_T = np.repeat(row_of * length + column_of, sizes) + position_T
    text_PL = np.full(rows * length, -1, np.int64)
    text_PL[place_T] = np.repeat(np.arange(len(sizes)), sizes)
    places = _rows(rows, length, place_T)
    text = torch.from_numpy(text_PL.reshape(rows, length).astype(np.int32))
    return Layout(
        queries=places,
        keys=places,
        text_PQ=text,
        text_PK=text,
        causal=causal,
        masked=causal or bool((sizes != length).any()),
        position_T=torch.from_numpy(position_T),
    )


def cross_layout(query_lengths: Sequence[int], key_of: Sequence[int], key_lengths: Sequence[int]) -> Layout:
    """Lay out texts that attend to others: query text q to key text `key_of[q]`. A row is a key text with its queries.

    A query text with `key_of` -1 reads nothing: it sits in no row, and attention gives it zeros.
    """
    queries, keys, owner = (np.asarray(x, np.int64) for x in (query_lengths, key_lengths, key_of))
    rows = len(keys)
    filled = np.zeros(rows, np.int64)
    column_of = np.zeros(len(queries), np.int64)
    for text, (row, size) in enumerate(zip(owner.tolist(), queries.tolist(), strict=True)):
        if row >= 0:
            column_of[text] = filled[row]
            filled[row] += size
    width, depth = int(filled.max()), int(keys.max())
    assert width > 0, "nothing attends"
    reads_T = np.repeat(owner >= 0, queries)
    place_T = (np.repeat(owner * width + column_of, queries) + _count_up(queries))[reads_T]
    place_S = np.repeat(np.arange(rows) * depth, keys) + _count_up(keys)
    spare_PK = np.arange(depth) >= keys[:, None]
    return Layout(
        queries=_rows(rows, width, place_T),
        keys=_rows(rows, depth, place_S),
        text_PQ=torch.zeros(rows, 1, dtype=torch.int32),
        text_PK=torch.from_numpy(-spare_PK.astype(np.int32)),
        causal=False,
        masked=bool(spare_PK.any()),
        readers_T=None if reads_T.all() else torch.from_numpy(reads_T.nonzero()[0]),
    )


def averaging(lengths: Sequence[int]) -> Tensor:
    """Return ones (texts, T), float32, where a flat token belongs to a text: times the stream, the texts' sums."""
    sizes = np.asarray(lengths, np.int64)
    text_T = np.repeat(np.arange(len(sizes)), sizes)
    return torch.from_numpy((np.arange(len(sizes))[:, None] == text_T).astype(np.float32))


def averages(pool: Tensor, states_TD: Tensor) -> Tensor:
    """Return means (texts, D) over the tokens that `pool`, made by `averaging`, gives each text."""
    sums = pool.to(states_TD.dtype) @ states_TD
    return sums / pool.sum(dim=1, keepdim=True).to(sums.dtype)


def _pack(sizes: Ints) -> tuple[Ints, Ints, int, int]:
    """Return row and column of each text, the rows and their length: a multiple of 8, as CUDA's kernels want of a bias.

    Where the texts are short longer rows are tried, too, if the shortest ones are not well filled. Scores grow with a
    row's length, so of long texts the shortest rows are the best.
    """
    shortest = -(-int(sizes.max()) // 8) * 8
    best = (*_first_fit(sizes, shortest), shortest)
    for quarters in range(5, 9):
        if shortest > _SHORT or sizes.sum() > 0.95 * best[2] * best[3]:
            break
        length = -(-shortest * quarters // 32) * 8
        tried = (*_first_fit(sizes, length), length)
        best = min(best, tried, key=lambda found: found[2] * found[3])
    return best


def _first_fit(sizes: Ints, length: int) -> tuple[Ints, Ints, int]:
    """Pack by first fit, longest first, into rows of `length`: row and column of each text, rows."""
    row_of, column_of = np.zeros_like(sizes), np.zeros_like(sizes)
    free: list[int] = []
    for text in np.argsort(-sizes, kind="stable").tolist():
        size = int(sizes[text])
        row = next((row for row, space in enumerate(free) if space >= size), len(free))
        if row == len(free):
            free.append(length)
        row_of[text], column_of[text] = row, length - free[row]
        free[row] -= size
    return row_of, column_of, len(free)


def _count_up(sizes: Ints) -> Ints:
    """Return 0 .. size - 1 for every size, one after another."""
    starts = np.cumsum(sizes) - sizes
    counted: Ints = np.arange(int(sizes.sum())) - np.repeat(starts, sizes)
    return counted


def _rows(rows: int, length: int, place_T: Ints) -> Rows:
    dense = len(place_T) == rows * length and bool((place_T == np.arange(rows * length)).all())
    return Rows(rows=rows, length=length, place_T=torch.from_numpy(place_T), dense=dense)


def _to(x: Tensor | None, device: torch.device) -> Tensor | None:
    return None if x is None else x.to(device, non_blocking=True)


class _Scatter(torch.autograd.Function):
    """Scatter rows of a matrix to distinct places, zeros elsewhere.

    Autograd's own backward of the inverse (`index_select`) adds where copying is enough, which is slow on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, x_TE: Tensor, place_T: Tensor, places: int) -> Tensor:
        ctx.save_for_backward(place_T)
        return _scatter(x_TE, place_T, places)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (place_T,) = ctx.saved_tensors
        return grad.index_select(0, place_T), None, None


class _Take(torch.autograd.Function):
    """Take rows of a matrix from distinct places."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, place_T: Tensor) -> Tensor:
        ctx.save_for_backward(place_T)
        ctx.places = len(x)
        return x.index_select(0, place_T)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (place_T,) = ctx.saved_tensors
        return _scatter(grad, place_T, ctx.places), None


def scatter(x_TE: Tensor, place_T: Tensor, places: int) -> Tensor:
    """Return row t of `x` at row place_T[t] of `places` rows, zeros elsewhere. The places are all different."""
    scattered: Tensor = _Scatter.apply(x_TE, place_T, places)  # type: ignore[no-untyped-call]
    return scattered


def take(x: Tensor, place_T: Tensor) -> Tensor:
    """Return rows place_T of `x`. The places are all different."""
    taken: Tensor = _Take.apply(x, place_T)  # type: ignore[no-untyped-call]
    return taken


def _scatter(x_TE: Tensor, place_T: Tensor, places: int) -> Tensor:
    return x_TE.new_zeros(places, x_TE.shape[1]).index_copy_(0, place_T, x_TE)
