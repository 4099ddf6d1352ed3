"""The batch scripts on a real Slurm of two nodes: time limits, cancelled jobs, lost nodes, arrays."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from shards.format.index import Corpus, open_corpus
from tests.support import prepare
from tests.support.crosssum_tree import CrossSumTree
from tests.support.forkserver import ROOT
from tests.support.harness import FP32, free_port
from tests.support.slurm import LOOK, NODES, Job, Slurm, missing
from tests.support.tiny import tiny_overrides
from tests.support.waiting import until
from trainer.checkpoint.directory import damage, read_state, whole_checkpoints
from trainer.liveness.exit_codes import BAD_INPUT, STOPPED
from trainer.telemetry.metrics import read_metrics

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(missing() is not None, reason=f"needs a real Slurm: {missing()}"),
]

STEPS = 60
TWO_NODES = ("--nodes=2", "--ntasks-per-node=1")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Slurm]:
    with Slurm() as slurm:
        yield slurm


@pytest.fixture
def slurm(cluster: Slurm) -> Iterator[Slurm]:
    """The cluster, free again for the next test whatever becomes of this one."""
    yield cluster
    cluster.clear()


def overrides(corpus: Corpus, run: Path, *more: str) -> list[str]:
    words = ("batch.groups_per_micro_batch=1", f"training.steps={STEPS}", "checkpoint.every=8")
    return [*tiny_overrides(corpus.directory, run), *words, "training.validate_every=20", *more]


def train(slurm: Slurm, run: Path, words: Sequence[str], *options: str, **environment: str) -> Job:
    log = run.with_name("train.log")
    return slurm.submit(
        log, "train.sbatch", "--ds_config", str(FP32), *words, options=(*TWO_NODES, *options), **environment
    )


def records(run: Path, kind: str) -> list[dict[str, Any]]:
    path = run / "metrics.jsonl"
    return [record for record in read_metrics(path) if record["kind"] == kind] if path.is_file() else []


def losses(run: Path) -> dict[int, Any]:
    return {record["step"]: (record["loss"], record["nll"]) for record in records(run, "train")}


def last_step(run: Path) -> int:
    return max(losses(run), default=0)


@pytest.fixture(scope="module")
def undisturbed(cluster: Slurm, tiny_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two nodes that nothing happens to."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    job = train(cluster, run, overrides(tiny_corpus, run))
    assert job.wait() == ("COMPLETED", 0), job.output
    assert f"2 tasks on no-such-host-[1-2], meeting at {NODES[0]}:2" in job.output
    assert " (127.0.0.1)\n" in job.output
    assert "joining 2 ranks" in job.output
    assert f"held-out stories, step {STEPS}" in job.output
    return run


def test_two_nodes_train_one_run(undisturbed: Path) -> None:
    assert list(losses(undisturbed)) == list(range(1, STEPS + 1))
    assert read_state(whole_checkpoints(undisturbed / "checkpoints")[0]).world_size == 2


def was_sent(process: psutil.Process, number: int) -> bool:
    """Return True if a process that is held has this signal waiting, or has gone: Slurm wakes it as well."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    (mask,) = (line.split()[1] for line in status.splitlines() if line.startswith("ShdPnd:"))
    return bool(int(mask, 16) >> (number - 1) & 1)


