"""The few things the trainer asks of torch.distributed, and what a rank knows before it joins."""

import os
import socket
from dataclasses import dataclass

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.accelerator import get_accelerator

from shards.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranks:
    """Who this process is among the ranks, as the launcher said in its environment."""

    rank: int
    local_rank: int
    world_size: int

    @property
    def is_first(self) -> bool:
        return self.rank == 0


def ranks_from_environment() -> Ranks:
    """RANK, LOCAL_RANK and WORLD_SIZE as `deepspeed` and `torchrun` set them; one rank where none is set."""
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
    found = {name: os.environ[name] for name in names if name in os.environ}
    if not found:
        return Ranks(rank=0, local_rank=0, world_size=1)
    if len(found) < len(names) or not all(value.isdigit() for value in found.values()):
        raise InputError(f"{', '.join(names)} must all be numbers or all be unset, got {found}: start with `deepspeed`")
    return Ranks(rank=int(found["RANK"]), local_rank=int(found["LOCAL_RANK"]), world_size=int(found["WORLD_SIZE"]))


def join(ranks: Ranks) -> torch.device:
    """Join the process group (NCCL on CUDA, gloo on CPU) and return this rank's device."""
    if "RANK" not in os.environ:  # started with plain python: a group of one
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    if ranks.is_first:
        print(f"joining {ranks.world_size} ranks (at its very first start DeepSpeed compiles an operator)", flush=True)
    accelerator = get_accelerator()
    on_cpu = accelerator.device_name() == "cpu"
    if not on_cpu:
        accelerator.set_device(ranks.local_rank)
    deepspeed.init_distributed(
        dist_backend="gloo" if on_cpu else accelerator.communication_backend_name(), verbose=False
    )
    return torch.device("cpu") if on_cpu else torch.device(accelerator.device_name(ranks.local_rank))


def sum_over_ranks(values: torch.Tensor) -> torch.Tensor:
    """The sum of `values` (any shape, the same on every rank) over all ranks, in place."""
    dist.all_reduce(values)
    return values


class PeerError(Exception):
    """A rank met an input that the run cannot go on with, and has said so."""


def raise_together(problem: InputError | None) -> None:
    """Raise on every rank if any has a problem (all ranks call this): its own where it has one, else `PeerError`.

    A rank that left alone would leave the others in their next collective until it times out.
    """
    failed = sum_over_ranks(torch.tensor(float(problem is not None), device=_device()))
    if problem is not None:
        raise problem
    if failed > 0:
        raise PeerError


def _device() -> torch.device:
    accelerator = get_accelerator()
    return torch.device("cpu" if accelerator.device_name() == "cpu" else accelerator.current_device_name())


def from_first_rank(value: object) -> object:
    """Rank 0's `value`, on every rank."""
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def leave() -> None:
    """Wait for the other ranks, then leave the group: a rank that leaves early would break their last step."""
    dist.barrier()
    dist.destroy_process_group()
