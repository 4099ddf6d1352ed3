"""Runs that are killed, stopped and started again, on two ranks."""

import json
import signal
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from shards.format.index import Corpus
from tests.support.forkserver import run as d2tv
from tests.support.launch import Launched, Training
from tests.support.tiny import tiny_overrides
from tests.support.waiting import HANGING
from trainer.checkpoint.directory import damage, read_state, whole_checkpoints
from trainer.evaluation.predictions import read_predictions
from trainer.liveness.exit_codes import STOPPED

STEPS = 60


def overrides(corpus: Corpus, run: Path, *more: str) -> list[str]:
    return [
        *tiny_overrides(corpus.directory, run),
        "batch.groups_per_micro_batch=1",  # two micro-steps a rank
        f"training.steps={STEPS}",
        "checkpoint.every=8",
        "training.validate_every=20",
        "loader.threads=2",
        *more,
    ]


def losses(training: Training) -> dict[int, Any]:
    return {record["step"]: (record["loss"], record["nll"]) for record in training.records("train")}


@pytest.fixture(scope="module")
def undisturbed(tiny_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Any]:
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    with Training(run, overrides(tiny_corpus, run)) as training:
        assert training.wait() == 0, training.output
        assert "held-out stories, step 60" in training.output
        return losses(training)


def test_killed_and_started_again_gives_the_same_losses_bit_for_bit(
    tiny_corpus: Corpus, tmp_path: Path, undisturbed: dict[int, Any]
) -> None:
    run = tmp_path / "run"
    with Training(run, overrides(tiny_corpus, run)) as training:
        training.until(lambda: bool(whole_checkpoints(run / "checkpoints")))
        training.signal_all(signal.SIGKILL)
        training.wait()
        reached = training.last_step()
    assert reached < STEPS, "the kill came too late to show anything"
    with Training(run, overrides(tiny_corpus, run)) as training:
        assert training.wait() == 0, training.output
        assert "going on from step" in training.output
        assert losses(training) == undisturbed


@pytest.mark.long
def test_a_run_that_changes_its_mixture_survives_a_kill_before_and_after(tiny_corpus: Corpus, tmp_path: Path) -> None:
    """The change is planned before the run, or written into the recipe while the run is stopped: all the same."""
    change = "mixture.changes=[{from_step: 50, kinds: [mms]}]"
    steps = ("training.steps=90", "training.validate_every=100")
    planned, decided = tmp_path / "planned", tmp_path / "decided"
    with Training(planned, overrides(tiny_corpus, planned, *steps, change)) as training:
        assert training.wait() == 0, training.output
        expected, records = losses(training), training.records("mixture")
        assert all(record["examples"]["mxls"] == 0 for record in training.records("train") if record["step"] > 50)
        assert all(record["examples"]["mxls"] > 0 for record in training.records("train") if record["step"] <= 50)
    assert [(record["step"], record["mixture"]["kinds"]) for record in records] == [(51, ["mms"])]

    with Training(decided, overrides(tiny_corpus, decided, *steps)) as training:
        training.until(lambda: len(whole_checkpoints(decided / "checkpoints")) > 0)
        training.signal_all(signal.SIGKILL)
    reached = read_state(whole_checkpoints(decided / "checkpoints")[0]).step
    assert reached <= 50, "the kill came too late to show anything"
    with Training(decided, overrides(tiny_corpus, decided, *steps, change)) as training:
        training.until(lambda: training.last_step() > 50)
        training.signal_all(signal.SIGKILL)
    with Training(decided, overrides(tiny_corpus, decided, *steps, change)) as training:
        assert training.wait() == 0, training.output
        assert losses(training) == expected
        assert training.records("mixture") == records


