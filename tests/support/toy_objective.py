"""An objective in a file of its own, which tests copy out of the repository: it pulls states to a trained vector."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor, nn

from models.arrangement import arrange
from models.flops import BackboneSizes, step_flops
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
        return step_flops(batch, self.network.config, sizes, branches="mms", contrast=False, share=True).training

    def forward(self, batch: Batch, step: int, counts: Mapping[str, float]) -> Outputs:
        network = self.network
        arranged = network.place(arrange(batch, teacher_rows=None, student_rows=real_rows(batch)))
        hidden_TD = network.decode(network.memory(batch, arranged), arranged)
        total, nll_T = network.token_loss(hidden_TD, arranged.target_T, 0.1, arranged.weight_T)
        pull = (arranged.weight_T * (hidden_TD - self.centre).square().mean(dim=1)).sum()
        return Outputs(
            terms={
                "nll": Term(sum=total, count=counts["nll"], weight=1.0),
                "pull": Term(sum=pull, count=counts["pull"], weight=self.config.pull),
            },
            row_nll={"toy": by_row(nll_T, arranged, arranged.student_B)},
            row_tokens={"toy": by_row(torch.ones_like(nll_T), arranged, arranged.student_B)},
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
