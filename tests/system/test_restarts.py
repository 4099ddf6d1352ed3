"""`d2tv train`: runs whose processes are killed and stopped, on two ranks, through all that a person would start."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from launcher.processes import Family
from shards.format.index import Corpus
from tests.support.forkserver import ROOT
from tests.support.forkserver import run as d2tv
from tests.support.harness import FP32
from tests.support.launch import Launched, Training
from tests.support.tiny import tiny_overrides
from trainer.checkpoint.directory import whole_checkpoints
from trainer.evaluation.predictions import read_predictions
from trainer.liveness.exit_codes import BAD_INPUT, FINISHED, STOPPED

STEPS = 60


class Supervised(Launched):
    """A training under `d2tv train`, started from another directory than the sources'."""

    def __init__(
        self, run: Path, overrides: Sequence[str], *, max_restarts: int = 3, environment: dict[str, str] | None = None
    ) -> None:
        words = [sys.executable, "-m", "launcher.cli", "train", "--max-restarts", str(max_restarts), "--ranks", "2"]
        words += ["--ds_config", str(FP32), *overrides]
        self.start(run, words, run.parent, {"PYTHONPATH": str(ROOT)} | (environment or {}))

    def __exit__(self, *_: object) -> None:
        """The ranks are in a session of their own, and would be asked to stop only."""
        for process in self.family():
            process.kill()
        self.process.kill()
        super().__exit__()

    def family(self) -> list[psutil.Process]:
        """Launchers, ranks and guard."""
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def launcher(self, module: str) -> psutil.Process | None:
        """DeepSpeed's `runner`, or the `launch` below it."""
        return next((p for p in self.family() if f"deepspeed.launcher.{module}" in _words(p)), None)

    def rank_processes(self) -> list[psutil.Process]:
        runner = self.launcher("runner")
        return Family(session=runner.pid).ranks() if runner else []

    def said(self) -> list[str]:
        return [line for line in self.output.splitlines() if line.startswith("d2tv train: ")]


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def overrides(corpus: Corpus, run: Path, *more: str) -> list[str]:
    return [
        *tiny_overrides(corpus.directory, run),
        "batch.groups_per_micro_batch=2",
        f"training.steps={STEPS}",
        "checkpoint.every=8",
        "training.validate_every=20",
        *more,
    ]


def endless(corpus: Corpus, run: Path) -> list[str]:
    """A run that is stopped before its end and before its first checkpoint."""
    never = ("training.steps=100000", "checkpoint.every=100000", "training.validate_every=100000")
    return overrides(corpus, run, *never)


def shared_buffers(ports: set[str]) -> list[Path]:
    """Return what DeepSpeed's all-reduce left in shared memory for ranks that met at one of `ports`."""
    return [path for port in ports for path in Path("/dev/shm").glob(f"deepspeed_allreduce_buffer_*_{port}_*")]


def losses(training: Training) -> dict[int, Any]:
    return {record["step"]: (record["loss"], record["nll"]) for record in training.records("train")}