def test_the_time_limit_and_a_lost_node_cost_no_step(
    slurm: Slurm, tiny_corpus: Corpus, undisturbed: Path, tmp_path: Path
) -> None:
    """USR1 before the time is up: checkpoint, requeue. A node down: requeue. The losses are the undisturbed run's."""
    run = tmp_path / "run"
    job = train(slurm, run, overrides(tiny_corpus, run), "--time=60", "--signal=USR1@110")
    job.until(lambda: last_step(run) >= 3)
    # Slurm looks every half minute only: until then the ranks are held, for they would have finished.
    ranks = slurm.processes("python")
    assert len(ranks) >= 2
    for rank in ranks:
        rank.suspend()
    # It counts in minutes: one or two are left, of which the job wants to be warned of 110 seconds.
    minutes, seconds = map(int, job.fields()["RunTime"].split(":")[-2:])
    job.update(TimeLimit=str(minutes + (seconds > 0) + 1))
    job.until(lambda: all(was_sent(rank, signal.SIGUSR1) for rank in ranks))
    for rank in ranks:
        with contextlib.suppress(psutil.NoSuchProcess):
            rank.resume()
    job.until(lambda: "is requeued" in job.output)
    stopped_at = last_step(run)
    assert 3 <= stopped_at < STEPS, "the signal came too late to show anything"
    assert "stopped with a checkpoint" in job.output
    job.update(TimeLimit="60")

    job.until(lambda: last_step(run) > stopped_at)
    assert f"going on from step {stopped_at}" in job.output
    slurm.call("scontrol", "update", f"nodename={NODES[1]}", "state=down", "reason=test")
    job.until(lambda: job.fields()["Restarts"] == "2", pause=LOOK)
    assert last_step(run) < STEPS, "the node went too late to show anything"
    slurm.call("scontrol", "update", f"nodename={NODES[1]}", "state=resume")
    assert job.wait() == ("COMPLETED", 0), job.output
    assert "NODE FAILURE" in job.output
    assert losses(run) == losses(undisturbed)


