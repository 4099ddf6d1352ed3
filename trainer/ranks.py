"""Read a rank's number from its launcher's or Slurm's environment, before it joins. Imports no torch."""

import os
import re
from collections.abc import MutableMapping
from dataclasses import dataclass

from shards.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranks:
    """This process among the ranks."""

    rank: int
    local_rank: int
    world_size: int

    @property
    def is_first(self) -> bool:
        return self.rank == 0


#: Set by torchrun and by DeepSpeed's launcher: then the ranks are theirs, not those of the Slurm step they run in.
_LAUNCHERS = ("TORCHELASTIC_RUN_ID", "CROSS_SIZE")


def ranks_from_environment() -> Ranks:
    """Return the ranks that `deepspeed`, `torchrun` or `srun` have set in the environment; else a single one.

    Raises `InputError` for variables that are no numbers or contradict Slurm.
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
    """Set the variables of a launcher, where `srun` started this process as one of several tasks.

    Only a step that `srun` started counts: a batch script and a shell of `salloc` have the job's SLURM_NTASKS too, but
    are one process, as is a step of one task, in which a person may start a launcher. Raises `InputError` where the
    environment names another world, such as one that was exported before the job was submitted.
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
        # Before anything is refused: only the first rank of a host reports (`launcher.train.refuse`).
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
    """Return how many tasks of the step run on this node, from SLURM_STEP_TASKS_PER_NODE, like `8(x3),4`."""
    counts: list[int] = []
    for count, nodes in re.findall(r"(\d+)(?:\(x(\d+)\))?", environment.get("SLURM_STEP_TASKS_PER_NODE", "")):
        counts += [int(count)] * int(nodes or 1)
    node = environment.get("SLURM_NODEID", "")
    return counts[int(node)] if node.isdigit() and int(node) < len(counts) else 1
