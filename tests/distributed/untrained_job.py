"""One rank of a test: a network with a frozen matrix, tied weights and buffers, saved and loaded by another engine."""

import json
import sys
from pathlib import Path
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
from torch import nn

from trainer.checkpoint.directory import INDEX, seal
from trainer.checkpoint.sharded_state import file_name, model_weights, restore, take_snapshot, write_snapshot
from trainer.distributed import join, leave
from trainer.ranks import ranks_from_environment


class Small(nn.Module):
    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.frozen = nn.Linear(5, 7)
        self.frozen.requires_grad_(False)
        self.first = nn.Linear(7, 7)
        self.tied = nn.Linear(7, 7)
        self.tied.weight = self.first.weight
        self.register_buffer("count", torch.tensor(float(seed)))
        self.register_buffer("table", torch.randn(2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.tied(torch.relu(self.first(self.frozen(x)))).square().sum() + self.table.sum() + self.count


def engine_of(seed: int) -> Any:
    module = Small(seed)
    optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], lr=0.1, fused=True)
    config = {"train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": 2, "overlap_comm": False}}
    return deepspeed.initialize(model=module, optimizer=optimizer, config=config)[0]


def step(engine: Any) -> None:
    engine.backward(engine(torch.arange(5.0)))
    engine.step()


def main() -> None:
    out = Path(json.loads(Path(sys.argv[1]).read_text())["out"])
    ranks = ranks_from_environment()
    join(ranks)
    first = engine_of(seed=1)
    for _ in range(3):
        step(first)
    checkpoint = out / "checkpoint"
    if ranks.is_first:
        checkpoint.mkdir()
    dist.barrier()
    snapshot = take_snapshot(first, ranks.rank, None)
    name = file_name(ranks.rank, ranks.world_size)
    write_snapshot(snapshot, checkpoint / name)
    parts: list[Any] = [None] * ranks.world_size
    dist.all_gather_object(parts, (name, snapshot.entry()))
    if ranks.is_first:
        (checkpoint / INDEX).write_text(json.dumps({"facts": snapshot.facts, "files": dict(parts)}))
        seal(checkpoint, {})
    dist.barrier()
    saved = {name: tensor.clone() for name, tensor in first.module.state_dict().items()}
    second = engine_of(seed=2)
    step(second)
    restore(second, checkpoint)
    loaded = {name: tensor.clone() for name, tensor in second.module.state_dict().items()}
    step(first)
    step(second)
    after = [{name: tensor.clone() for name, tensor in e.module.state_dict().items()} for e in (first, second)]
    results = {"saved": saved, "loaded": loaded, "weights": model_weights(checkpoint), "after": after}
    torch.save(results, out / f"rank-{ranks.rank}.pt")
    leave()


if __name__ == "__main__":
    main()
