"""Compute scaled dot-product attention on flat streams, with a trained bias, dropout and packed rows.

On CUDA this is torch's `scaled_dot_product_attention`, whose fused kernels take a bias that needs a gradient. The CPU's
fused kernel takes neither that nor dropout, and torch's own fallback writes every score of every row to memory several
times; `_CpuAttention` does the same sums on pieces that stay in the cache.

Shape suffixes as in models/ragged.py; H heads of width A.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.compilation import never_compiled
from models.dropout import Masks
from models.ragged import Layout, scatter, take

#: Bytes of the scores of a piece: a second-level cache and some of the third.
_PIECE = 2**21


@never_compiled
def attend(
    query_TE: Tensor,
    key_SE: Tensor,
    value_SE: Tensor,
    layout: Layout,
    *,
    heads: int,
    scale: float,
    bias: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Return softmax(scale * Q K^T + bias) V by head, heads side by side in E: (T, E); zeros for queries without keys.

    bias: of `score_bias`. dropout: of the probabilities; 0 outside training.

    Never compiled: with rows and their length as symbols, a graph of one row was used for three (torch 2.13), whose
    tokens then saw those of other texts. On the CPU a graph would also hold the masks drawn while it was traced.
    """
    tokens = len(query_TE)
    if layout.readers_T is not None:
        query_TE = take(query_TE, layout.readers_T)
    query, key, value = (
        rows.pad(x).view(rows.rows, rows.length, heads, -1).transpose(1, 2)
        for rows, x in ((layout.queries, query_TE), (layout.keys, key_SE), (layout.keys, value_SE))
    )
    mask = layout.mask_P1QK
    assert (mask is not None) == layout.masked, "call Layout.to first"
    complete = bias is not None and bias.ndim == 4
    if query.device.type == "cpu" and not complete and (dropout or (bias is not None and bias.requires_grad)):
        out: Tensor = _CpuAttention.apply(query, key, value, mask, bias, scale, dropout)  # type: ignore[no-untyped-call]
    else:
        if bias is not None:
            mask = bias if complete else _with_mask(bias, mask)
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout, scale=scale)
    out_TE = layout.queries.unpad(out.transpose(1, 2).flatten(2))
    return out_TE if layout.readers_T is None else scatter(out_TE, layout.readers_T, tokens)


def score_bias(bias_HQK: Tensor, layout: Layout) -> Tensor:
    """Return the bias added to the scores of `layout`'s rows, made once for all layers of a stack.

    On the CPU the bias as it is. Elsewhere (P, H, Q, K) with the mask in it: torch's kernels keep what is added for
    their backward, and kept once it is a layer's share of the memory that it would be anew in each.
    """
    return bias_HQK if bias_HQK.device.type == "cpu" else _with_mask(bias_HQK, layout.mask_P1QK)


def _with_mask(bias_HQK: Tensor, mask_P1QK: Tensor | None) -> Tensor:
    return bias_HQK[None] if mask_P1QK is None else bias_HQK + mask_P1QK


def _pieces(rows: int, heads: int, scores: int) -> list[tuple[slice, slice]]:
    """Yield slices of rows and heads of about `_PIECE` bytes of scores: several rows, or some heads of one.

    scores: bytes of a row's scores in one head.
    """
    if scores * heads <= _PIECE:
        step = _PIECE // (scores * heads)
        return [(slice(row, row + step), slice(0, heads)) for row in range(0, rows, step)]
    step = max(1, _PIECE // scores)
    return [(slice(row, row + 1), slice(head, head + step)) for row in range(rows) for head in range(0, heads, step)]


class _CpuAttention(torch.autograd.Function):
    """Compute scores, use and drop them a piece at a time; probabilities are kept for backward.

    In half precision scores are rounded as transformers' eager attention rounds them; the softmax is in float32.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask_P1QK: Tensor | None,
        bias_HQK: Tensor | None,
        scale: float,
        dropout: float,
    ) -> Tensor:
        rows, heads, queries, _ = query.shape
        # A piece is a contiguous slice of a batched product.
        query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
        out = torch.empty(rows, queries, heads, value.shape[-1], dtype=value.dtype).transpose(1, 2)
        masks = Masks(dropout) if dropout else None
        kept: list[Tensor] = []
        for r, h in _pieces(rows, heads, queries * key.shape[2] * key.itemsize):
            scores = query[r, h] @ key[r, h].transpose(-1, -2)
            if scale != 1.0:
                scores *= scale
            if bias_HQK is not None:
                scores += bias_HQK[h]
            if mask_P1QK is not None:
                scores += mask_P1QK[r]
            probability = torch.softmax(scores, dim=-1)
            kept.append(probability)
            if masks is not None:
                keep = masks.draw(probability.shape, probability.dtype)
                kept.append(keep)
                probability = probability * keep
            out[r, h] = probability @ value[r, h]
        ctx.save_for_backward(query, key, value, *kept)
        ctx.bias = None if bias_HQK is None else (bias_HQK.shape, bias_HQK.dtype)
        ctx.scale, ctx.dropped = scale, masks is not None
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, *kept = ctx.saved_tensors
        rows, heads, queries, _ = query.shape
        grad_query, grad_key, grad_value = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
        grad_bias = None
        if ctx.bias is not None:
            # Summed over rows, so in float32 even where the scores are not.
            shape, dtype = ctx.bias
            grad_bias = torch.zeros(shape, dtype=torch.promote_types(dtype, torch.float32))
        kept = iter(kept)
        for r, h in _pieces(rows, heads, queries * key.shape[2] * key.itemsize):
            probability, out = next(kept), grad[r, h].contiguous()
            keep = next(kept) if ctx.dropped else None
            seen = probability if keep is None else probability * keep
            torch.matmul(seen.transpose(-1, -2), out, out=grad_value[r, h])
            error = out @ value[r, h].transpose(-1, -2)
            if keep is not None:
                error *= keep
            error = torch.ops.aten._softmax_backward_data(error, probability, -1, error.dtype)
            if grad_bias is not None:
                grad_bias[h] += error.sum(dim=0, dtype=grad_bias.dtype) if len(error) > 1 else error[0]
            if ctx.scale != 1.0:
                error *= ctx.scale
            torch.matmul(error, key[r, h], out=grad_query[r, h])
            torch.matmul(error.transpose(-1, -2), query[r, h], out=grad_key[r, h])
        if grad_bias is not None:
            grad_bias = grad_bias.to(ctx.bias[1])
        return grad_query, grad_key, grad_value, None, grad_bias, None, None
