"""Compute layer norm, and T5's without mean and bias: x / rms(x) * weight (Zhang and Sennrich, 2019).

Shape suffixes as in models/ragged.py; D the normalized width.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def rms_norm(x_TD: Tensor, weight_D: Tensor, eps: float) -> Tensor:
    """Return x / sqrt(mean(x^2) + eps) * weight, the mean in float32 or wider: (T, D) in the dtype of `x`."""
    if x_TD.device.type != "cpu":
        return F.rms_norm(x_TD, weight_D.shape, weight_D, eps)
    normed: Tensor = _CpuRmsNorm.apply(x_TD, weight_D, eps)  # type: ignore[no-untyped-call]
    return normed


def layer_norm(x_TD: Tensor, norm: nn.LayerNorm) -> Tensor:
    """Return (x - mean) / sqrt(variance + eps) * weight + bias: (T, D) in the dtype of `x`."""
    if x_TD.device.type != "cpu" or x_TD.dtype not in (torch.bfloat16, torch.float16):
        return F.layer_norm(x_TD, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
    normed: Tensor = _CpuLayerNorm.apply(x_TD, norm.weight, norm.bias, norm.eps)  # type: ignore[no-untyped-call]
    return normed


class _CpuLayerNorm(torch.autograd.Function):
    """Compute torch's layer norm, with gradients of weight and bias summed in float32, not in the input's dtype.

    Over 4,096 rows in bfloat16 those are off by 6%.
    """

    @staticmethod
    def forward(ctx: Any, x_TD: Tensor, weight_D: Tensor, bias_D: Tensor, eps: float) -> Tensor:
        out_TD, mean_T1, rstd_T1 = torch.native_layer_norm(x_TD, weight_D.shape, weight_D.float(), bias_D.float(), eps)
        ctx.save_for_backward(x_TD, weight_D, mean_T1, rstd_T1)
        return out_TD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_TD: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x_TD, weight_D, mean_T1, rstd_T1 = ctx.saved_tensors
        grad_x_TD = _grad_input(grad_TD, x_TD, mean_T1, rstd_T1, weight_D.float())
        grad_weight_D = ((x_TD - mean_T1) * rstd_T1).mul_(grad_TD).sum(dim=0)
        grad_bias_D = grad_TD.sum(dim=0, dtype=torch.float32)
        return grad_x_TD, grad_weight_D.to(weight_D.dtype), grad_bias_D.to(weight_D.dtype), None


class _CpuRmsNorm(torch.autograd.Function):
    """Compute RMS norm with layer norm's fused kernels: torch's own on the CPU takes some ten passes over memory.

    Layer norm's backward with a mean of zero lacks but a term that is the same for a whole row.
    """

    @staticmethod
    def forward(ctx: Any, x_TD: Tensor, weight_D: Tensor, eps: float) -> Tensor:
        wide = torch.promote_types(x_TD.dtype, torch.float32)
        norm_T1 = torch.linalg.vector_norm(x_TD, dim=-1, keepdim=True, dtype=wide)
        rstd_T1 = (norm_T1.square_().div_(x_TD.shape[-1]).add_(eps)).rsqrt_()
        ctx.save_for_backward(x_TD, weight_D, rstd_T1)
        # One rounding in reduced precision: the product of both factors, not each in turn.
        return torch.mul(x_TD * rstd_T1, weight_D).to(x_TD.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_TD: Tensor) -> tuple[Tensor, Tensor, None]:
        x_TD, weight_D, rstd_T1 = ctx.saved_tensors
        weight = weight_D.to(rstd_T1.dtype)
        grad_x_TD = _grad_input(grad_TD, x_TD, torch.zeros_like(rstd_T1), rstd_T1, weight)
        if x_TD.dtype == torch.float16:  # whose largest number products and sums of finite factors may pass
            grad_TD = grad_TD.float()
            mean_T1 = (grad_TD @ weight)[:, None] / x_TD.shape[-1]
            grad_weight_D = ((x_TD * rstd_T1) * grad_TD).sum(dim=0)
        else:
            mean_T1 = (grad_TD @ weight_D)[:, None].to(rstd_T1.dtype) / x_TD.shape[-1]
            grad_weight_D = (rstd_T1.to(x_TD.dtype).T @ (grad_TD * x_TD))[0]
        grad_x_TD += (mean_T1 * rstd_T1).to(grad_x_TD.dtype)
        return grad_x_TD, grad_weight_D.to(weight_D.dtype), None


def _grad_input(grad_TD: Tensor, x_TD: Tensor, mean_T1: Tensor, rstd_T1: Tensor, weight_D: Tensor) -> Tensor:
    """Return the gradient of layer norm's input. Its kernel sums that of the weight in the input's dtype."""
    bias_D, wanted = torch.zeros_like(weight_D), (True, False, False)
    grads = torch.ops.aten.native_layer_norm_backward(
        grad_TD.contiguous(), x_TD, weight_D.shape, mean_T1, rstd_T1, weight_D, bias_D, wanted
    )
    grad_x_TD: Tensor = grads[0]
    return grad_x_TD
