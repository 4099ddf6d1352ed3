"""An objective in a file of its own, which tests copy out of the repository: it pulls states to a trained vector."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor, nn

from models.arrangement import Arrangement
from models.flops import BackboneSizes, forward_flops
from models.network import Network, by_row, real_rows
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
        self.centre = nn.Parameter(torch.zeros(network.hidden_size))
        self.register_buffer("mean_nll", torch.zeros(()))

    def counts(self, batch: Batch) -> dict[str, float]:
        tokens = float((batch.summary_mask_BN.sum(dim=1) * (batch.weight_B > 0)).sum())
        return {"nll": tokens, "pull": tokens}

    def flops(self, batch: Batch) -> int:
        sizes = BackboneSizes.of(self.network.backbone.model.config)
        return forward_flops(self.arrange(batch).lengths(), self.network.config, sizes).training

    def arrange(self, batch: Batch) -> Arrangement:
        arrangement = Arrangement(batch)
        arrangement.decode("toy", "source", real_rows(batch))
        return arrangement

    def forward(self, batch: Batch, step: int, counts: Mapping[str, float]) -> Outputs:
        network = self.network
        arranged = network.place(self.arrange(batch).arranged())
        stream, hidden_TD = arranged.main, network.states(batch, arranged).hidden_TD
        total, nll_T = network.token_loss(hidden_TD, stream.target_T, 0.1, stream.weight_T)
        pull = (stream.weight_T * (hidden_TD - self.centre).square().mean(dim=1)).sum()
        return Outputs(
            terms={
                "nll": Term(sum=total, count=counts["nll"], weight=1.0),
                "pull": Term(sum=pull, count=counts["pull"], weight=self.config.pull),
            },
            row_nll={"toy": by_row(nll_T, stream, "toy")},
            row_tokens={"toy": by_row(torch.ones_like(nll_T), stream, "toy")},
            scalars={},
            real_tokens=arranged.real_tokens,
            computed_tokens=arranged.computed_tokens,
            watched={"toy_nll": Watched(sum=total.detach(), count=counts["nll"])},
        )

    def after_step(self, step: int, means: Mapping[str, float], kept: Mapping[str, Tensor]) -> None:
        self.mean_nll.lerp_(torch.as_tensor(means["toy_nll"], device=self.mean_nll.device).to(self.mean_nll), 0.5)

    def parameter_groups(self) -> list[Group]:
        return [Group(parameters=list(self.network.parameters())), Group(parameters=[self.centre], factor=0.5)]


OBJECTIVES["toy"] = ToyConfig