def test_scancel_leaves_a_whole_checkpoint_and_no_job(slurm: Slurm, tiny_corpus: Corpus, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = overrides(tiny_corpus, run, "training.steps=100000", "checkpoint.every=100000")
    job = train(slurm, run, [*words, "training.validate_every=100000"])
    job.until(lambda: last_step(run) >= 3)
    job.cancel()
    assert job.wait()[0] == "CANCELLED"
    until(lambda: "ended by Slurm" in job.output, slurm.logs)
    (checkpoint,) = whole_checkpoints(run / "checkpoints")
    assert damage(checkpoint) is None
    assert read_state(checkpoint).step == last_step(run)
    assert f"ended by Slurm or by scancel, its ranks with code {STOPPED}" in job.output
    assert job.fields()["Restarts"] == "0"


def test_a_bad_input_is_one_line_a_node_and_not_requeued(slurm: Slurm, tmp_path: Path) -> None:
    """From another directory than the repository, all arguments by environment: `*` does not become a file's name."""
    (tmp_path / "loader.threads=2").write_text("")
    arguments = {"DS_CONFIG": str(FP32), "RECIPE": "mms", "RUN": "run", "OVERRIDES": "loader.threads=*\nno.key=c"}
    options = (*TWO_NODES, f"--chdir={tmp_path}")
    job = slurm.submit(tmp_path / "log", "train.sbatch", options=options, REPO=str(ROOT), **arguments)
    assert job.wait() == ("FAILED", BAD_INPUT)
    error = "error: recipe mms: loader.threads: must be a whole number"
    assert [line[: len(error)] for line in job.output.splitlines() if line.startswith("error:")] == [error] * 2
    assert "Traceback" not in job.output
    assert job.fields()["Restarts"] == "0"


@pytest.mark.parametrize(
    ("words", "environment", "error"),
    [
        (["run=x"], {}, "no DeepSpeed config: set DS_CONFIG, or add --ds_config FILE"),
        ([], {"DS_CONFIG": "x", "REPO": "/nowhere"}, "no repository at /nowhere"),
        ([], {"DS_CONFIG": "x", "VENV": "/nowhere"}, "VENV=/nowhere has no bin/python"),
        ([], {"DS_CONFIG": "x", "SETUP": "/nowhere"}, "SETUP=/nowhere cannot be read"),
        ([], {"DS_CONFIG": "x", "SLURM_GPUS_ON_NODE": "8"}, "8 GPUs but 1 tasks on the first node"),
    ],
)
def test_what_the_script_itself_refuses(
    slurm: Slurm, tmp_path: Path, words: list[str], environment: dict[str, str], error: str
) -> None:
    job = slurm.submit(tmp_path / "log", "train.sbatch", *words, options=TWO_NODES, **environment)
    assert job.wait() == ("FAILED", BAD_INPUT)
    assert job.output.startswith(f"error: {error}")
    assert job.output.count("\n") == 1


def test_a_planted_directory_for_compiled_code_is_refused(slurm: Slurm, tmp_path: Path) -> None:
    planted = tmp_path / f"d2tv-{os.getuid()}"
    planted.mkdir()
    planted.chmod(0o777)
    words = ("train.sbatch", "--ds_config=x")
    job = slurm.submit(tmp_path / "log", *words, TMPDIR=str(tmp_path), TORCH_EXTENSIONS_DIR="")
    assert job.wait() == ("FAILED", 2)
    assert f"error: {planted} on " in job.output
    assert "can be written by others" in job.output
    assert job.output.count("\n") == 1


def test_another_world_size_than_slurms_is_refused(slurm: Slurm, tiny_corpus: Corpus, tmp_path: Path) -> None:
    job = train(slurm, tmp_path / "run", overrides(tiny_corpus, tmp_path / "run"), WORLD_SIZE="4")
    assert job.wait() == ("FAILED", BAD_INPUT)
    errors = [line for line in job.output.splitlines() if line.startswith("error:")]
    assert [line.split(", of which")[0] for line in errors] == ["error: WORLD_SIZE is 4, but Slurm started 2 tasks"] * 2
    assert not (tmp_path / "run").exists()


#: A sitecustomize.py: Python, where it is a task of srun, says what it was given, and crashes. It leaves what one
#: leaves behind that is killed in the middle of compiling.
CRASH = """
import os, pathlib
if "SLURM_STEP_ID" in os.environ:
    print("words", *pathlib.Path("/proc/self/cmdline").read_text().split("\\0")[2:-1], sep="|")
    extensions = pathlib.Path(os.environ["TORCH_EXTENSIONS_DIR"])
    extensions.mkdir(parents=True, exist_ok=True)
    print("compiled in", extensions.parents[2], *sorted(path.name for path in extensions.iterdir()), flush=True)
    (extensions / "operator.so").touch()
    os._exit(3)
"""


#: The same for one that hears USR1 before Python has any handler, and is refused the next time.
STOPPED_AT_ONCE = """
import os, signal
if "SLURM_STEP_ID" in os.environ:
    if os.environ.get("SLURM_RESTART_COUNT", "0") == "0":
        os.kill(os.getpid(), signal.SIGUSR1)
    os._exit(2)
"""


def test_a_stop_before_python_begins_is_requeued_and_no_crash(slurm: Slurm, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(STOPPED_AT_ONCE)
    job = slurm.submit(tmp_path / "log", "train.sbatch", "--ds_config=x", PYTHONPATH=str(tmp_path), MAX_RESTARTS="0")
    assert job.wait() == ("FAILED", BAD_INPUT)
    assert job.fields()["Restarts"] == "1"
    assert "stopped before there was anything to save" in job.output
    assert "crashes" not in job.output


def test_crashes_are_requeued_so_many_times(slurm: Slurm, tmp_path: Path) -> None:
    """Arguments, the log and a person's comment outlive a requeue, and so does what was compiled."""
    (tmp_path / "sitecustomize.py").write_text(CRASH)
    job = slurm.submit(
        tmp_path / "log",
        *("train.sbatch", "a=en-*", "--ds_config=x", "--resume", "never", "b= c"),
        options=("--comment=mine",),
        PYTHONPATH=str(tmp_path),
        MAX_RESTARTS="2",
        OVERRIDES="d=*\ne=1",
        TORCH_EXTENSIONS_DIR="",
    )
    assert job.wait() == ("FAILED", 3)
    lines = job.output.splitlines()
    attempts = [line for line in lines if line.startswith("words|")]
    assert attempts[0] == "words|d=*|e=1|a=en-*|--ds_config=x|--resume|never|b= c"
    assert attempts[1:] == [f"{attempts[0]}|--resume|auto"] * 2
    first, *later = [line for line in lines if line.startswith("compiled in")]
    assert first == f"compiled in {slurm.directory}"
    assert later == [f"{first} operator.so"] * 2
    assert "error: the ranks ended with code 3, and MAX_RESTARTS=2 crashes in a row" in job.output
    assert slurm.call("squeue", "--noheader", "--states=all", "--format=%k", "--job", job.number) == "mine crashes=2"


def test_evaluate_scores_the_newest_checkpoint(slurm: Slurm, undisturbed: Path, tmp_path: Path) -> None:
    job = slurm.submit(tmp_path / "log", "evaluate.sbatch", str(undisturbed), "evaluation.directions=en-*")
    assert job.wait() == ("COMPLETED", 0), job.output
    assert "held-out stories" in job.output
    assert "MXLS" in job.output


def test_torchrun_as_a_task_of_srun(slurm: Slurm, tiny_corpus: Corpus, undisturbed: Path, tmp_path: Path) -> None:
    """The command of docs/clusters.md: torchrun's ranks are not taken for srun's tasks."""
    run = tmp_path / "run"
    torchrun = Path(sys.executable).with_name("torchrun")
    where = ("--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{free_port()}")
    words = ("launcher/train.py", "--ds_config", str(FP32), *overrides(tiny_corpus, run))
    slurm.call("srun", *TWO_NODES, str(torchrun), *where, *words)
    assert losses(run) == losses(undisturbed)


def test_a_hostfile(slurm: Slurm, tiny_corpus: Corpus, undisturbed: Path, tmp_path: Path) -> None:
    """Of this host alone: others are reached over ssh, which a test has no other end of."""
    run, hosts = tmp_path / "run", tmp_path / "hosts"
    hosts.write_text("localhost slots=2\n")
    command = [
        str(Path(sys.executable).with_name("deepspeed")),
        "--hostfile",
        str(hosts),
        "--no_ssh_check",
        "--master_addr",
        "127.0.0.1",
    ]
    command += ["--master_port", str(free_port()), "launcher/train.py", "--ds_config", str(FP32)]
    done = subprocess.run(
        [*command, *overrides(tiny_corpus, run)], cwd=ROOT, env=slurm.environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert losses(run) == losses(undisturbed)


def test_an_array_builds_one_corpus(slurm: Slurm, tmp_path: Path) -> None:
    """Two parts and the job that waits for them, against one process without Slurm."""
    tree = CrossSumTree(tmp_path / "data")
    for number in range(40):
        pages = [(language, f"https://x.example/{language}.{number}") for language in ("english", "french")]
        for language, url in pages:
            tree.article(language, url, images=number % 3, text=f"{language} word{number} " * 8)
        tree.pair(*pages, both=True)
    words = ["--data", str(tree.write()), "--vocab-size=300", "--stories-per-shard=6"]
    alone = tmp_path / "alone"
    code, _, errors = prepare.run("crosssum", "--out", alone, *words)
    assert code == 0, errors

    out = tmp_path / "corpus"
    parts = slurm.submit(
        tmp_path / "%a.log", "prepare.sbatch", "crosssum", *words, options=["--array=1-2"], OUT=str(out)
    )
    options = (f"--dependency=afterok:{parts.number}", "--kill-on-invalid-dep=yes")
    finish = slurm.submit(
        tmp_path / "finish.log", "prepare.sbatch", "crosssum", "--finish", *words, options=options, OUT=str(out)
    )
    assert finish.wait() == ("COMPLETED", 0), finish.output
    for part in (1, 2):
        assert "with --finish for --part" in (tmp_path / f"{part}.log").read_text()
    assert open_corpus(out).content_hash == open_corpus(alone).content_hash


@pytest.mark.parametrize(("array", "error"), [("3", "PARTS"), ("1-3:2", "PARTS")])
def test_what_is_left_of_an_array_is_not_taken_for_all(slurm: Slurm, tmp_path: Path, array: str, error: str) -> None:
    job = slurm.submit(tmp_path / "log", "prepare.sbatch", "emoji", options=[f"--array={array}"])
    assert job.wait() == ("FAILED", BAD_INPUT)
    assert error in job.output