def test_a_finished_run_is_not_trained_again(tiny_corpus: Corpus, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = overrides(tiny_corpus, run, "training.steps=4", "checkpoint.every=4")
    for _ in range(2):
        with Training(run, words) as training:
            assert training.wait() == 0, training.output
    assert "going on from step 4" in training.output
    assert "held-out stories, step 4" in training.output
    assert training.last_step() == 4


@pytest.mark.parametrize("to_all", [pytest.param(True, marks=pytest.mark.long), False], ids=["whole job", "one rank"])
def test_sigterm_writes_a_checkpoint_and_leaves_cleanly(tiny_corpus: Corpus, tmp_path: Path, to_all: bool) -> None:
    """Through DeepSpeed's launcher. While it trains, rank 0 serves its metrics."""
    run = tmp_path / "run"
    words = overrides(
        tiny_corpus,
        run,
        "training.steps=100000",
        "checkpoint.every=100000",
        "prometheus.enabled=true",
        "training.validate_every=100000",
    )
    with Launched(run, words) as training:
        training.until(lambda: training.last_step() >= 3)
        metrics = scrape(training)
        ranks = rank_processes(training)
        if to_all:
            training.signal_all(signal.SIGTERM)
        else:
            ranks[1].send_signal(signal.SIGTERM)
        _, alive = psutil.wait_procs(ranks, timeout=HANGING)
        assert not alive
        code = training.wait()
        assert "the same command goes on from there" in training.output
        if not to_all:  # else the launcher, hit by the signal itself, says that it was
            assert code == STOPPED, training.output
    (checkpoint,) = whole_checkpoints(run / "checkpoints")
    assert damage(checkpoint) is None
    state = read_state(checkpoint)
    assert state.step == training.last_step() >= 3
    assert state.slot == state.step * 16
    assert metrics["d2tv_step"] >= 3
    assert metrics["d2tv_learning_rate"] > 0
    assert {"d2tv_loss", "d2tv_examples_total", "d2tv_target_tokens_total", "d2tv_gradient_norm"} <= metrics.keys()


def scrape(training: Launched) -> dict[str, float]:
    """The last sample of every metric that rank 0 serves."""
    (line,) = (line for line in training.output.splitlines() if line.startswith("metrics at "))
    with urllib.request.urlopen(line.removeprefix("metrics at "), timeout=HANGING) as response:
        text = response.read().decode()
    return {s.name: s.value for family in text_string_to_metric_families(text) for s in family.samples}


def rank_processes(training: Launched) -> list[psutil.Process]:
    """The processes of the ranks, in rank order."""
    children = psutil.Process(training.process.pid).children(recursive=True)
    ranks = [
        p for p in children if "launcher/train.py" in p.cmdline() and "deepspeed.launcher.launch" not in p.cmdline()
    ]
    return sorted(ranks, key=lambda p: next(word for word in p.cmdline() if word.startswith("--local_rank")))


def test_a_bad_input_is_one_line_and_no_rank_starts(tiny_corpus: Corpus, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with Launched(run, overrides(tiny_corpus, run, "training.stepz=5")) as training:
        assert training.wait() != 0
        errors = [line for line in training.output.splitlines() if line.startswith("error:")]
    assert errors == ["error: recipe d2tv: unknown key 'training.stepz' (did you mean 'steps'?)"]
    assert "Traceback" not in training.output
    assert not run.exists()


def test_evaluation_over_two_ranks_is_that_of_one(tiny_corpus: Corpus, tmp_path: Path) -> None:
    """Each held-out example once, and the same predictions and scores from `d2tv evaluate` in one process."""
    run = tmp_path / "run"
    words = overrides(
        tiny_corpus, run, "training.steps=12", "evaluation.examples_per_kind=null", "evaluation.batch_size=64"
    )
    with Training(run, words) as training:
        assert training.wait() == 0, training.output
    report = json.loads((run / "evaluation" / "test.json").read_text())
    predictions = read_predictions(run, "test")
    assert len(predictions) == tiny_corpus.direction_counts("test").sum()
    assert len({row.key for row in predictions}) == len(predictions)

    done = d2tv("evaluate", run, "evaluation.batch_size=33")
    assert done.returncode == 0, done.stderr
    again = json.loads((run / "evaluation" / "test.json").read_text())
    assert read_predictions(run, "test") == predictions
    assert again["by_direction"] == report["by_direction"]
    for kind in ("mms", "mxls"):
        assert again["nll"][kind] == pytest.approx(report["nll"][kind], rel=1e-5)
    assert len(report["alignment"]["directions"]) == 12
    for name, of in report["alignment"]["directions"].items():
        assert again["alignment"]["directions"][name] == pytest.approx(of, abs=1e-4)
    assert "alignment: recall@1" in done.stdout
    assert "MXLS" in done.stdout
    assert "unigram" in done.stdout
