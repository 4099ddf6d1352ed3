"""Head and cross-entropy in one, a slice of tokens at a time: Eqs. 2 and 4 without (T, W) logits in memory.

mT5's 250,112 words cost 1 MB of float32 logits a token, and autograd keeps them. Here a slice's gradient is taken
while its logits exist, so the memory is that of one slice and nothing is computed twice.
Shape suffixes as in shards/schema.py; T selected target tokens, S the tokens of a slice.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.losses import widen
from models.losses.cross_entropy import smoothed_cross_entropy

_SLICE_ELEMENTS = 2**27  # logits of a slice: 512 MB in float32


def linear_cross_entropy(
    hidden_TD: Tensor,
    weight_WD: Tensor,
    bias_W: Tensor,
    target_T: Tensor,
    label_smoothing: float,
    slice_tokens: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Sum of the smoothed losses (scalar), and the plain nll of each token (T,), detached; nats, float32.

    Equal to `smoothed_cross_entropy` of the logits hidden W_o^T + b_o. Differentiable once, in the sum, with
    respect to hidden states, weight and bias. slice_tokens: None chooses it from the size of the vocabulary.
    """
    tokens = slice_tokens or max(1, _SLICE_ELEMENTS // len(weight_WD))
    # Inside a Function gradients look wanted even under no_grad, where validation should not pay for them.
    needs_gradient = torch.is_grad_enabled() and any(x.requires_grad for x in (hidden_TD, weight_WD, bias_W))
    total, nll_T = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden_TD, weight_WD, bias_W, target_T, label_smoothing, tokens, needs_gradient
    )
    return total, nll_T


class _LinearCrossEntropy(torch.autograd.Function):
    """The gradient of the sum is known in forward up to the scalar that arrives in backward."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_TD: Tensor,
        weight_WD: Tensor,
        bias_W: Tensor,
        target_T: Tensor,
        label_smoothing: float,
        slice_tokens: int,
        needs_gradient: bool,
    ) -> tuple[Tensor, Tensor]:
        total = widen(hidden_TD.new_zeros(()))
        nll_T = total.new_empty(len(target_T))
        if needs_gradient:
            grad_hidden_TD = torch.empty_like(hidden_TD)
            # Summed over slices, so in float32 even where the parameters are not.
            grad_weight_WD = torch.zeros_like(weight_WD, dtype=total.dtype)
            grad_bias_W = torch.zeros_like(bias_W, dtype=total.dtype)
        for first in range(0, len(target_T), slice_tokens):
            part = slice(first, first + slice_tokens)
            hidden_SD, target_S = hidden_TD[part], target_T[part]
            logits_SW = widen(torch.nn.functional.linear(hidden_SD, weight_WD, bias_W))
            loss_S, nll_T[part] = smoothed_cross_entropy(logits_SW, target_S, label_smoothing)
            total += loss_S.sum()
            if needs_gradient:
                # d loss / d z = p - (1 - e) onehot(y) - e / W
                error_SW = torch.softmax(logits_SW, dim=-1)
                error_SW -= label_smoothing / len(weight_WD)
                error_SW[torch.arange(len(target_S), device=target_S.device), target_S] -= 1 - label_smoothing
                grad_bias_W += error_SW.sum(dim=0)
                error_SW = error_SW.to(hidden_TD.dtype)
                grad_hidden_TD[part] = error_SW @ weight_WD
                grad_weight_WD += error_SW.T @ hidden_SD
        if needs_gradient:
            ctx.save_for_backward(grad_hidden_TD, grad_weight_WD.to(weight_WD.dtype), grad_bias_W.to(bias_W.dtype))
        ctx.mark_non_differentiable(nll_T)
        return total, nll_T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_total: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        # The factor is rounded with the product only: in bfloat16 a rounded 1 / count would bias every gradient.
        wide = torch.promote_types(grad_total.dtype, torch.float32)
        grads = ((grad.to(wide) * grad_total.to(wide)).to(grad.dtype) for grad in ctx.saved_tensors)
        return (*grads, None, None, None, None)
