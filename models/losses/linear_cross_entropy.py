"""Compute head and cross-entropy a slice of tokens at a time: Eqs. 2 and 4 without (T, W) logits in memory.

mT5's 250,112 words cost 1 MB of float32 logits a token, and autograd keeps several copies of them. Here a slice's
gradient is taken while its logits exist, in their place, so the memory is that of one slice and nothing is computed
twice. Between the two products the slice is read and written once: all that is done to a token's logits is done while
they are in the cache.
Shape suffixes as in shards/schema.py; T selected target tokens, S the tokens of a slice, P those of a piece of it.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.losses import widen

SLICE_BYTES = 2**28  # logits of a slice: the more, the more seldom the weight's gradient is read and written
_PIECE_BYTES = 2**20  # float32 logits a processor turns into a gradient at a time: what its cache holds
_WORDS = 2**14  # rows of the weight's gradient that are added to at a time, where that needs room of its own


def linear_cross_entropy(
    hidden_TD: Tensor,
    weight_WD: Tensor,
    bias_W: Tensor,
    target_T: Tensor,
    label_smoothing: float,
    slice_tokens: int | None = None,
    *,
    weight_T: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the sum of the smoothed losses (scalar) and the plain nll of each token (T,), detached; nats, float32.

    The logits z are hidden W_o^T + b_o. The smoothed target is (1 - e) on the word plus e / W on every word (Table 5:
    e = 0.1), so the loss is logsumexp(z) - (1 - e) z_y - e mean(z). Differentiable once, in the sum, with respect to
    hidden states, weight and bias. slice_tokens: None chooses it from the size of the vocabulary.
    weight_T: how often a token's loss counts in the sum; None: once. The nll does not know of it.
    """
    tokens = slice_tokens or max(1, SLICE_BYTES // (len(weight_WD) * weight_WD.element_size()))
    # Inside a Function gradients look wanted even under no_grad, where validation should not pay for them.
    needs_gradient = torch.is_grad_enabled() and any(x.requires_grad for x in (hidden_TD, weight_WD, bias_W))
    total, nll_T = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden_TD, weight_WD, bias_W, target_T, weight_T, label_smoothing, tokens, needs_gradient
    )
    return total, nll_T


