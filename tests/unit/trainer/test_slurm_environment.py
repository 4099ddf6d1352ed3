"""Which processes under Slurm are ranks, and which one each is."""

import pytest

from shards.errors import InputError
from trainer.ranks import Ranks, ranks_from_environment, take_slurm_task

#: What `srun` says to the fourth of six tasks, four on the first node and two on the second, and the script before it.
TASK = {
    "SLURM_JOB_ID": "7",
    "SLURM_NTASKS": "6",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "6",
    "SLURM_STEP_TASKS_PER_NODE": "4,2",
    "SLURM_NODEID": "0",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "3",
    "MASTER_ADDR": "n0",
    "MASTER_PORT": "20007",
}
#: A batch script, with what a job of two tasks on each of two nodes says to it: no step of `srun`.
BATCH = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}
RANK = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "16"}


def mapped(environment: dict[str, str]) -> dict[str, str]:
    """What is set beyond what was there."""
    after = dict(environment)
    take_slurm_task(after)
    return {name: value for name, value in after.items() if environment.get(name) != value}


def test_a_task_of_srun_is_a_rank() -> None:
    assert mapped(TASK) == {"RANK": "3", "LOCAL_RANK": "3", "WORLD_SIZE": "6", "LOCAL_WORLD_SIZE": "4"}
    last = TASK | {"SLURM_PROCID": "5", "SLURM_LOCALID": "1", "SLURM_NODEID": "1"}
    assert mapped(last) == {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "6", "LOCAL_WORLD_SIZE": "2"}


def test_the_process_takes_it_from_its_own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "")  # so that what the function sets is taken back
        monkeypatch.delenv(name)
    for name, value in TASK.items():
        monkeypatch.setenv(name, value)
    assert ranks_from_environment() == Ranks(rank=3, local_rank=3, world_size=6)


@pytest.mark.parametrize(
    ("spelled", "counts"),
    [("2(x3)", [2, 2, 2]), ("8(x2),4", [8, 8, 4]), ("1,2(x2)", [1, 2, 2]), ("16", [16]), ("", [1])],
)
def test_tasks_a_node_as_slurm_spells_them(spelled: str, counts: list[int]) -> None:
    for node, count in enumerate(counts):
        task = TASK | {"SLURM_STEP_TASKS_PER_NODE": spelled, "SLURM_NODEID": str(node)}
        assert mapped(task)["LOCAL_WORLD_SIZE"] == str(count)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        BATCH,
        # A shell of `srun --pty`, where a person starts what he likes.
        TASK | {"SLURM_STEP_NUM_TASKS": "1"},
        TASK | {"SLURM_STEP_NUM_TASKS": "1"} | RANK,
        # Ranks of a launcher that is a task itself.
        TASK | {"SLURM_STEP_NUM_TASKS": "2", "TORCHELASTIC_RUN_ID": "7", "LOCAL_WORLD_SIZE": "8"} | RANK,
        TASK | {"SLURM_STEP_NUM_TASKS": "2", "CROSS_SIZE": "2", "LOCAL_SIZE": "8"} | RANK,
    ],
    ids=["no Slurm", "batch script", "shell", "ranks in a shell", "torchrun", "deepspeed"],
)
def test_others_are_left_alone(environment: dict[str, str]) -> None:
    assert mapped(environment) == {}


def test_ranks_that_a_person_mapped_are_his_as_long_as_they_are_right() -> None:
    own = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "6", "LOCAL_WORLD_SIZE": "2"}
    assert mapped(TASK | own) == {}


@pytest.mark.parametrize(("tasks", "set_before"), [("6", {"WORLD_SIZE": "8"}), ("1", {"WORLD_SIZE": "8"}), ("6", RANK)])
def test_another_world_than_slurms_is_refused(tasks: str, set_before: dict[str, str]) -> None:
    with pytest.raises(InputError, match=rf"but Slurm started {tasks} tasks, .*: unset (WORLD_SIZE|RANK), or ask"):
        take_slurm_task(TASK | {"SLURM_STEP_NUM_TASKS": tasks} | set_before)


def test_one_line_a_host_when_refused() -> None:
    """LOCAL_RANK is known even then: all but the first of a host keep silent."""
    environment = TASK | {"WORLD_SIZE": "8"}
    with pytest.raises(InputError):
        take_slurm_task(environment)
    assert environment["LOCAL_RANK"] == "3"


def test_a_bare_srun_is_told_what_is_missing() -> None:
    environment = dict(TASK)
    del environment["MASTER_PORT"]
    with pytest.raises(InputError, match=r"start with launcher/slurm/train\.sbatch"):
        take_slurm_task(environment)


@pytest.mark.parametrize(("devices", "local_rank"), [("2", "0"), ("0,1,2,3", "3"), ("", "3")])
def test_a_task_that_sees_one_device_takes_it(devices: str, local_rank: str) -> None:
    assert mapped(TASK | {"CUDA_VISIBLE_DEVICES": devices})["LOCAL_RANK"] == local_rank
