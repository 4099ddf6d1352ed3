"""Test what `d2tv train` decides, and how it finds and ends the processes of an attempt."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from launcher.cli import main
from launcher.devices import launcher_environment
from launcher.guard import Guard
from launcher.processes import Family, RankStopper
from launcher.restarts import Restarts, in_words
from launcher.supervise import Job
from launcher.train import parse_arguments
from shards.errors import InputError
from tests.support.waiting import HANGING, until
from trainer.liveness.exit_codes import HUNG, PEER_DIED
from trainer.runs.lock import Owner, read_owner

CHECKPOINTS = Path("runs/x/checkpoints")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (HUNG, "hung: see runs/x/stacks"),
        (PEER_DIED, "a rank died, and the others left it"),
        (1, "failed with exit code 1"),
        (-9, "killed by signal 9 (SIGKILL)"),  # the launcher itself
        (137, "killed by signal 9 (SIGKILL)"),  # as a shell on another host says it
        (247, "killed by signal 9 (SIGKILL)"),  # a rank, behind DeepSpeed's launcher
        (250, "killed by signal 6 (SIGABRT)"),
        (128, "failed with exit code 128"),
        (None, "DeepSpeed's launcher was killed"),
    ],
)
def test_exit_codes_in_words(code: int | None, words: str) -> None:
    assert in_words(code, Path("runs/x")) == words


def test_pauses_grow_and_restarts_run_out_without_a_new_checkpoint() -> None:
    restarts = Restarts(9, None)
    assert [restarts.ended(None) for _ in range(10)] == [1, 2, 4, 8, 16, 32, 60, 60, 60, None]
    assert restarts.total == 9
    assert Restarts(0, None).ended(None) is None


def test_a_new_checkpoint_gives_all_restarts_back() -> None:
    restarts = Restarts(2, CHECKPOINTS / "step-00000008")
    assert restarts.ended(CHECKPOINTS / "step-00000008") == 1
    assert restarts.in_words() == "restart 1 of 2"
    assert restarts.ended(CHECKPOINTS / "step-00000008") == 2
    assert restarts.ended(CHECKPOINTS / "step-00000016") == 1
    assert restarts.in_words() == "restart 1 of 2 (3 in all)"
    # 16 was damaged and is put aside; to reach it once more is no progress.
    assert restarts.ended(CHECKPOINTS / "step-00000008") == 2
    assert restarts.ended(CHECKPOINTS / "step-00000016") is None


def test_the_command_is_what_a_person_would_type(tmp_path: Path) -> None:
    job = Job(recipe="mms", overrides=["run=runs/x", "training.steps=5"], ds_config=Path("ds.json"), ranks=2)
    words = job.train_words(None)
    *launcher, script = job.command(words, 29999)[: -len(words)]
    assert " ".join(launcher[1:]) == "-m deepspeed.launcher.runner --quiet --num_accelerators 2 --master_port 29999"
    assert Path(script).is_absolute()
    options = parse_arguments(job.train_words(None, "c0ffee"))
    assert options.supervisor == "c0ffee"
    assert (options.recipe, options.ds_config, options.overrides) == ("mms", Path("ds.json"), list(job.overrides))


def test_a_restart_resumes_whatever_was_asked_at_first() -> None:
    job = Job(recipe="mms", overrides=[], ds_config=Path("ds.json"), resume="never", hostfile=Path("hosts"))
    assert job.train_words("must")[4:6] == ["--resume", "must"]
    assert "--master_port" not in job.command([], 29999)


@pytest.mark.parametrize(
    ("words", "fix"),
    [
        (["training.stepz=5"], "did you mean 'steps'"),
        (["--max-restarts", "-1"], "--max-restarts -1: at least 0"),
        (["--ranks", "0"], "--ranks 0: at least 1"),
        (["--hostfile", "nowhere"], "--hostfile nowhere: no such file"),
    ],
)
def test_what_can_be_seen_before_a_rank_starts_is_one_line(
    words: list[str], fix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert main(["train", "--ds_config", "ds_configs/zero2_cpu.json", *words]) == 2
    error = capsys.readouterr().err
    assert fix in error
    assert error.count("\n") == 1
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("value", "fix"),
    [
        ("", "leaves no GPU to train on"),
        ("-1", "set DS_ACCELERATOR=cpu"),
        ("GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", "by number only"),
        ("MIG-GPU-8932f937-d72c-4106-c12f-20bd9faed9f6/1/0", "by number only"),
        ("0,GPU-8932f937", "by number only"),
        ("0,", "by number only"),
        ("0,-1", "by number only"),
    ],
)
def test_devices_that_the_launcher_cannot_take_are_refused_and_on_a_cpu_left_out(
    value: str, fix: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=fix) as refused:
        launcher_environment({"CUDA_VISIBLE_DEVICES": value, "DS_ACCELERATOR": "cuda"})
    assert "\n" not in str(refused.value)
    assert launcher_environment({"CUDA_VISIBLE_DEVICES": value, "DS_ACCELERATOR": "cpu"}) == {"DS_ACCELERATOR": "cpu"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    monkeypatch.setenv("DS_ACCELERATOR", "cuda")
    assert main(["train", "--ds_config", "ds_configs/zero2_cpu.json"]) == 2
    assert fix in capsys.readouterr().err


def test_devices_by_number_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launcher.devices._GPUS", Path("nowhere"))
    for value in ("0", "2,3"):
        environment = {"CUDA_VISIBLE_DEVICES": value, "DS_ACCELERATOR": "cuda"}
        assert launcher_environment(environment) == environment


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ('{"zero_optimization": {"stage": 2}, "bf16": {}, "bf16": {"enabled": false}}', "'bf16' stands twice"),
        ('{"zero_optimization": {"stage": 2}, "bf_16": {"enabled": true}}', "did you mean 'bf16'?"),
        ('{"zero_optimization": {"stage": 2, "overlap_com": true}}', "did you mean 'overlap_comm'?"),
    ],
)
@pytest.mark.parametrize("hosts", [False, True])
def test_a_ds_config_that_cannot_work_starts_no_rank(
    tmp_path: Path, text: str, fix: str, hosts: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ds.json").write_text(text)
    (tmp_path / "hosts").write_text("here slots=1\n")
    words = ["--hostfile", str(tmp_path / "hosts")] if hosts else []
    assert main(["train", "--ds_config", str(tmp_path / "ds.json"), *words, f"run={tmp_path / 'run'}"]) == 2
    error = capfd.readouterr().err
    assert fix in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_unknown_options_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["train", "--ds_config", "ds_configs/zero2_cpu.json", "--resumee", "auto"])
    assert "--resumee" in capsys.readouterr().err


#: A launcher with a rank that notes SIGTERM and SIGCONT, a rank that SIGTERM ends, and a child of the first with its
#: command line. The launcher ends at once and leaves them orphans when its word is "orphans".
STAND_IN = """
import os, signal, subprocess, sys, time
if sys.argv[1].startswith("--local_rank="):
    if sys.argv[1] == "--local_rank=0":
        signal.signal(signal.SIGTERM, lambda *_: os.write(1, b"told\\n"))
        signal.signal(signal.SIGCONT, lambda *_: os.write(1, b"asked\\n"))
        os.fork()
    os.write(1, b"ready\\n")
    while True:
        time.sleep(0.05)
