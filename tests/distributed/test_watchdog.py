"""Ranks that hang or die in every way we know, as processes over gloo: all end, soon, and say where they were."""

import json
import os
import re
import signal
import socket
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from tests.distributed.watchdog_job import monitors
from tests.support.forkserver import Program
from tests.support.harness import free_port
from tests.support.waiting import HANGING, until
from trainer.liveness.exit_codes import HUNG, PEER_DIED
from trainer.liveness.watchdog import Watchdog, _accept, _call, _listen
from trainer.ranks import Ranks
from trainer.recipe.sections import WatchdogSection

#: Signals less than 3 s apart are one request to stop (trainer/liveness/stop.py); waiting longer does no harm.
SAME_REQUEST = 3.5
LIMITS = {"start": 600, "step": 3, "checkpoint": 60, "evaluation": 60}


class Job:
    """Ranks of watchdog_job.py, each with its action. Leaving the context kills what is left of them."""

    def __init__(
        self,
        directory: Path,
        actions: Sequence[str],
        *,
        address: str = "127.0.0.1",
        few_descriptors: bool = False,
        **limits: int,
    ) -> None:
        self.run = directory / "run"
        self.run.mkdir(parents=True)
        spec = {
            "run": str(self.run),
            "actions": list(actions),
            "limits": LIMITS | limits,
            "few_descriptors": few_descriptors,
        }
        (directory / "spec.json").write_text(json.dumps(spec))
        environment = {"MASTER_ADDR": address, "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(len(actions))}
        self._logs = [directory / f"rank-{rank}.log" for rank in range(len(actions))]
        self.ranks = [
            Program(
                "tests.distributed.watchdog_job",
                [str(directory / "spec.json")],
                output=log,
                environment=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            )
            for rank, log in enumerate(self._logs)
        ]

    def __enter__(self) -> "Job":
        return self

    def __exit__(self, *_: object) -> None:
        for rank in self.ranks:
            rank.kill()
            rank.wait()
        for monitor in monitors(self.run).values():
            monitor.kill()

    def output(self, rank: int) -> str:
        return self._logs[rank].read_text()

    @property
    def errors(self) -> list[str]:
        """Return the lines of the monitors. On a busy machine a rank may have said before that it waits for others."""
        texts = [self.output(rank) for rank in range(len(self.ranks))]
        lines = [line for text in texts for line in text.splitlines() if line.startswith(("error: ", "warning: rank"))]
        return [line for line in lines if "still waits for the others" not in line]

    def ready(self) -> None:
        """Wait until every rank is at its action."""
        until(lambda: len(list(self.run.glob("ready-*"))) == len(self.ranks), lambda: self.errors)

    def codes(self) -> list[int]:
        """Return every rank's exit code once their monitors have ended with them."""
        codes = [rank.wait(HANGING) for rank in self.ranks]
        until(lambda: not monitors(self.run), lambda: monitors(self.run))
        return codes

    def stacks(self) -> dict[str, str]:
        """Return the stacks of the ranks, by file name."""
        return {file.name: file.read_text() for file in sorted((self.run / "stacks").iterdir())}


@pytest.mark.parametrize(
    ("actions", "frames"),
    [
        (("wait_for_the_others", "sleep_in_python", "wait_for_the_others"), ("all_reduce", "sleep_in_python")),
        (("hold_the_gil", "wait_for_the_others"), ("hold_the_gil", "all_reduce")),
        (("wait_for_the_others", "be_stopped"), ("all_reduce", "be_stopped")),
    ],
    ids=["asleep", "GIL held", "stopped"],
)
def test_a_rank_without_progress_ends_all_with_their_stacks(
    tmp_path: Path, actions: tuple[str, ...], frames: tuple[str, ...]
) -> None:
    # The second is no address that only this host could mean: rank 0 listens to all then.
    with Job(tmp_path, actions, address="127.0.0.1" if len(actions) == 2 else "127.0.1.1") as job:
        assert job.codes() == [HUNG] * len(actions)
    (error,) = job.errors
    assert re.match(
        rf"error: rank \d: no step within 3 s \(watchdog\.step\): exit code {HUNG}; "
        rf"stacks in {job.run}/stacks$",
        error,
    )
    stacks = job.stacks()
    event = next(iter(stacks)).partition("-")[0]
    assert list(stacks) == [f"{event}-rank-{rank:05d}.txt" for rank in range(len(actions))]
    for rank, (text, frame) in enumerate(zip(stacks.values(), [*frames, frames[0]], strict=False)):
        assert f"this is rank {rank}, process {job.ranks[rank].pid} on {socket.gethostname()}" in text
        silent = re.search(r"in phase step \(step 2\) for ([\d.]+) s", text)
        assert silent is not None
        assert float(silent[1]) >= LIMITS["step"] or f"rank {rank}: " not in error
        assert frame in text, text


def test_a_rank_that_hangs_before_it_joins_is_ended_at_the_limit_for_the_start(tmp_path: Path) -> None:
    with Job(tmp_path, ["sleep_before_joining"], start=2) as job:
        assert job.codes() == [HUNG]
    assert "no first step within 2 s (watchdog.start)" in job.errors[0]
    (text,) = job.stacks().values()
    assert "sleep_before_joining" in text


def test_a_rank_that_obeys_no_signal_is_killed_and_stacks_that_cannot_be_written_are_printed(tmp_path: Path) -> None:
    with Job(tmp_path, ["be_deaf"]) as job:
        (job.run / "stacks").touch()
        assert job.codes() == [-signal.SIGKILL]
    _, error = job.errors
    assert re.match(r"error: .*-rank-00000\.txt is not written \(File exists\):", error)
    assert "the process did not answer" in job.output(0)
    assert re.search(rf"^  {job.ranks[0].pid} \(.*\) S ", job.output(0), re.MULTILINE)


@pytest.mark.parametrize(
    ("victim", "death"),
    [(0, "die"), (1, "die"), (0, "die_with_the_monitor"), (1, "die_with_the_monitor"), (1, "raise_an_error")],
)
def test_a_death_ends_ranks_that_do_not_notice_it(tmp_path: Path, victim: int, death: str) -> None:
    actions = ["wait_as_over_nccl"] * 3
    actions[victim] = death
    with Job(tmp_path, actions, step=120) as job:
        codes = job.codes()
    assert codes.pop(victim) == (1 if death == "raise_an_error" else -signal.SIGKILL)
    assert codes == [PEER_DIED, PEER_DIED]
    errors = [error for error in job.errors if f"error: rank {victim} has died" in error]
    # Without a monitor in the middle of the star every other one must see for itself.
    assert len(errors) == (2 if death == "die_with_the_monitor" and victim == 0 else 1)
    assert [name[-9:-4] for name in job.stacks()] == [f"{rank:05d}" for rank in range(3) if rank != victim]
    assert all("wait_as_over_nccl" in text for text in job.stacks().values())


@pytest.mark.parametrize("victim", [0, 1])
def test_a_rank_that_leaves_alone_with_an_error_ends_those_that_wait_for_it(tmp_path: Path, victim: int) -> None:
    actions = ["wait_as_over_nccl"] * 3
    actions[victim] = "leave_with_an_error"
    with Job(tmp_path, actions, step=120) as job:
        codes = job.codes()
    assert codes.pop(victim) == 2
    assert codes == [PEER_DIED, PEER_DIED]
    assert any(f"rank {victim} has left, and the others did not" in error for error in job.errors)


def test_ranks_that_leave_together_with_an_error_have_their_own_exit_code(tmp_path: Path) -> None:
    with Job(tmp_path, ["leave_with_an_error"] * 3, step=120) as job:
        assert job.codes() == [2, 2, 2]
    assert job.errors == []
    assert not (job.run / "stacks").exists()


def test_ranks_that_leave_in_order_one_after_another_are_no_news(tmp_path: Path) -> None:
    with Job(tmp_path, ["leave_one_after_another"] * 3, step=8) as job:
        assert job.codes() == [0, 0, 0]
    assert job.errors == []
    assert not (job.run / "stacks").exists()


def test_a_monitor_that_is_killed_ends_nothing_and_is_missed_once(tmp_path: Path) -> None:
    with Job(tmp_path, ["go_on_without_monitor"] * 3, step=120) as job:
        assert job.codes() == [0, 0, 0]
    warning = "warning: rank {}: it is watched no more: its monitor has gone"
    assert job.errors == [warning.format(0), warning.format(1)]
    assert not (job.run / "stacks").exists()


def test_ranks_whose_monitors_do_not_find_each_other_train_on(tmp_path: Path) -> None:
    with Job(tmp_path, ["leave_one_after_another"] * 2, few_descriptors=True, step=8) as job:
        assert job.codes() == [0, 0]
    not_connected = "warning: rank 1: its watchdog is not connected with the others'"
    assert job.errors == [f"{not_connected}: rank 0 takes no more connections"]


def test_a_second_signal_ends_a_rank_that_hangs_in_a_collective_and_the_others(tmp_path: Path) -> None:
    with Job(tmp_path, ["wait_as_over_nccl", "wait_as_over_nccl", "hold_the_gil"], step=120) as job:
        job.ready()
        for _ in range(2):  # one request, sent twice
            job.ranks[1].send_signal(signal.SIGTERM)
        time.sleep(SAME_REQUEST)
        assert all(rank.poll() is None for rank in job.ranks)
        job.ranks[1].send_signal(signal.SIGTERM)
        assert job.codes() == [PEER_DIED, -signal.SIGKILL, PEER_DIED]
    assert job.errors == [f"error: rank 1 was ended by a second signal: the other ranks end with exit code {PEER_DIED}"]
    assert not (job.run / "stacks").exists()


def test_a_suspended_job_goes_on_and_a_second_signal_in_python_gives_its_own_exit_code(tmp_path: Path) -> None:
    with Job(tmp_path, ["ignore_the_wish"]) as job:
        job.ready()
        both = [psutil.Process(job.ranks[0].pid), monitors(job.run)[0]]
        for process in both:
            process.suspend()
        time.sleep(LIMITS["step"] + 2)
        for process in reversed(both):
            process.resume()
        job.ranks[0].send_signal(signal.SIGINT)
        time.sleep(SAME_REQUEST)
        assert job.ranks[0].poll() is None
        job.ranks[0].send_signal(signal.SIGUSR1)
        assert job.codes() == [128 + signal.SIGUSR1]
    assert job.errors == [f"error: rank 0 was ended by a second signal: the other ranks end with exit code {PEER_DIED}"]


def test_a_disabled_watchdog_starts_nothing(tmp_path: Path) -> None:
    ranks = Ranks(rank=0, local_rank=0, world_size=1)
    for watchdog in (Watchdog.off(ranks), Watchdog.start(ranks, tmp_path, WatchdogSection(enabled=False))):
        watchdog.connect()
        watchdog.phase("step")
        assert watchdog.notify_fd is None
        assert not monitors(tmp_path)
        watchdog.close()


def test_it_leaves_a_process_as_it_was(tmp_path: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    watchdog = Watchdog.start(Ranks(rank=0, local_rank=0, world_size=1), tmp_path, WatchdogSection())
    assert list(monitors(tmp_path)) == [0]
    for step in range(10_000):  # more than a pipe holds: it must not wait for its monitor
        watchdog.phase("step", f"step {step}")
    watchdog.close()
    watchdog.close()
    watchdog.phase("step")
    assert not monitors(tmp_path)
    assert set(os.listdir("/proc/self/fd")) == before
    assert list(tmp_path.iterdir()) == []


def test_who_does_not_know_the_token_is_turned_away() -> None:
    with _listen(True, 8) as listener:
        port = listener.getsockname()[1]
        calls = [_call("127.0.0.1", port, token, rank) for rank, token in enumerate(("ab" * 16, "cd" * 16, "cd" * 16))]
        with socket.create_connection(("127.0.0.1", port)) as silent, socket.create_connection(("127.0.0.1", port)):
            accepted = _accept(listener, "cd" * 16, lambda: 2)
            assert sorted(accepted) == [1, 2]
            silent.setblocking(True)
        for connection in [*calls, *accepted.values()]:
            connection.close()
