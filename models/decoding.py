"""Sample words of a row independently of the other rows of its batch (`Decoding` of models/config.py)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper

from models.config import Decoding

#: Odd factors that keep the seeds of neighbouring examples and steps apart.
_SEED, _NUMBER, _STEP = 0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35


def logits_processors(decoding: Decoding, numbers: Sequence[int]) -> LogitsProcessorList:
    """Return the processors of a row's scores before a word is chosen: none, unless words are drawn.

    numbers: one a row; the row's random numbers follow from it, whatever else is in the batch.
    """
    if decoding.temperature is None:
        return LogitsProcessorList()
    steps = [TemperatureLogitsWarper(decoding.temperature)]
    if decoding.top_p < 1:
        steps.append(TopPLogitsWarper(decoding.top_p))
    return LogitsProcessorList([*steps, GumbelNoise(decoding.seed, numbers)])


class GumbelNoise(LogitsProcessor):  # type: ignore[misc]
    """Add Gumbel noise: the largest of noisy logits is a draw from their softmax (Gumbel, 1954).

    So greedy search draws, and what a row draws follows from (seed, its number, the step) alone: in any batch, on any
    number of ranks it is the same, which `multinomial` over a batch is not.
    """

    def __init__(self, seed: int, numbers: Sequence[int]) -> None:
        self._seed, self._numbers = seed, tuple(numbers)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """scores (B, W), input_ids (B, words so far)."""
        noisy = []
        for number, score_W in zip(self._numbers, scores, strict=True):
            mixed = self._seed * _SEED + number * _NUMBER + input_ids.shape[1] * _STEP
            generator = torch.Generator(scores.device).manual_seed(mixed & 0x7FFF_FFFF_FFFF_FFFF)
            uniform_W = torch.rand(score_W.shape, generator=generator, device=scores.device, dtype=torch.float64)
            # Not 0, whose double logarithm is none.
            gumbel_W = -(-uniform_W.clamp_min(torch.finfo(torch.float64).tiny).log()).log()
            noisy.append(score_W + gumbel_W.to(score_W.dtype))
        return torch.stack(noisy)
