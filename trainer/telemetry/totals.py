"""Add up losses and counts between two logged steps: every rank its own, made global by one reduction.

Shapes: T target languages, S source languages, both the corpus' L; matrices are by [target, source].
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray

from models.objectives.base import Branch, Outputs
from shards.batch.types import Batch
from trainer.distributed import sum_over_ranks
from trainer.interval import Interval, RankFacts

#: How many micro-batches are added up together.
_FOLDED = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class _MicroBatch:
    """Sums of one micro-batch as they came: many small ones are cheaper to add up together."""

    sums: list[torch.Tensor]  # scalars of the terms and watched figures, on the device
    counts: list[float]
    nll_B: dict[str, torch.Tensor]
    tokens_B: dict[str, torch.Tensor]
    target_B: torch.Tensor  # these four on the host
    source_B: torch.Tensor
    cross_B: torch.Tensor
    real_B: torch.Tensor
    loss: torch.Tensor
    real_tokens: int
    computed_tokens: int
    flops: int


class Totals:
    """Running sums of one rank, in a layout that is the same on every rank.

    Micro-batches wait until their step is taken: one that is skipped as non-finite leaves no trace.
    """

    def __init__(
        self,
        terms: Sequence[str],
        branches: Sequence[Branch],
        languages: int,
        device: torch.device,
        *,
        watched: Sequence[str] = (),
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._terms, self._watched = tuple(terms), tuple(watched)
        self._branches, self._languages = tuple(branches), languages
        self._rank, self._world_size = rank, world_size
        n, size = len(self._terms) + len(self._watched), languages * languages
        shapes = {
            "sums": n,
            "counts": n,
            "branch_nats": len(self._branches),
            "branch_tokens": len(self._branches) * languages,
            "direction_nats": size,
            "direction_tokens": size,
            "direction_examples": size,
            "loss": 1,
            "real_tokens": 1,
            "computed_tokens": 1,
            "flops": 1,
            "ranks": world_size * len(fields(RankFacts)),
        }
        self._slices: dict[str, slice] = {}
        begin = 0
        for name, length in shapes.items():
            self._slices[name] = slice(begin, begin + length)
            begin += length
        # On the device, and on the host: nothing is copied from one to the other before the reduction.
        self._sums = torch.zeros(begin, dtype=torch.float64, device=device)
        self._known = torch.zeros(begin, dtype=torch.float64)
        self._pending: list[_MicroBatch] = []
        self._taken: list[_MicroBatch] = []
        self._steps, self._seconds = 0, 0.0

    @property
    def wants_flops(self) -> bool:
        """Return True if the next step's FLOPs should be counted (once per logging interval)."""
        return self._steps == 0

    def add_micro_batch(self, outputs: Outputs, batch: Batch, loss: torch.Tensor, flops: int) -> None:
        """Add a micro-batch's losses and counts; `loss` is its share of J. Nothing here waits for the device.

        `batch` is on the host. flops: 0 unless `wants_flops`.
        """
        figures = [outputs.terms[name] for name in self._terms] + [outputs.watched[name] for name in self._watched]
        self._pending.append(
            _MicroBatch(
                sums=[figure.sum.detach() for figure in figures],
                counts=[float(figure.count) for figure in figures],
                nll_B=outputs.row_nll,
                tokens_B=outputs.row_tokens,
                target_B=batch.target_language_B,
                source_B=batch.source_language_B,
                cross_B=batch.cross_B,
                real_B=batch.weight_B > 0,
                loss=loss.detach(),
                real_tokens=outputs.real_tokens,
                computed_tokens=outputs.computed_tokens,
                flops=flops,
            )
        )

    def skip_step(self) -> None:
        """Forget the micro-batches since the last step."""
        self._pending.clear()

    def add_step(self, *, seconds: float) -> None:
        """Count the micro-batches since the last step as trained on."""
        self._taken += self._pending
        self._pending = []
        if len(self._taken) >= _FOLDED:
            self._fold()
        self._steps += 1
        self._seconds += seconds

    def _fold(self) -> None:
        """Add up the micro-batches of taken steps. Nothing here waits for the device."""
        taken, self._taken = self._taken, []
        if not taken:
            return
        device, size = self._sums.device, self._languages
        sums = torch.stack([value for one in taken for value in one.sums]).view(len(taken), -1)
        self._at("sums", self._sums).add_(sums.double().sum(dim=0))
        self._at("loss", self._sums).add_(torch.stack([one.loss for one in taken]).double().sum())
        target_B, cross_B = (torch.cat([getattr(one, f"{name}_B") for one in taken]) for name in ("target", "cross"))
        direction_B = target_B * size + torch.cat([one.source_B for one in taken])
        real_B = torch.cat([one.real_B for one in taken])
        self._at("direction_examples", self._known).index_add_(0, direction_B, real_B.double())
        known = {"counts": torch.tensor([one.counts for one in taken], dtype=torch.float64).sum(dim=0)}
        for name in ("real_tokens", "computed_tokens", "flops"):
            known[name] = torch.tensor(float(sum(getattr(one, name) for one in taken)), dtype=torch.float64)
        for name, value in known.items():
            self._at(name, self._known).add_(value)
        target_B, direction_B, cross_B = (x.to(device, non_blocking=True) for x in (target_B, direction_B, cross_B))
        for number, branch in enumerate(self._branches):
            own_row_B = cross_B & ("mxls" in branch.kinds) | ~cross_B & ("mms" in branch.kinds)
            nats_B = torch.cat([one.nll_B[branch.name] for one in taken]).double()
            tokens_B = torch.cat([one.tokens_B[branch.name] for one in taken]).double()
            self._at("branch_nats", self._sums)[number] += nats_B.sum()
            self._at("branch_tokens", self._sums).index_add_(0, target_B + number * size, tokens_B)
            for what, values_B in (("nats", nats_B), ("tokens", tokens_B)):
                own_B = torch.where(own_row_B, values_B, 0.0)
                self._at(f"direction_{what}", self._sums).index_add_(0, direction_B, own_B)

    @property
    def steps(self) -> int:
        """Return the steps taken since the last reduction."""
        return self._steps

    def reduce(self, own: RankFacts) -> Interval:
        """Return the sums over all ranks since the last call and start anew. own: this rank's facts.

        All ranks call this, after at least one step was taken.
        """
        self._fold()
        width = len(fields(RankFacts))
        begin = self._rank * width
        self._at("ranks", self._known)[begin : begin + width] = torch.tensor(astuple(own), dtype=torch.float64)
        values = sum_over_ranks(self._sums + self._known.to(self._sums.device)).cpu()
        self._sums.zero_()
        self._known.zero_()
        steps, seconds, self._steps, self._seconds = self._steps, self._seconds, 0, 0.0

        def of(name: str) -> list[float]:
            return list(self._at(name, values).tolist())

        def matrix(name: str) -> NDArray[np.float64]:
            return self._at(name, values).numpy().reshape(self._languages, self._languages).copy()

        nats, tokens = of("branch_nats"), np.reshape(of("branch_tokens"), (len(self._branches), -1))
        ranks = of("ranks")
        figures = list(zip((*self._terms, *self._watched), of("sums"), of("counts"), strict=True))
        means = {name: total / count for name, total, count in figures if count}
        return Interval(
            steps=steps,
            seconds=seconds,
            total_loss=of("loss")[0] / steps,
            loss={name: mean for name, mean in means.items() if name in self._terms},
            watched={name: mean for name, mean in means.items() if name in self._watched},
            nll={one.name: nats[k] / float(tokens[k].sum()) for k, one in enumerate(self._branches) if tokens[k].any()},
            tokens={one.name: tokens[k].tolist() for k, one in enumerate(self._branches)},
            nats_TS=matrix("direction_nats"),
            tokens_TS=matrix("direction_tokens"),
            examples_TS=matrix("direction_examples"),
            real_token_share=_ratio(of("real_tokens")[0], of("computed_tokens")[0]),
            flops=of("flops")[0] * steps,
            ranks=tuple(_facts(ranks[first : first + width]) for first in range(0, len(ranks), width)),
        )

    def _at(self, name: str, vector: torch.Tensor) -> torch.Tensor:
        return vector[self._slices[name]]


def _facts(values: Sequence[float]) -> RankFacts:
    return RankFacts(**{field.name: value for field, value in zip(fields(RankFacts), values, strict=True)})


def _ratio(total: float, count: float) -> float:
    return total / count if count else 0.0
