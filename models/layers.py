"""Run the layers of a stack: as they are, compiled, or with activation checkpointing."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


class LayerRunner:
    """Call layer functions `layer(module, x, ...)`, which take and return flat states.

    activation_checkpointing: only a layer's inputs are kept, and backward computes the layer again, with the same
    dropout. compile: in training through `torch.compile`, for layers of a kind together and for any number of tokens
    (the first few shapes bring some variants more); without gradients layers run as they are.
    """

    def __init__(self, *, activation_checkpointing: bool = False, compile: bool = False) -> None:
        self.activation_checkpointing, self.compile = activation_checkpointing, compile
        self._compiled: dict[Callable[..., Tensor], Callable[..., Tensor]] = {}

    def __call__(self, layer: Callable[..., Tensor], *inputs: Any) -> Tensor:
        if self.compile and torch.is_grad_enabled():
            if layer not in self._compiled:
                self._compiled[layer] = torch.compile(layer, dynamic=True)
            layer = self._compiled[layer]
        if self.activation_checkpointing and torch.is_grad_enabled():
            states: Tensor = checkpoint(layer, *inputs, use_reentrant=False)
            return states
        return layer(*inputs)
