"""The few things the trainer asks of torch.distributed, and what a rank knows before it joins."""

import contextlib
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.accelerator import get_accelerator

from shards.errors import InputError
from trainer.extensions import check_code_caches, use_own_ninja, wait_for_builds


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranks:
    """Who this process is among the ranks, as the launcher said in its environment."""

    rank: int
    local_rank: int
    world_size: int

    @property
    def is_first(self) -> bool:
        return self.rank == 0


#: How long rank 0's name may take to resolve, and joining before it is worth a line.
_RESOLVE_SECONDS, _SILENCE_SECONDS = 15.0, 45.0
#: Set by torchrun and by DeepSpeed's launcher: then the ranks are theirs, not those of the Slurm step they run in.
_LAUNCHERS = ("TORCHELASTIC_RUN_ID", "CROSS_SIZE")


def ranks_from_environment() -> Ranks:
    """RANK, LOCAL_RANK and WORLD_SIZE as `deepspeed` and `torchrun` set them, or from what `srun` says of its tasks;
    one rank where nobody says a thing.

    Raises `InputError` where they are no numbers or contradict Slurm.
    """
    take_slurm_task(os.environ)
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
    found = {name: os.environ[name] for name in names if name in os.environ}
    if not found:
        return Ranks(rank=0, local_rank=0, world_size=1)
    if len(found) < len(names) or not all(value.isdigit() for value in found.values()):
        raise InputError(f"{', '.join(names)} must all be numbers or all be unset, got {found}: start with `deepspeed`")
    return Ranks(rank=int(found["RANK"]), local_rank=int(found["LOCAL_RANK"]), world_size=int(found["WORLD_SIZE"]))


def take_slurm_task(environment: MutableMapping[str, str]) -> None:
    """Where `srun` started this process as one of several tasks: set what a launcher would set for a rank.

    Only a step that `srun` started counts. A batch script and a shell of `salloc` know the job's SLURM_NTASKS as well,
    but they are one process, which would wait for the others for ever. So is a step of one task, in which a person may
    start a launcher. Raises `InputError` where the environment names another world, as one that was exported before
    the job was submitted does: every task would believe it.
    """
    tasks = environment.get("SLURM_STEP_NUM_TASKS", "")
    if not tasks.isdigit() or not environment.get("SLURM_STEP_ID", "").isdigit():
        return
    if any(name in environment for name in _LAUNCHERS):
        return
    if tasks == "1" and ("RANK" in environment or "WORLD_SIZE" not in environment):
        return
    neighbours, number = _slurm_tasks_here(environment), environment.get("SLURM_PROCID", "")
    if not {"RANK", "LOCAL_RANK"} <= environment.keys():
        devices = environment.get("CUDA_VISIBLE_DEVICES", "")
        # With --gpus-per-task a task sees its own device only, which is device 0 whatever the task's number.
        alone = neighbours > 1 and devices and "," not in devices
        # Before anything is refused: `launcher.train.refuse` lets the first of a host speak.
        environment["LOCAL_RANK"] = "0" if alone else environment.get("SLURM_LOCALID", "")
    for name, value in {"RANK": number, "WORLD_SIZE": tasks}.items():
        if environment.setdefault(name, value) != value:
            raise InputError(
                f"{name} is {environment[name]}, but Slurm started {tasks} tasks, of which this is number {number}: "
                f"unset {name}, or ask Slurm for what you mean (--nodes, --ntasks-per-node)"
            )
    if not {"MASTER_ADDR", "MASTER_PORT"} <= environment.keys():
        raise InputError(
            "srun sets neither MASTER_ADDR nor MASTER_PORT: start with launcher/slurm/train.sbatch, or export them"
        )
    environment.setdefault("LOCAL_WORLD_SIZE", str(neighbours))


def _slurm_tasks_here(environment: MutableMapping[str, str]) -> int:
    """How many tasks of the step run on this node, from SLURM_STEP_TASKS_PER_NODE, like `8(x3),4`."""
    counts: list[int] = []
    for count, nodes in re.findall(r"(\d+)(?:\(x(\d+)\))?", environment.get("SLURM_STEP_TASKS_PER_NODE", "")):
        counts += [int(count)] * int(nodes or 1)
    node = environment.get("SLURM_NODEID", "")
    return counts[int(node)] if node.isdigit() and int(node) < len(counts) else 1


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
    address, port = os.environ.get("MASTER_ADDR", ""), os.environ.get("MASTER_PORT", "")
    _wait_until_known(address)
    with _said_after(
        _SILENCE_SECONDS,
        f"rank {ranks.rank} of {ranks.world_size} on {socket.gethostname()} still waits for the others, meeting rank 0 "
        f"at {address}:{port}: have all been started, and is that address reached from here?",
    ):
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
    """Return when the name of rank 0's host resolves here; torch would try for half an hour without a word.

    Raises `InputError` where it does not within seconds, which a name server that is away for a moment may take.
    """
    deadline = time.monotonic() + _RESOLVE_SECONDS
    while address:
        try:
            socket.getaddrinfo(address, None)
        except (OSError, UnicodeError) as error:  # the second for what can be no name
            if time.monotonic() > deadline:
                raise InputError(
                    f"MASTER_ADDR={address}, where rank 0 is to be met, is not known on {socket.gethostname()} "
                    f"({error}): set it to an address that every host knows, like rank 0's IP address"
                ) from error
            time.sleep(1)
        else:
            return


@contextlib.contextmanager
def _said_after(seconds: float, text: str) -> Iterator[None]:
    """Print `text` once if the block takes longer than that."""
    timer = threading.Timer(seconds, lambda: print(f"warning: {text}", file=sys.stderr, flush=True))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _unname_shared_buffer() -> None:
    """Remove the name of this rank's buffer in shared memory, 67 MB that DeepSpeed never removes from /dev/shm.

    Behind the barrier all ranks have mapped all of them: without its name the memory goes when the processes do,
    however they end. Raises `InputError` where another user had put a file there, which DeepSpeed has mapped.
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
    """Yield this process alone as a group, with its device; whatever happens inside, nothing of it is left afterwards.

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