ranks = [subprocess.Popen([sys.executable, __file__, f"--local_rank={n}", "word"]) for n in range(2)]
if sys.argv[1] == "waits":
    [rank.wait() for rank in ranks]
"""


def stand_in(tmp_path: Path, word: str) -> "subprocess.Popen[str]":
    script = tmp_path / "launcher.py"
    script.write_text(STAND_IN)
    process = subprocess.Popen(
        [sys.executable, str(script), word], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(3)] == ["ready\n"] * 3
    return process


def test_a_rank_is_asked_to_stop_once_and_its_children_do_not(tmp_path: Path) -> None:
    process = stand_in(tmp_path, "waits")
    family = Family(session=process.pid)
    try:
        ranks = {rank.cmdline()[2]: rank for rank in family.ranks()}
        assert sorted(ranks) == ["--local_rank=0", "--local_rank=1"]
        assert len(family.members()) == 4
        stopper = RankStopper(family=family)
        stopper.ask()
        assert process.stdout is not None
        assert process.stdout.readline() == "told\n"
        until(lambda: list(family.ranks()) == [ranks["--local_rank=0"]])
        for _ in range(2):
            stopper.ask()
        rank = ranks["--local_rank=0"]
        for each in (rank, *rank.children()):
            each.send_signal(signal.SIGCONT)  # which Python handles behind a SIGTERM that is waiting, too
            assert process.stdout.readline() == "asked\n"
        assert process.poll() is None
    finally:
        assert family.kill() == []
    process.wait()  # killed, or at its own end behind its ranks
    assert process.stdout.read() == ""


def test_orphans_are_found_and_killed(tmp_path: Path) -> None:
    process = stand_in(tmp_path, "orphans")
    assert process.wait() == 0
    family = Family(session=process.pid)
    left = family.members()
    assert len(left) == 3
    assert family.kill() == []
    assert family.members() == []
    assert not any(orphan.is_running() and orphan.status() != psutil.STATUS_ZOMBIE for orphan in left)


def test_the_guard_holds_the_lock_until_a_killed_supervisors_ranks_are_gone(tmp_path: Path) -> None:
    process = stand_in(tmp_path, "orphans")
    process.wait()
    family = Family(session=process.pid)
    lock = tmp_path / ".lock"
    try:
        first = Guard(lock, Owner.of_this_process("the first"))
        until(first.holds_the_lock)
        first.watch(family)
        second = Guard(lock, Owner.of_this_process("the second"))
        assert first._process.stdin is not None
        first._process.stdin.close()  # as the end of the supervisor does
        until(lambda: len(family.ranks()) == 1)
        until(lambda: (owner := read_owner(lock)) is not None and owner.ending)  # by which others know to wait
        assert not second.holds_the_lock()
        family.kill()
        until(second.holds_the_lock)
        assert first._process.wait(HANGING) == 0
    finally:
        family.kill()
    second.watch(family)
    second.watch(None)
    second.close()
    assert second._process.returncode == 0


def test_a_family_is_handed_on_as_one_line() -> None:
    family = Family(session=12, words=("--recipe", "x y", "run=\n"))
    assert Family.from_json(family.to_json()) == family
    assert "\n" not in family.to_json()
    assert json.loads(family.to_json())["session"] == 12