class _LinearCrossEntropy(torch.autograd.Function):
    """Compute the gradient in forward, up to the scalar that arrives in backward."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_TD: Tensor,
        weight_WD: Tensor,
        bias_W: Tensor,
        target_T: Tensor,
        weight_T: Tensor | None,
        label_smoothing: float,
        slice_tokens: int,
        needs_gradient: bool,
    ) -> tuple[Tensor, Tensor]:
        total = widen(hidden_TD.new_zeros(()))
        nll_T = total.new_empty(len(target_T))
        grad_bias_W = None
        if needs_gradient:
            grad_hidden_TD = torch.empty_like(hidden_TD)
            # Summed over slices, so then in float32 even where the parameters are not.
            several = len(target_T) > slice_tokens
            grad_weight_WD = torch.zeros_like(weight_WD, dtype=total.dtype) if several else torch.empty_like(weight_WD)
            grad_bias_W = torch.zeros_like(bias_W, dtype=total.dtype)
        for first in range(0, len(target_T), slice_tokens):
            part = slice(first, first + slice_tokens)
            hidden_SD, target_S = hidden_TD[part], target_T[part]
            weight_S = None if weight_T is None else weight_T[part].to(total.dtype)
            logits_SW = F.linear(hidden_SD, weight_WD, bias_W)
            loss_S, nll_T[part] = _losses(logits_SW, target_S, weight_S, label_smoothing, grad_bias_W)
            total += loss_S.sum()
            if needs_gradient:
                torch.mm(logits_SW, weight_WD, out=grad_hidden_TD[part])
                if several:
                    add_product(grad_weight_WD, logits_SW, hidden_SD)
                else:
                    torch.mm(logits_SW.T, hidden_SD, out=grad_weight_WD)
            del logits_SW  # before the next slice takes as much
        if grad_bias_W is not None:
            if not len(target_T):
                grad_weight_WD.zero_()
            # Not by `save_for_backward`: what backward gives away, autograd need not copy.
            ctx.gradients = [grad_hidden_TD, grad_weight_WD.to(weight_WD.dtype), grad_bias_W.to(bias_W.dtype)]
        ctx.mark_non_differentiable(nll_T)
        return total, nll_T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_total: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None
        assert gradients is not None, "a second backward through the same loss"
        return (*(times(grad, grad_total) for grad in gradients), *[None] * 5)


def _losses(
    logits_SW: Tensor,
    target_S: Tensor,
    weight_S: Tensor | None,
    label_smoothing: float,
    grad_bias_W: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Return the weighted smoothed loss and plain nll per token, (S,) both.

    Where grad_bias_W is given, the gradients of the losses with respect to the logits take the logits' place, and
    their sums over tokens are added to it.
    """
    words, pieces = logits_SW.shape[1], []
    tokens = piece_tokens(logits_SW)
    for first in range(0, len(target_S), tokens):
        part = slice(first, first + tokens)
        logits_PW, target_P1 = widen(logits_SW[part]), target_S[part, None]
        highest_P = logits_PW.amax(dim=-1)
        picked_P = logits_PW.gather(-1, target_P1).squeeze(-1)
        mean_P = logits_PW.mean(dim=-1)
        # log_softmax would have to be exponentiated, logsumexp computed beside it: of all probabilities the highest
        # is never small, so it gives the sum of exponentials exactly.
        p_PW = torch.softmax(logits_PW, dim=-1)
        lse_P = highest_P - p_PW.amax(dim=-1).log()
        smoothed_P = lse_P - (1 - label_smoothing) * picked_P - label_smoothing * mean_P
        pieces.append(torch.stack((smoothed_P, lse_P - picked_P)))
        if grad_bias_W is not None:
            # d loss / d z = p - (1 - e) onehot(y) - e / W
            p_PW -= label_smoothing / words
            p_PW.scatter_add_(-1, target_P1, p_PW.new_full(target_P1.shape, label_smoothing - 1))
            if weight_S is not None:
                p_PW *= weight_S[part, None]
            grad_bias_W += p_PW.sum(dim=0)
            logits_SW[part] = p_PW
    loss_S, nll_S = torch.cat(pieces, dim=1)
    return loss_S if weight_S is None else loss_S * weight_S, nll_S


def piece_tokens(logits_SW: Tensor) -> int:
    """Return how many tokens' logits are turned into a gradient at a time."""
    if logits_SW.device.type != "cpu":
        return len(logits_SW)
    each = torch.get_num_threads() * _PIECE_BYTES // (4 * logits_SW.shape[1])
    return max(torch.get_num_threads(), each)


def add_product(grad_WD: Tensor, error_SW: Tensor, hidden_SD: Tensor) -> None:
    """Add error^T hidden to grad, in grad's precision."""
    if error_SW.dtype == grad_WD.dtype:
        grad_WD.addmm_(error_SW.T, hidden_SD)
        return
    for first in range(0, len(grad_WD), _WORDS):
        words = slice(first, first + _WORDS)
        grad_WD[words] += error_SW[:, words].T @ hidden_SD


def times(grad: Tensor, factor: Tensor) -> Tensor:
    """Multiply grad by a factor of wider precision, in grad's precision and, where possible, its memory.

    It is rounded with the product only: in bfloat16 a rounded 1 / count would bias every gradient.
    """
    wide = torch.promote_types(factor.dtype, torch.float32)
    if grad.dtype == wide or grad.device.type == "cpu":  # a CPU's kernels keep a scalar factor as wide as it is
        return grad.mul_(factor)
    product = torch.empty_like(grad)
    for first in range(0, len(grad), _WORDS):
        part = slice(first, first + _WORDS)
        product[part] = grad[part].to(wide) * factor.to(wide)
    return product
