"""An objective that reads the source's summary, and trains on documents whose words are shuffled by the slot."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Literal

import torch
from torch import Tensor

from models.network import Network
from models.objectives import OBJECTIVES
from models.objectives.base import Outputs
from models.objectives.d2tv import D2TV
from models.objectives.d2tv_config import D2TVConfig
from shards.batch.transforms import ExampleTransform
from shards.batch.types import Batch
from shards.draws import seeded
from shards.schema import Article

#: Rows that the objective remembers: more than a step of the tiny recipe has.
QUEUE = 24


class ShuffleWords(ExampleTransform):
    """Shuffle the words of the source document."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def change(self, source: Article, target: Article, slot: int) -> tuple[Article, Article]:
        words = source.text.split()
        seeded(self.seed, "shuffle", str(slot)).shuffle(words)
        return dataclasses.replace(source, text=" ".join(words)), target


class AugmentedConfig(D2TVConfig):
    """Registered under `augmented` by a test."""

    needs: ClassVar[frozenset[str]] = frozenset({"source_summary"})  # in place of the property, as it is constant
    name: Literal["augmented"] = "augmented"

    def transforms(self, seed: int) -> tuple[ShuffleWords, ...]:
        return (ShuffleWords(seed),)

    def build(self, network: Network, references: Mapping[str, Network] = MappingProxyType({})) -> "Augmented":
        return Augmented(self, network)


class Augmented(D2TV):
    """D2TV that remembers what the last rows held: slot, and sums over source document and source summary."""

    rows: Tensor

    def __init__(self, config: AugmentedConfig, network: Network) -> None:
        super().__init__(config, network)
        self.has_state = True
        self.register_buffer("rows", torch.full((QUEUE, 3), -1))

    def forward(self, batch: Batch, step: int, counts: Mapping[str, float]) -> Outputs:
        outputs = super().forward(batch, step, counts)
        ids_BS, mask_BS, start_B = batch.source_summary_ids_BS, batch.source_summary_mask_BS, batch.source_start_B
        assert ids_BS is not None
        assert mask_BS is not None
        assert start_B is not None
        document_B = _sum(batch.source_ids_BM, batch.source_mask_BM)
        kept = torch.stack((batch.slot_B, document_B, 1000 * _sum(ids_BS, mask_BS) + start_B), dim=1)
        return dataclasses.replace(outputs, keep={"rows": kept})

    def after_step(self, step: int, means: Mapping[str, float], kept: Mapping[str, Tensor]) -> None:
        self.rows.copy_(torch.cat((self.rows, kept["rows"]))[-QUEUE:])


def _sum(ids: Tensor, mask: Tensor) -> Tensor:
    """A number a row that depends on its tokens and their order, and not on its padding."""
    return (ids * mask * torch.arange(1, 1 + ids.shape[1])).sum(dim=1)


def register() -> None:
    OBJECTIVES["augmented"] = AugmentedConfig
