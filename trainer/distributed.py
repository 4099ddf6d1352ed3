"""Join and leave the process group, and the few collectives that the trainer needs."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.accelerator import get_accelerator

from shards.errors import InputError
from trainer.extensions import check_code_caches, use_own_ninja, wait_for_builds
from trainer.ranks import Ranks
from trainer.terminal.log import log

#: Time for rank 0's name to resolve: a name server may be away for a moment.
_RESOLVE_SECONDS = 15.0
#: Joining takes longer than this only where ranks are missing, which is worth a line.
_SILENCE_SECONDS = 45.0


def join(ranks: Ranks, *, patient: bool = False) -> torch.device:
    """Join the process group (NCCL on CUDA, gloo on CPU) and return this rank's device.

    patient: collectives never time out, because a watchdog ends what hangs. Else they have DeepSpeed's 10 minutes.
    """
    if "RANK" not in os.environ:  # started with plain python: a group of one
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    log.info(f"joining {ranks.world_size} ranks (at its very first start DeepSpeed compiles an operator)")
    use_own_ninja()
    wait_for_builds()
    accelerator = get_accelerator()
    on_cpu = accelerator.device_name() == "cpu"
    if not on_cpu:
        accelerator.set_device(ranks.local_rank)
    address, port = os.environ.get("MASTER_ADDR", ""), os.environ.get("MASTER_PORT", "")
    _wait_until_known(address)
    waits = (
        f"rank {ranks.rank} of {ranks.world_size} on {socket.gethostname()} still waits for the others, meeting rank 0 "
        f"at {address}:{port}: have all been started, and is that address reached from here?"
    )
    with _warn_after(_SILENCE_SECONDS, waits) if ranks.world_size > 1 else contextlib.nullcontext():
        deepspeed.init_distributed(
            dist_backend="gloo" if on_cpu else accelerator.communication_backend_name(),
            verbose=False,
            **({"timeout": timedelta(days=1)} if patient else {}),
        )
    if on_cpu:
        _unname_shared_buffer()
        return torch.device("cpu")
    return torch.device(accelerator.device_name(ranks.local_rank))


def _wait_until_known(address: str) -> None:
    """Wait until the name of rank 0's host resolves here; torch would try for half an hour without a word.

    Raises `InputError` where it does not within seconds.
    """
    deadline = time.monotonic() + _RESOLVE_SECONDS
    while address:
        try:
            socket.getaddrinfo(address, None)
        except (OSError, UnicodeError) as error:  # the second for an impossible name
            if time.monotonic() > deadline:
                raise InputError(
                    f"MASTER_ADDR={address}, where rank 0 is to be met, is not known on {socket.gethostname()} "
                    f"({error}): set it to an address that every host knows, like rank 0's IP address"
                ) from error
            time.sleep(1)
        else:
            return


@contextlib.contextmanager
def _warn_after(seconds: float, text: str) -> Iterator[None]:
    """Warn once if the block takes longer than that."""
    timer = threading.Timer(seconds, log.warning, [text])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _unname_shared_buffer() -> None:
    """Remove the name of this rank's buffer in shared memory, 67 MB that DeepSpeed never removes from /dev/shm.

    After the barrier all ranks have mapped all of them: without a name the memory is freed with the processes, however
    they end. Raises `InputError` for a file of another user, which DeepSpeed has mapped.
    """
    dist.barrier()
    address, port = os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]
    buffer = Path(f"/dev/shm/deepspeed_allreduce_buffer_{os.getuid()}_{address}_{port}_{dist.get_rank()}")
    with contextlib.suppress(FileNotFoundError):
        if os.lstat(buffer).st_uid != os.geteuid():
            raise InputError(f"{buffer} belongs to another user, who may read the gradients: start again")
        buffer.unlink()


@contextlib.contextmanager
def group_of_one() -> Iterator[tuple[Ranks, torch.device]]:
    """Yield this process alone as a group, with its device. Leaves neither group nor environment behind.

    Raises `InputError` as `check_code_caches` does.
    """
    check_code_caches()
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
    """Return `values` (any shape, the same on every rank), summed over all ranks in place."""
    dist.all_reduce(values)
    return values


class PeerError(Exception):
    """An input error that is printed already: by another rank, or by this one before it leaves with the others."""


def raise_together(problem: InputError | None) -> None:
    """Raise on every rank if any has a problem (all ranks call this): its own where it has one, else `PeerError`.

    A rank that raised alone would leave the others in their next collective until it times out.
    """
    failed = sum_over_ranks(torch.tensor(float(problem is not None), device=_device()))
    if problem is not None:
        raise problem
    if failed > 0:
        raise PeerError


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Raise on every rank if the block raises `InputError` on any (all ranks call this), as `raise_together` does."""
    problem: InputError | None = None
    try:
        yield
    except InputError as error:
        problem = error
    raise_together(problem)


def _device() -> torch.device:
    accelerator = get_accelerator()
    return torch.device("cpu" if accelerator.device_name() == "cpu" else accelerator.current_device_name())


def from_first_rank(value: object, group: dist.ProcessGroup | None = None) -> object:
    """Return rank 0's `value` on every rank of `group` (None: of the run)."""
    box = [value]
    dist.broadcast_object_list(box, src=0, group=group)
    return box[0]


def from_all_ranks(value: object) -> list[object]:
    """Return every rank's `value`, in rank order (all ranks call this)."""
    box: list[object] = [None] * dist.get_world_size()
    dist.all_gather_object(box, value)
    return box


def leave() -> None:
    """Wait for the other ranks, then leave the group: a rank that leaves early would break their last step."""
    dist.barrier()
    dist.destroy_process_group()
