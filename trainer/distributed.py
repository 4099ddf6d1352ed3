"""The few things the trainer asks of torch.distributed."""

import contextlib
import os
import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.accelerator import get_accelerator

from shards.errors import InputError
from trainer.extensions import use_own_ninja, wait_for_builds
from trainer.ranks import Ranks


def join(ranks: Ranks, *, patient: bool = False) -> torch.device:
    """Join the process group (NCCL on CUDA, gloo on CPU) and return this rank's device.

    patient: a collective may take as long as it takes, because a watchdog ends what hangs. Else DeepSpeed's 10 minutes.
    """
    if "RANK" not in os.environ:  # started with plain python: a group of one
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    if ranks.is_first:
        print(f"joining {ranks.world_size} ranks (at its very first start DeepSpeed compiles an operator)", flush=True)
    use_own_ninja()
    wait_for_builds()
    accelerator = get_accelerator()
    on_cpu = accelerator.device_name() == "cpu"
    if not on_cpu:
        accelerator.set_device(ranks.local_rank)
    deepspeed.init_distributed(
        dist_backend="gloo" if on_cpu else accelerator.communication_backend_name(),
        verbose=False,
        **({"timeout": timedelta(days=1)} if patient else {}),
    )
    if on_cpu:
        _unname_shared_buffer()
        return torch.device("cpu")
    return torch.device(accelerator.device_name(ranks.local_rank))


def _unname_shared_buffer() -> None:
    """DeepSpeed's all-reduce in shared memory has a file of 67 MB a rank in /dev/shm, which it never removes.

    Behind the barrier all ranks have mapped all of them: without its name the memory goes when the processes do,
    however they end.
    """
    dist.barrier()
    address, port = os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]
    Path(f"/dev/shm/deepspeed_allreduce_buffer_{os.getuid()}_{address}_{port}_{dist.get_rank()}").unlink(
        missing_ok=True
    )


@contextlib.contextmanager
def group_of_one() -> Iterator[tuple[Ranks, torch.device]]:
    """This process alone as a group, with its device; whatever happens inside, nothing of it is left afterwards."""
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    before = {name: os.environ[name] for name in names if name in os.environ}
    alone = Ranks(rank=0, local_rank=0, world_size=1)
    try:
        yield alone, join(alone)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
        for name in names:
            os.environ.pop(name, None)
        os.environ.update(before)


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


def from_first_rank(value: object, group: dist.ProcessGroup | None = None) -> object:
    """Rank 0's `value`, on every rank of `group` (None: of the run)."""
    box = [value]
    dist.broadcast_object_list(box, src=0, group=group)
    return box[0]


def leave() -> None:
    """Wait for the other ranks, then leave the group: a rank that leaves early would break their last step."""
    dist.barrier()
    dist.destroy_process_group()