@pytest.mark.long
def test_a_killed_rank_and_a_killed_launcher_leave_the_losses_of_an_undisturbed_run(
    tiny_corpus: Corpus, tmp_path: Path
) -> None:
    """The second death is one that DeepSpeed's runner hands on as success."""
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    with Training(undisturbed, overrides(tiny_corpus, undisturbed)) as training:
        assert training.wait() == 0, training.output
        expected = losses(training)
    with Supervised(disturbed, overrides(tiny_corpus, disturbed)) as training:
        training.until(lambda: training.last_step() >= 20)
        first = training.rank_processes()
        assert [rank.environ()["D2TV_RESTARTS"] for rank in first] == ["0", "0"]
        ports = {rank.environ()["MASTER_PORT"] for rank in first}
        first[1].kill()
        training.until(lambda: len(training.said()) == 1)
        assert not any(rank.is_running() for rank in first)
        training.until(
            lambda: len(training.rank_processes()) == 2
        )  # at once: a rank that is left alone might finish the run
        second = training.rank_processes()
        assert [rank.environ()["D2TV_RESTARTS"] for rank in second] == ["1", "1"]
        ports |= {rank.environ()["MASTER_PORT"] for rank in second}
        launch = training.launcher("launch")
        assert launch is not None
        launch.kill()
        assert training.wait() == FINISHED, training.output
        assert losses(training) == expected
        first_line, second_line = training.said()
    assert shared_buffers(ports) == []  # 67 MB a rank and start would fill a host
    # Rank 1's death is seen as such, or as that of its peer, whichever the launcher looks at first.
    assert "; restart 1 of 3 in 1 s, from " in first_line
    assert "step-000000" in first_line
    # The second of all; the first again where there was a checkpoint meanwhile.
    assert re.search(
        r"DeepSpeed's launcher was killed; restart (2 of 3 in 2|1 of 3 \(2 in all\) in 1) s, from ", second_line
    )


@pytest.mark.parametrize(
    "training_already",
    [True, pytest.param(False, marks=pytest.mark.long)],
    ids=["SIGTERM in a step", "SIGUSR1 while it starts"],
)
def test_a_stopped_run_is_not_started_again(tiny_corpus: Corpus, tmp_path: Path, training_already: bool) -> None:
    run = tmp_path / "run"
    with Supervised(run, endless(tiny_corpus, run)) as training:
        if training_already:
            training.until(lambda: training.last_step() >= 3)
            training.process.send_signal(signal.SIGTERM)
        else:
            training.until(lambda: training.launcher("runner") is not None)
            training.process.send_signal(signal.SIGUSR1)
        family = training.family()
        assert training.wait() == STOPPED, training.output
        psutil.wait_procs(family, timeout=120)
        assert not any(process.is_running() for process in family)
        if training_already:
            (checkpoint,) = whole_checkpoints(run / "checkpoints")
            assert checkpoint.name == f"step-{training.last_step():08d}"
            assert training.said() == []
        else:
            # The signal finds DeepSpeed's runner, which dies of it, or ranks that have begun to join, which leave.
            killed = (
                "d2tv train: killed by signal 15 (SIGTERM) while it was to stop; "
                "the same command goes on from the beginning: it has no checkpoint yet"
            )
            left = "stopped before the ranks had met: nothing is to be saved"
            assert training.said() == ([] if left in training.output else [killed])


