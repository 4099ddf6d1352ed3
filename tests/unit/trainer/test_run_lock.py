"""The lock of a run: whose it is, who gets in, what of it a killed process leaves."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.train import main
from shards.errors import InputError
from trainer.liveness.exit_codes import BAD_INPUT
from trainer.runs import lock as run_lock
from trainer.runs.lock import (
    RANKS,
    STARTED,
    FileLock,
    HeldError,
    Owner,
    check_free,
    hold_run,
    how_started,
    read_owner,
    take_patiently,
)

US = Owner.of_this_process("a test")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(run_lock, "OWN_RANKS_PATIENCE_SECONDS", 0.0)


@pytest.fixture
def training(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process that has the run, as rank 0 of a training."""
    code = (
        "import sys, pathlib, trainer.runs.lock as lock\n"
        "with lock.hold_run(pathlib.Path(sys.argv[1]), None, '`torchrun launcher/train.py`'):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_start_is_told_the_owner_in_one_line_and_changes_nothing(
    training: "subprocess.Popen[str]", tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    words = ["--ds_config", "ds_configs/zero2_cpu.json", f"run={tmp_path}", f"corpus.path={tmp_path}/none"]
    assert main(words) == BAD_INPUT
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"{tmp_path} is in use by process {training.pid} on {os.uname().nodename}, since 2" in error
    assert "started by `torchrun launcher/train.py`: wait for its end, or choose another run=" in error
    for token in (None, "c0ffee"):
        with pytest.raises(HeldError), hold_run(tmp_path, token, "a test"):
            pytest.fail("two have it")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_a_killed_process_held_is_free(training: "subprocess.Popen[str]", tmp_path: Path) -> None:
    training.send_signal(signal.SIGKILL)
    training.wait()
    assert read_owner(tmp_path / STARTED) is not None  # its text lies there
    check_free(tmp_path, None)
    with hold_run(tmp_path, None, "a test"):
        owner = read_owner(tmp_path / STARTED)
        assert owner is not None
        assert (owner.pid, owner.started) == (os.getpid(), "a test")
    assert list(tmp_path.iterdir()) == []  # an orderly end leaves nothing


def test_a_supervisors_own_ranks_get_in_and_no_others_between_two_attempts(tmp_path: Path) -> None:
    guard = FileLock.take(tmp_path / STARTED, replace(US, token="c0ffee"))
    assert guard is not None
    check_free(tmp_path, "c0ffee")
    with hold_run(tmp_path, "c0ffee", "`d2tv train`"):
        # The last attempt's rank 0, which is still ending, and a guard that was killed: it is in the way of all.
        with pytest.raises(HeldError), hold_run(tmp_path, "c0ffee", "`d2tv train`"):
            pytest.fail("two have it")
        guard.release()
        with pytest.raises(HeldError), hold_run(tmp_path, None, "a test"):
            pytest.fail("two have it")
    guard = FileLock.take(tmp_path / STARTED, replace(US, token="c0ffee"))
    for token in (None, "another"):
        with pytest.raises(HeldError):
            check_free(tmp_path, token)
        with pytest.raises(HeldError), hold_run(tmp_path, token, "a test"):
            pytest.fail("two have it")


def test_a_holder_that_only_ends_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / STARTED
    lock = FileLock.take(path, replace(US, ending=True))
    assert lock is not None
    said: list[str] = []

    def notify(line: str) -> None:
        said.append(line)
        lock.release()

    take_patiently(path, US, "the run", patience=0, notify=notify).release()
    assert len(said) == 1
    assert "still stopping" in said[0]


def test_a_removed_lock_is_of_no_use_to_those_who_waited_for_it(tmp_path: Path) -> None:
    """A person whose host is gone for good removes the file; nobody then holds the old one."""
    path = tmp_path / STARTED
    old = FileLock.take(path, US)
    path.unlink()
    new = FileLock.take(path, US)
    assert old is not None
    assert new is not None
    old.release()  # does not remove what is another's by now
    assert FileLock.take(path, US) is None


def test_a_file_system_without_locks_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    check_free(tmp_path, None)
    with hold_run(tmp_path, None, "a test"):
        pass
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"the file system of {tmp_path} has no locks" in error


@pytest.mark.parametrize("name", [STARTED, RANKS])
@pytest.mark.parametrize("kind", ["link", "dangling", "pipe", "directory"])
def test_what_is_no_lock_is_refused_and_left_alone(tmp_path: Path, name: str, kind: str) -> None:
    run, precious = tmp_path / "run", tmp_path / "precious"
    run.mkdir()
    precious.write_text("x")
    path = run / name
    {
        "link": lambda: path.symlink_to(precious),
        "dangling": lambda: path.symlink_to(tmp_path / "nowhere"),
        "pipe": lambda: os.mkfifo(path),
        "directory": path.mkdir,
    }[kind]()
    with pytest.raises(InputError, match=rf"{name}.*(move it away|cannot be opened)"), hold_run(run, None, "a test"):
        pytest.fail("that was no lock")
    assert precious.read_text() == "x"
    assert not (tmp_path / "nowhere").exists()


def test_a_file_of_somebodys_serves_as_lock_and_keeps_its_text(tmp_path: Path) -> None:
    (tmp_path / STARTED).write_text("not ours")
    with hold_run(tmp_path, None, "a test"), pytest.raises(HeldError, match="a process that does not say who it is"):
        check_free(tmp_path, None)
    assert (tmp_path / STARTED).read_text() == "not ours"


@pytest.mark.parametrize("text", ["", "x", "[1]", "{}", '{"host": 1}', "[" * 100_000, json.dumps({"host": "h" * 9000})])
def test_any_text_is_no_owner(tmp_path: Path, text: str) -> None:
    (tmp_path / "lock").write_text(text)
    assert read_owner(tmp_path / "lock") is None


def test_it_is_said_how_a_training_was_started_and_not_with_what() -> None:
    assert how_started({}, "c0ffee") == "`d2tv train`"
    assert how_started({"TORCHELASTIC_RUN_ID": "x", "SLURM_STEP_ID": "0"}, None) == "`torchrun launcher/train.py`"
    assert how_started({"CROSS_SIZE": "1"}, None) == "`deepspeed launcher/train.py`"
    assert how_started({"SLURM_STEP_ID": "0", "SLURM_JOB_ID": "7"}, None) == "`srun`, job 7"
    assert how_started({}, None) == "`python launcher/train.py`"
