"""An objective for tests that reads a frozen network, `mls`: the NLL of both on cross-lingual examples."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Literal

from models.network import Network
from models.objectives.base import Outputs, Watched
from models.objectives.config import ObjectiveConfig
from models.objectives.d2tv import D2TV
from models.objectives.d2tv_config import D2TVConfig
from shards.batch.types import Batch
from shards.format.index import Corpus
from tests.support.tiny import tiny_overrides
from trainer.recipe import Recipe, load_recipe


class ReferringConfig(ObjectiveConfig):
    """Registered under `referring` by a test."""

    reference_names: ClassVar[tuple[str, ...]] = ("mls",)
    name: Literal["referring"] = "referring"

    def build(self, network: Network, references: Mapping[str, Network] = MappingProxyType({})) -> "Referring":
        return Referring(network, references)


class Referring(D2TV):
    """The NLL of the summaries, and beside it that of the reference, which is read with gradients switched on."""

    def __init__(self, network: Network, references: Mapping[str, Network]) -> None:
        super().__init__(D2TVConfig(branches="mxls", distillation="none", contrast=False), network)
        self.references = references

    def forward(self, batch: Batch, step: int, counts: Mapping[str, float]) -> Outputs:
        outputs = super().forward(batch, step, counts)
        nll_B, tokens_B = self.references["mls"].row_nll(batch)
        watched = {"mls_nll": Watched(sum=nll_B.sum(), count=float(tokens_B.sum()))}
        return dataclasses.replace(outputs, watched=watched)


def referring_recipe(folder: Path, corpus: Corpus, *more: str) -> Recipe:
    """The recipe of a run in `folder`/run that trains the objective. more: overrides, such as references.mls.model=."""
    file = folder / "referring.yaml"
    file.write_text("extends: d2tv\nobjective: {name: referring}\n")
    words = [word for word in tiny_overrides(corpus.directory, folder / "run") if not word.startswith("objective.")]
    return load_recipe(str(file), [*words, *more])
