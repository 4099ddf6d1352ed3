"""Compute cross-entropy and the Jensen-Shannon divergence to a frozen model in one pass: ACROSS, Eqs. 2 and 8.

Both want the distribution over all words of every target token. A slice of tokens at a time, the logits of both models
exist once, both losses and the gradient of their weighted sum are taken from them, and they are dropped: three products
with the head of the model that learns and one with that of the frozen one, where two passes would take seven.
Shape suffixes as in models/losses/linear_cross_entropy.py; E the frozen model's width.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.losses import widen
from models.losses.linear_cross_entropy import SLICE_BYTES, add_product, piece_tokens, times


def cross_entropy_and_divergence(
    hidden_TD: Tensor,
    head: tuple[Tensor, Tensor],
    frozen_TE: Tensor,
    frozen_head: tuple[Tensor, Tensor],
    target_T: Tensor,
    label_smoothing: float,
    ratio: float,
    slice_tokens: int | None = None,
    *,
    weight_T: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the sums of the smoothed cross-entropy and of JS(P || Q), and the plain nll a token; nats, float32.

    P is softmax(hidden W^T + b) of `head`, (W, D) and (W,); Q that of `frozen_head`, (W, E) and (W,), without gradient.
    JS(P || Q) = KL(P || M) / 2 + KL(Q || M) / 2 with M = (P + Q) / 2, at most log 2 (Lin, 1991).
    ratio: the divergence's gradient in units of the cross-entropy's, as both enter the loss: one gradient is kept for
    the two. backward raises RuntimeError where they were weighted otherwise.  weight_T: how often a token counts.
    """
    weight_WD, bias_W = head
    # The logits of both models together take what those of one do elsewhere.
    tokens = slice_tokens or max(1, SLICE_BYTES // (2 * len(weight_WD) * weight_WD.element_size()))
    needs_gradient = torch.is_grad_enabled() and any(x.requires_grad for x in (hidden_TD, weight_WD, bias_W))
    cross_entropy, divergence, nll_T = _Both.apply(  # type: ignore[no-untyped-call]
        hidden_TD, weight_WD, bias_W, frozen_TE, *frozen_head, target_T, weight_T, label_smoothing, ratio, tokens,
        needs_gradient,
    )  # fmt: skip
    return cross_entropy, divergence, nll_T


class _Both(torch.autograd.Function):
    """Compute the gradient in forward, up to the scalars that arrive in backward."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_TD: Tensor,
        weight_WD: Tensor,
        bias_W: Tensor,
        frozen_TE: Tensor,
        frozen_weight_WE: Tensor,
        frozen_bias_W: Tensor,
        target_T: Tensor,
        weight_T: Tensor | None,
        label_smoothing: float,
        ratio: float,
        slice_tokens: int,
        needs_gradient: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        wide = widen(hidden_TD.new_zeros(())).dtype
        each_3T = torch.empty(3, len(target_T), dtype=wide, device=hidden_TD.device)
        grad_bias_W = None
        if needs_gradient:
            grad_hidden_TD = torch.empty_like(hidden_TD)
            # Summed over slices, so in float32 even where the parameters are not.
            grad_weight_WD = torch.zeros_like(weight_WD, dtype=wide)
            grad_bias_W = torch.zeros_like(bias_W, dtype=wide)
        for first in range(0, len(target_T), slice_tokens):
            part = slice(first, first + slice_tokens)
            weight_S = None if weight_T is None else weight_T[part].to(wide)
            logits_SW = F.linear(hidden_TD[part], weight_WD, bias_W)
            frozen_SW = F.linear(frozen_TE[part], frozen_weight_WE, frozen_bias_W)
            each_3T[:, part] = _losses(
                logits_SW, frozen_SW, target_T[part], weight_S, label_smoothing, ratio, grad_bias_W
            )
            del frozen_SW
            if needs_gradient:
                torch.mm(logits_SW, weight_WD, out=grad_hidden_TD[part])
                add_product(grad_weight_WD, logits_SW, hidden_TD[part])
            del logits_SW  # before the next slice takes as much
        if grad_bias_W is not None:
            ctx.gradients = [grad_hidden_TD, grad_weight_WD.to(weight_WD.dtype), grad_bias_W.to(bias_W.dtype)]
        ctx.ratio = ratio
        cross_entropy, divergence = each_3T[:2].sum(dim=1)
        nll_T = each_3T[2].clone()
        ctx.mark_non_differentiable(nll_T)
        return cross_entropy, divergence, nll_T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_entropy: Tensor, grad_divergence: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None
        assert gradients is not None, "a second backward through the same loss"
        if not torch.allclose(grad_divergence, ctx.ratio * grad_entropy, rtol=1e-3):
            raise RuntimeError(
                f"the divergence was weighted with {float(grad_divergence)} and the cross-entropy with "
                f"{float(grad_entropy)}, but their ratio was said to be {ctx.ratio}"
            )
        return (*(times(grad, grad_entropy) for grad in gradients), *[None] * 9)


def _losses(
    logits_SW: Tensor,
    frozen_SW: Tensor,
    target_S: Tensor,
    weight_S: Tensor | None,
    label_smoothing: float,
    ratio: float,
    grad_bias_W: Tensor | None,
) -> Tensor:
    """Return weighted smoothed cross-entropy, weighted divergence and plain nll per token, (3, S).

    Where grad_bias_W is given, the gradient of cross-entropy + ratio * divergence with respect to the logits takes the
    logits' place, and its sum over tokens is added to it.
    """
    words, pieces = logits_SW.shape[1], []
    tokens = max(1, piece_tokens(logits_SW) // 2)  # two models' words lie in the cache
    for first in range(0, len(target_S), tokens):
        part = slice(first, first + tokens)
        logits_PW, target_P1 = widen(logits_SW[part]), target_S[part, None]
        mean_P, picked_P = logits_PW.mean(dim=-1), logits_PW.gather(-1, target_P1).squeeze(-1)
        highest_P = logits_PW.amax(dim=-1)
        p_PW = torch.softmax(logits_PW, dim=-1)
        lse_P = highest_P - p_PW.amax(dim=-1).log()
        q_PW = torch.softmax(widen(frozen_SW[part]), dim=-1)
        twice_m_PW = p_PW + q_PW
        # p log(p / m): p log(2 p / (p + q)). Where both underflow neither adds anything.
        twice_m_PW.clamp_(min=torch.finfo(p_PW.dtype).tiny)
        from_p_PW = torch.xlogy(p_PW, p_PW / twice_m_PW).add_(p_PW, alpha=math.log(2))
        q_PW = torch.xlogy(q_PW, q_PW / twice_m_PW).add_(q_PW, alpha=math.log(2))
        kl_P = from_p_PW.sum(dim=-1)
        divergence_P = (kl_P + q_PW.sum(dim=-1)) / 2
        smoothed_P = lse_P - (1 - label_smoothing) * picked_P - label_smoothing * mean_P
        pieces.append(torch.stack((smoothed_P, divergence_P, lse_P - picked_P)))
        if grad_bias_W is not None:
            # d JS / d z = (p log(p / m) - p KL(P || M)) / 2;  d CE / d z = p - (1 - e) onehot(y) - e / W
            p_PW *= 1 - ratio / 2 * kl_P[:, None]
            p_PW.add_(from_p_PW, alpha=ratio / 2)
            p_PW -= label_smoothing / words
            p_PW.scatter_add_(-1, target_P1, p_PW.new_full(target_P1.shape, label_smoothing - 1))
            if weight_S is not None:
                p_PW *= weight_S[part, None]
            grad_bias_W += p_PW.sum(dim=0)
            logits_SW[part] = p_PW
    each_3S = torch.cat(pieces, dim=1)
    if weight_S is not None:
        each_3S[:2] *= weight_S
    return each_3S
