"""Test a rank before and while it joins the others, and beside an evaluation that another process makes."""

import threading
from pathlib import Path

import pytest

from shards.errors import InputError
from tests.support.waiting import HANGING
from trainer import distributed, run
from trainer.evaluation.kept import lock_path
from trainer.ranks import Ranks
from trainer.runs.lock import FileLock, Owner


def test_an_address_that_is_not_known_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "_RESOLVE_SECONDS", -1.0)
    for known in ("", "127.0.0.1", "::1", "localhost"):
        distributed._wait_until_known(known)
    for unknown in ("n" * 70, "127.0.0.1.2.3.4"):  # no name server is asked for what can be no name
        with pytest.raises(InputError, match=f"MASTER_ADDR={unknown}, .* is not known on .*: set it to") as refused:
            distributed._wait_until_known(unknown)
        assert "\n" not in str(refused.value)


def test_waiting_long_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    said = threading.Event()
    monkeypatch.setattr("builtins.print", lambda text, **_: said.set() if "still waits" in text else None)
    with distributed._warn_after(0.0, "rank 3 still waits"):
        assert said.wait(HANGING)
    said.clear()
    with distributed._warn_after(1000.0, "rank 3 still waits"):
        pass
    assert not said.is_set()


def test_a_rank_alone_waits_for_nobody(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(distributed, "_SILENCE_SECONDS", 0.0)
    with distributed.group_of_one():
        pass
    assert "still waits" not in capsys.readouterr().err


def test_a_training_waits_for_the_same_evaluation_by_another(
    alone: Ranks, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its watchdog told at every look; afterwards it has the lock, and gives it back."""
    monkeypatch.setattr(run, "EVALUATION_POLL_SECONDS", 0.0)
    path = lock_path(tmp_path, "test")
    path.parent.mkdir()
    other = FileLock.take(path, Owner.of_this_process("`d2tv evaluate`"))
    assert other is not None
    looks = 0

    def begin_batch() -> None:
        nonlocal looks
        looks += 1
        if looks == 3:
            other.release()

    with run._only_evaluation(tmp_path, alone, begin_batch):
        assert FileLock.take(path, Owner.of_this_process("another")) is None
    assert looks == 3
    assert capsys.readouterr().out.count("waiting for the evaluation of test in") == 1
    assert list(path.parent.iterdir()) == []