@pytest.mark.long
def test_a_second_signal_kills_ranks_that_do_not_stop(tiny_corpus: Corpus, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with Supervised(run, endless(tiny_corpus, run)) as training:
        training.until(lambda: training.last_step() >= 3)
        ranks, family = training.rank_processes(), training.family()
        ranks[1].suspend()
        training.process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            training.wait(4)
        training.process.send_signal(signal.SIGTERM)
        assert training.wait() == 128 + signal.SIGTERM, training.output
        psutil.wait_procs(family, timeout=120)
        assert not any(process.is_running() for process in family)


def test_bad_input_is_not_tried_again(tiny_corpus: Corpus, tmp_path: Path) -> None:
    """A corpus that is not there is seen by the ranks."""
    run = tmp_path / "run"
    with Supervised(run, overrides(tiny_corpus, run, f"corpus.path={tmp_path / 'nowhere'}")) as training:
        assert training.wait() == BAD_INPUT, training.output
        assert training.output.count("error: ") == 1
        assert training.said() == []


#: The ranks are to meet over a network interface that does not exist, and die of it.
DEADLY = {"GLOO_SOCKET_IFNAME": "nowhere0"}


@pytest.mark.long
def test_a_run_that_always_dies_is_given_up(tiny_corpus: Corpus, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with Supervised(run, overrides(tiny_corpus, run), max_restarts=1, environment=DEADLY) as training:
        assert training.wait() == 1, training.output
        assert training.said() == [
            "d2tv train: failed with exit code 1; restart 1 of 1 in 1 s, from the beginning: it has no checkpoint yet",
            "d2tv train: failed with exit code 1; given up after 1 restart without a new checkpoint",
        ]


@pytest.mark.long
def test_a_signal_ends_the_pause_before_a_restart(tiny_corpus: Corpus, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with Supervised(run, overrides(tiny_corpus, run), environment=DEADLY) as training:
        training.until(lambda: len(training.said()) == 1)
        training.process.send_signal(signal.SIGUSR1)
        assert training.wait() == STOPPED, training.output
        assert training.said()[1].startswith("d2tv train: stopped before a rank was started; ")


@pytest.mark.long
def test_ranks_of_a_killed_supervisor_stop_before_others_start(tiny_corpus: Corpus, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = overrides(tiny_corpus, run, "checkpoint.every=100000", "training.validate_every=100000")
    with Supervised(run, words) as training:
        training.until(lambda: training.last_step() >= 3)
        left = training.rank_processes()
        training.process.kill()
        training.process.wait()
        with Supervised(run, words) as again:
            again.until(lambda: len(again.rank_processes()) == 2)
            assert not any(rank.is_running() for rank in left)
            (checkpoint,) = whole_checkpoints(run / "checkpoints")
            assert int(checkpoint.name.removeprefix("step-")) < STEPS, "the kill came too late to show anything"
            assert again.wait() == FINISHED, again.output
            assert f"going on from step {int(checkpoint.name.removeprefix('step-'))} of" in again.output


def predictions(run: Path) -> dict[int, str]:
    return {row.number: row.prediction for row in read_predictions(run, "test")}


@pytest.mark.long
def test_an_evaluation_that_was_killed_with_its_launcher_goes_on(tiny_corpus: Corpus, tmp_path: Path) -> None:
    """The runner says success, and the last step's checkpoint is there: the run is not finished for all that. What was
    decoded is not decoded again, and in other batches, on one rank instead of two, it is the same."""
    run = tmp_path / "run"
    slow = ("evaluation.examples_per_kind=null", "evaluation.batch_size=1", "evaluation.num_beams=4")
    words = overrides(tiny_corpus, run, "training.steps=6", "checkpoint.every=6", "training.validate_every=6", *slow)
    parts = run / "evaluation" / "test-parts"
    with Supervised(run, words) as training:
        training.until(lambda: len(decoded(parts)) >= 20)
        launch, ranks = training.launcher("launch"), training.rank_processes()
        assert launch is not None
        for process in (launch, *ranks):
            process.kill()
        before = decoded(parts)
        marked = before[0] | {"rows": [row | {"prediction": "kept"} for row in before[0]["rows"]]}
        with open(next(parts.iterdir()), "a") as file:  # to be seen in what comes of it
            file.write("\n" + json.dumps(marked) + "\n")
        assert not (run / "evaluation" / "test.json").exists(), "the kill came too late to show anything"
        assert training.wait() == FINISHED, training.output
        assert len(training.said()) == 1
    assert training.records("end")[-1]["outcome"] == "finished"
    assert not parts.exists()
    found = predictions(run)
    kept = {row["number"] for row in marked["rows"]}
    assert {number for number, text in found.items() if text == "kept"} == kept

    done = d2tv("evaluate", run, "evaluation.batch_size=7")
    assert done.returncode == 0, done.stderr
    again = predictions(run)
    assert {number: text for number, text in again.items() if number not in kept} == {
        number: text for number, text in found.items() if number not in kept
    }
    assert len(again) > 100


def decoded(parts: Path) -> list[dict[str, Any]]:
    """The batches that are done."""
    lines = [line for path in parts.glob("*.jsonl") for line in path.read_text().splitlines() if line.endswith("}")]
    return [json.loads(line) for line in lines]
