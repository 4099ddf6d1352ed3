"""An objective with state of its own: D2TV with a queue and a running mean, which its first term's weight follows."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor

from models.network import Network
from models.objectives import OBJECTIVES
from models.objectives.base import Outputs, Watched
from models.objectives.d2tv import D2TV
from models.objectives.d2tv_config import D2TVConfig
from shards.batch.types import Batch

#: Fewer rows than a step of the tiny recipe has would hide the order between steps.
QUEUE = 24


class Queue(D2TV):
    """Keep the slots and NLLs of the last rows, and the running mean of the teacher's NLL a token."""

    def __init__(self, config: D2TVConfig, network: Network) -> None:
        super().__init__(config, network)
        self.has_state = True
        self.register_buffer("slots", torch.full((QUEUE,), -1))
        self.register_buffer("nll", torch.zeros(QUEUE, len(self.branches)))
        self.register_buffer("mean", torch.tensor(0.0))
        self.register_buffer("updates", torch.tensor(0))

    def forward(self, batch: Batch, step: int, counts: Mapping[str, float]) -> Outputs:
        outputs = super().forward(batch, step, counts)
        weight = float(1 + 0.1 * self.mean + 0.01 * self.nll.mean())
        mms = dataclasses.replace(outputs.terms["mms"], weight=weight)
        nats_B = outputs.row_nll["mms"]
        return dataclasses.replace(
            outputs,
            terms=outputs.terms | {"mms": mms},
            watched={"teacher_nll": Watched(sum=nats_B.sum(), count=counts["mms"])},
            keep={"slots": batch.slot_B, "nll": torch.stack(list(outputs.row_nll.values()), dim=1)},
        )

    def after_step(self, step: int, means: Mapping[str, float], kept: Mapping[str, Tensor]) -> None:
        for name in ("slots", "nll"):
            queue = getattr(self, name)
            queue.copy_(torch.cat((queue, kept[name]))[-QUEUE:])
        self.mean.lerp_(torch.tensor(means["teacher_nll"]), 0.5)
        self.updates.fill_(step)


class QueueConfig(D2TVConfig):
    """Configure the objective `queue` as D2TV."""

    name: Literal["queue"] = "queue"

    def build(self, network: Network, references: Mapping[str, Network] = MappingProxyType({})) -> Queue:
        return Queue(self, network)


def register() -> None:
    OBJECTIVES["queue"] = QueueConfig
