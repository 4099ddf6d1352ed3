"""A rank that hangs or dies under DeepSpeed's own launcher: the whole job ends, soon, with a code that says why."""

import signal
from pathlib import Path

import pytest

from shards.format.index import Corpus
from tests.support.launch import Launched, Training
from tests.support.tiny import tiny_overrides
from tests.system.test_survival import rank_processes
from trainer.liveness.exit_codes import FINISHED, HUNG, STOPPED


def endless(corpus: Corpus, run: Path) -> list[str]:
    return [
        *tiny_overrides(corpus.directory, run),
        "batch.groups_per_micro_batch=1",
        "training.steps=100000",
        "training.validate_every=100000",
        "checkpoint.every=100000",
    ]


@pytest.mark.parametrize("victim", [pytest.param(0, marks=pytest.mark.long), 1])
def test_a_rank_that_dies_takes_the_job_down(tiny_corpus: Corpus, tmp_path: Path, victim: int) -> None:
    run = tmp_path / "run"
    with Launched(run, endless(tiny_corpus, run)) as training:
        training.until(lambda: training.last_step() >= 3)
        ranks = rank_processes(training)
        ranks[victim].kill()
        code = training.wait()
    assert code not in (0, 2), training.output
    assert not any(rank.is_running() for rank in ranks)
    assert f"error: rank {victim} has died" in training.output
    assert "Traceback" not in training.output
    (stacks,) = (run / "stacks").iterdir()  # the other's
    text = stacks.read_text()
    # In a step, or, where gloo told it first, on its way out or waiting for the watchdog's verdict.
    assert "launcher/train.py" in text


@pytest.mark.long
def test_a_rank_that_hangs_ends_the_job_with_the_stacks_of_all(tiny_corpus: Corpus, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with Launched(run, [*endless(tiny_corpus, run), "watchdog.step=4"]) as training:
        training.until(lambda: training.last_step() >= 3)
        rank_processes(training)[1].send_signal(signal.SIGSTOP)
        assert training.wait() == HUNG, training.output
    assert "(watchdog.step)" in training.output
    assert "Traceback" not in training.output
    stacks = sorted((run / "stacks").iterdir())
    assert len(stacks) == 2
    assert all("train_step" in path.read_text() for path in stacks)


def test_an_error_that_nobody_expected_is_shown(
    tiny_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As gloo raises one where it is to use a network interface that is not there."""
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "nowhere0")
    run = tmp_path / "run"
    with Training(run, endless(tiny_corpus, run)) as training:
        code = training.wait()
    assert code == 1, training.output
    assert "Traceback" in training.output
    assert "nowhere0" in training.output
    assert "in join" in training.output


def test_a_signal_to_one_rank_while_evaluating_stops_all(tiny_corpus: Corpus, tmp_path: Path) -> None:
    """Nothing is lost: the last checkpoint is there, and the same command evaluates."""
    run = tmp_path / "run"
    slow = ("training.steps=4", "evaluation.examples_per_kind=null", "evaluation.batch_size=1", "watchdog.step=600")
    with Training(run, [*endless(tiny_corpus, run), *slow]) as training:
        training.until(lambda: any((run / "evaluation").glob("test-parts/*.jsonl")))
        training.ranks[1].send_signal(signal.SIGTERM)
        assert training.wait() == STOPPED, training.output
    assert "Traceback" not in training.output
    assert not (run / "evaluation" / "test.json").exists()
    with Training(run, [*endless(tiny_corpus, run), *slow]) as training:
        assert training.wait() == FINISHED, training.output
    assert "held-out stories, step 4" in training.output
