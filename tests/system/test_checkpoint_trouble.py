"""Disks that are full or read-only, checkpoints that are damaged, and `--resume`, in real runs on two ranks."""

import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shards.format.index import Corpus
from tests.support.launch import Training
from tests.support.tiny import tiny_overrides
from trainer.checkpoint.directory import damage, identity, read_state, whole_checkpoints
from trainer.evaluation.report import read_report
from trainer.liveness.exit_codes import BAD_INPUT, FINISHED
from trainer.telemetry.metrics import read_metrics

STEPS, EVERY = 24, 4
#: Bytes of the disk: three checkpoints of the tiny network and some more.
DISK = 8_000_000


def overrides(corpus: Corpus, run: Path, *more: str) -> list[str]:
    return [
        *tiny_overrides(corpus.directory, run),
        "batch.groups_per_micro_batch=1",
        f"training.steps={STEPS}",
        "training.validate_every=100",
        f"checkpoint.every={EVERY}",
        *more,
    ]


def losses(run: Path) -> dict[int, Any]:
    records = read_metrics(run / "metrics.jsonl")
    return {record["step"]: record["loss"] for record in records if record["kind"] == "train"}


def steps_of(run: Path) -> list[int]:
    return [read_state(checkpoint).step for checkpoint in whole_checkpoints(run / "checkpoints")]


@pytest.fixture(scope="module")
def undisturbed(tiny_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that keeps every checkpoint."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    with Training(run, overrides(tiny_corpus, run, "checkpoint.keep_last=100")) as training:
        assert training.wait() == FINISHED, training.output
    return run


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(place)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a file system of a few megabytes needs root: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path) -> Path:
    """Leave no byte."""
    junk = disk / "junk"
    with open(junk, "wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            return junk
    raise AssertionError("the disk never filled")


def a_run_on(disk: Path) -> Path:
    """A run directory on the small disk; what the launcher prints goes elsewhere."""
    (disk / "run").mkdir()
    run = disk.parent / "run"
    run.symlink_to(disk / "run")
    return run


def test_a_full_disk_costs_checkpoints_but_not_the_run(tiny_corpus: Corpus, disk: Path, undisturbed: Path) -> None:
    run = a_run_on(disk)
    with Training(run, overrides(tiny_corpus, run, "checkpoint.keep_last=1")) as training:
        training.until(lambda: steps_of(run)[:1] >= [EVERY])
        junk = fill(disk)
        training.until(lambda: "could be written" in training.output)
        (sound,) = whole_checkpoints(run / "checkpoints")
        assert damage(sound) is None
        junk.unlink()
        assert training.wait() == FINISHED, training.output
    assert not list((run / "checkpoints").glob(".staging-*"))
    assert "no checkpoint of step" in training.output
    assert "No space left on device" in training.output
    assert "Traceback" not in training.output
    assert steps_of(run) == [STEPS]
    assert "metrics.jsonl cannot be written, lines of it are lost" in training.output
    found, expected = losses(run), losses(undisturbed)
    assert found.items() <= expected.items()
    assert found.keys() >= {1, STEPS}


def test_a_disk_that_stays_read_only_ends_the_run_with_one_line_and_the_last_good_checkpoint(
    tiny_corpus: Corpus, disk: Path
) -> None:
    run = disk.parent / "run"
    run.mkdir()
    # The checkpoints alone: what has a file open for writing, like metrics.jsonl, cannot be made read-only.
    (disk / "checkpoints").mkdir()
    (run / "checkpoints").symlink_to(disk / "checkpoints")
    with Training(run, overrides(tiny_corpus, run)) as training:
        training.until(lambda: steps_of(run)[:1] >= [EVERY])
        while True:
            training.signal_all(signal.SIGSTOP)
            before = steps_of(run)
            # Refused while a checkpoint is being written.
            mounted = subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=False, capture_output=True)
            training.signal_all(signal.SIGCONT)
            if mounted.returncode == 0:
                break
            assert training.ended() is None, training.output
        assert training.wait() == BAD_INPUT, training.output
    errors = [line for line in training.output.splitlines() if line.startswith("error:")]
    assert len(errors) == 1, training.output
    assert f"the state of step {STEPS} is lost" in errors[0]
    assert "Read-only file system" in errors[0]
    assert "Traceback" not in training.output
    assert steps_of(run) == before
    assert damage(whole_checkpoints(run / "checkpoints")[0]) is None


@pytest.fixture
def stopped(undisturbed: Path, tmp_path: Path) -> Path:
    """The undisturbed run as it lay there after step 16."""
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    for checkpoint in whole_checkpoints(run / "checkpoints"):
        if read_state(checkpoint).step > 16:
            shutil.rmtree(checkpoint)
    return run


def flip(checkpoint: Path) -> None:
    """One bit of one rank's tensors."""
    path = sorted(checkpoint.glob("state-*.safetensors"))[-1]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_damaged_checkpoint_is_passed_over_and_told_of(tiny_corpus: Corpus, stopped: Path, undisturbed: Path) -> None:
    """And what is not the run's own stays among its checkpoints, where no save fails for it."""
    checkpoints = stopped / "checkpoints"
    newest = whole_checkpoints(checkpoints)[0]
    shutil.copytree(newest, beyond := checkpoints / "step-00000099")
    flip(newest)
    flip(beyond)
    (checkpoints / ".discarded-x").symlink_to(undisturbed)
    (checkpoints / ".staging-foo").touch()
    with Training(stopped, overrides(tiny_corpus, stopped, "checkpoint.keep_last=100")) as training:
        assert training.wait() == FINISHED, training.output
    assert f"{newest.name} is damaged (state-00001-of-00002.safetensors is not what was written)" in training.output
    assert "going on from step 12" in training.output
    assert losses(stopped) == losses(undisturbed)
    assert [damage(checkpoint) for checkpoint in whole_checkpoints(checkpoints)[1:]] == [None] * (STEPS // EVERY)
    # The evaluation is of what was trained, not of the newest directory.
    report = read_report(stopped, "test")
    assert report is not None
    assert report["checkpoint"] == identity(checkpoints / f"step-{STEPS:08d}")
    for name in (".discarded-x", ".staging-foo"):
        assert training.output.count(f"{checkpoints / name} is left where it is") == 1
        assert (checkpoints / name).exists()


def test_where_all_are_damaged_nothing_begins_anew(tiny_corpus: Corpus, stopped: Path) -> None:
    for checkpoint in whole_checkpoints(stopped / "checkpoints"):
        flip(checkpoint)
    with Training(stopped, overrides(tiny_corpus, stopped)) as training:
        assert training.wait() == BAD_INPUT, training.output
    (error,) = (line for line in training.output.splitlines() if line.startswith("error:"))
    assert "every checkpoint under" in error
    assert "Traceback" not in training.output
    assert steps_of(stopped) == [16, 12, 8, 4]


def test_latest_and_best_name_whole_checkpoints(tiny_corpus: Corpus, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = overrides(
        tiny_corpus, run, "training.validate_every=4", "checkpoint.keep_best=mean", "checkpoint.keep_last=1"
    )
    with Training(run, [*words, "checkpoint.keep_every=8"]) as training:
        assert training.wait() == FINISHED, training.output
    nll = {
        record["step"]: sum(record["nll"].values()) / 2 for record in training.records("validation") if record["step"]
    }
    best = min(nll, key=lambda step: nll[step])
    assert (run / "checkpoints" / "latest").read_text() == "step-00000024\n"
    assert (run / "checkpoints" / "best").read_text() == f"step-{best:08d}\n"
    assert steps_of(run) == sorted({8, 16, 24, best}, reverse=True)
