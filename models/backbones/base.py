"""Define the interface of a text backbone. Shape suffixes as in models/ragged.py; D its hidden width."""

import copy
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationMixin

from models.backbones.memory import Memory
from models.dropout import dropout
from models.layers import LayerRunner
from models.ragged import Layout


def add_update(x_TD: Tensor, update_TD: Tensor, p: float, training: bool) -> Tensor:
    """Return x plus its update under dropout p, clamped to finite values in float16.

    mT5 was trained in bfloat16, and its sums pass float16's largest number; transformers clamps both backbones' alike.
    """
    x_TD = x_TD + dropout(update_TD, p, training)
    if x_TD.dtype == torch.float16:
        limit = torch.finfo(torch.float16).max - 1000
        x_TD = x_TD.clamp(-limit, limit)
    return x_TD


class Backbone(nn.Module, ABC):
    """Run encoder, decoder and head over flat streams of tokens (no padding), on transformers' own modules.

    Those hold the parameters, under transformers' names, and serve `generator`; training runs our forward over them.
    """

    hidden_size: int
    vocab_size: int  # W, rows of the head
    model: Any  # transformers' own, without a head
    head: nn.Linear
    output_dropout: float = 0.0  # between the decoder's last norm and the head; mBART has none there

    def __init__(self) -> None:
        super().__init__()
        self.runner = LayerRunner()

    def encode(self, ids_T: Tensor, layout: Layout) -> Tensor:
        """Return H_T^{N_e} (T, D) of the texts that `layout` (`self_layout`, not causal) arranges."""
        return self.encode_embedded(self.embed(ids_T), layout)

    def embed(self, ids_T: Tensor) -> Tensor:
        """Return what the encoder's first layer reads of each token, (T, D), but for positions, norm and dropout."""
        embedded: Tensor = self.model.encoder.embed_tokens(ids_T)
        return embedded

    def encode_embedded(self, x_TD: Tensor, layout: Layout) -> Tensor:
        """Return the encoder's states (T, D) of what `embed` returned, or of other inputs among them."""
        return self._run(self.model.encoder, x_TD, layout, ())

    def decode(
        self, ids_T: Tensor, layout: Layout, memory_SD: Tensor, cross: Layout, decoder: nn.Module | None = None
    ) -> Tensor:
        """Return H_dec^{N_d} (T, D), Eq. 1, of texts in a causal `layout`, each attending to its memory in `cross`.

        Before `output_dropout`, so that what compares states does not measure that dropout. decoder: one that
        `further_decoder` made, instead of the backbone's own.
        """
        stack: Any = decoder or self.model.decoder
        return self._run(stack, stack.embed_tokens(ids_T), layout, (memory_SD, cross))

    @abstractmethod
    def _run(self, stack: Any, x_TD: Tensor, layout: Layout, memory: tuple[()] | tuple[Tensor, Layout]) -> Tensor:
        """Run transformers' encoder, or its decoder with the memory and its layout, after the last norm, (T, D)."""

    def further_decoder(self) -> nn.Module:
        """Return a decoder for another task, which begins with the weights of this one and has its embeddings."""
        decoder: nn.Module = copy.deepcopy(self.model.decoder)
        decoder.embed_tokens = self.model.decoder.embed_tokens
        return decoder

    @abstractmethod
    def generator(self, memory: Memory | None = None) -> GenerationMixin:
        """Return transformers' model for conditional generation around our modules, in eval mode.

        memory: what its decoder reads, whatever encoder states it is given; by default those.
        """

    def stored_head(self, name: str) -> dict[str, Tensor]:
        """Return the head's weight under `name`; empty where it is tied to the embeddings, which a file holds once."""
        tied = self.head.weight is self.model.shared.weight
        return {} if tied else {name: self.head.weight.detach()}

    @abstractmethod
    def stored_tensors(self) -> dict[str, Tensor]:
        """Return all weights under the names by which transformers' model for conditional generation stores them."""
