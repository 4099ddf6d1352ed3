"""How summaries are written: beam search, greedy, or sampling that no neighbour in the batch has a say in."""

from collections.abc import Sequence

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper

from models.config import StrictConfig

#: Odd factors that keep the seeds of neighbouring examples and steps apart.
_SEED, _NUMBER, _STEP = 0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35


class Decoding(StrictConfig):
    """Beam 4, length penalty 0.6 and 84 tokens are the paper's Appendix B; one beam is greedy."""

    num_beams: PositiveInt = 4
    length_penalty: float = 0.6
    max_new_tokens: PositiveInt = 84
    temperature: float | None = Field(None, gt=0, description="draw from the distribution at this temperature")
    top_p: float = Field(1.0, gt=0, le=1, description="of the likeliest words that together have this probability")
    seed: int = Field(0, ge=0, description="of what is drawn")

    @model_validator(mode="after")
    def _draws_or_searches(self) -> "Decoding":
        if self.temperature is not None and self.num_beams > 1:
            raise ValueError("temperature draws words, num_beams searches for the likeliest: set num_beams to 1")
        if self.temperature is None and self.top_p < 1:
            raise ValueError("top_p says what is drawn from: set temperature, too")
        return self

    def processors(self, numbers: Sequence[int]) -> LogitsProcessorList:
        """What changes the scores of each row on the way. numbers: what each row's random numbers follow from."""
        if self.temperature is None:
            return LogitsProcessorList()
        steps = [TemperatureLogitsWarper(self.temperature)]
        if self.top_p < 1:
            steps.append(TopPLogitsWarper(self.top_p))
        return LogitsProcessorList([*steps, GumbelNoise(self.seed, numbers)])


class GumbelNoise(LogitsProcessor):  # type: ignore[misc]
    """The largest of logits plus Gumbel noise is a draw from their softmax (Gumbel, 1954).

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
