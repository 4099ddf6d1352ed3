"""An objective in a file of its own, which tests copy out of the repository: it pulls states to a trained vector.

It trains a second network beside the first, `plain`, which reads text alone.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor, nn

from models.arranged import Arranged
from models.arrangement import Arrangement
from models.config import VisionConfig
from models.network import Network, real_rows
from models.objectives import OBJECTIVES
from models.objectives.base import Branch, Group, Objective, Outputs, Term, Watched
from models.objectives.config import ObjectiveConfig
from shards.batch.types import Batch


class ToyConfig(ObjectiveConfig):
    name: Literal["toy"] = "toy"
    pull: float = 0.1

    def build(self, network: Network, references: Mapping[str, Network] = MappingProxyType({})) -> "Toy":
        return Toy(self, network)


class Toy(Objective):
    branches = (Branch(name="toy", kinds=frozenset({"mms", "mxls"})),)
    has_state = True
    mean_nll: Tensor

    def __init__(self, config: ToyConfig, network: Network) -> None:
        super().__init__()
        self.config, self.network = config, network
        text = network.config.model_copy(update={"vision": VisionConfig(enabled=False)})
        self.plain = Network(text, network.vocab_size, network.pad_id, network.eos_id, marks_texts=network.marks_texts)
        self.centre = nn.Parameter(torch.zeros(network.hidden_size))
        self.register_buffer("mean_nll", torch.zeros(()))

    def counts(self, batch: Batch) -> dict[str, float]:
        return dict.fromkeys(("nll", "pull", "plain"), float(batch.summary_mask_BN[real_rows(batch)].sum()))

    def flops(self, batch: Batch) -> int:
        return sum(network.flops(self.arrange(batch)).training for network in (self.network, self.plain))

    def arrange(self, batch: Batch) -> Arrangement:
        return self.network.writing(batch, "toy", "source", real_rows(batch))

    def products(self) -> dict[str, Network]:
        return {"seeing": self.network, "plain": self.plain}

    def forward(self, batch: Batch, step: int, counts: Mapping[str, float]) -> Outputs:
        arranged = self.network.place(self.arrange(batch).arranged())
        stream = arranged.main
        hidden_TD, total, nll_T = _written(self.network, batch, arranged)
        _, plain, _ = _written(self.plain, batch, arranged)
        pull = (stream.weight_T * (hidden_TD - self.centre).square().mean(dim=1)).sum()
        sums = {"nll": (total, 1.0), "pull": (pull, self.config.pull), "plain": (plain, 1.0)}
        terms = {name: Term(sum=of, count=counts[name], weight=weight) for name, (of, weight) in sums.items()}
        watched = {"toy_nll": Watched(sum=total.detach(), count=counts["nll"])}
        return Outputs.of(arranged, terms, nll_T=nll_T, branches=self.branches, watched=watched)

    def after_step(self, step: int, means: Mapping[str, float], kept: Mapping[str, Tensor]) -> None:
        self.mean_nll.lerp_(torch.as_tensor(means["toy_nll"], device=self.mean_nll.device).to(self.mean_nll), 0.5)

    def parameter_groups(self) -> list[Group]:
        networks = [*self.network.parameters(), *self.plain.parameters()]
        return [Group(parameters=networks), Group(parameters=[self.centre], factor=0.5)]


def _written(network: Network, batch: Batch, arranged: Arranged) -> tuple[Tensor, Tensor, Tensor]:
    """Decoder states (T, D), the loss's sum and the NLL of each token (T,)."""
    hidden_TD, stream = network.states(batch, arranged).hidden_TD, arranged.main
    return hidden_TD, *network.token_loss(hidden_TD, stream.target_T, 0.1, stream.weight_T)


OBJECTIVES["toy"] = ToyConfig
