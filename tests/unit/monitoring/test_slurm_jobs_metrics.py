"""slurm_jobs.sh against squeue's output as a file would give it; tests/system runs it on a real Slurm."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.monitoring import MONITORING, ROOT
from trainer.telemetry.prometheus.metric_table import CLUSTER

SCRIPT = MONITORING / "slurm_jobs.sh"


def run(
    tmp_path: Path, output: str, *words: str, code: int = 0, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run it with a squeue that prints `output`, ends with `code`, and leaves its arguments in `asked`."""
    squeue = tmp_path / "bin" / "squeue"
    squeue.parent.mkdir(exist_ok=True)
    (tmp_path / "output").write_text(output)
    squeue.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\ncat {tmp_path}/output\nexit {code}\n')
    squeue.chmod(0o755)
    path = f"{squeue.parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [str(SCRIPT), *words], capture_output=True, text=True, env=os.environ | {"PATH": path} | environment
    )


def jobs(text: str) -> list[tuple[str, str]]:
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert abs(families["d2tv_slurm_jobs_timestamp_seconds"].samples[0].value - time.time()) < 60
    running = families["d2tv_slurm_job_running"]
    assert running.type == "gauge"
    assert all(sample.value == 1 for sample in running.samples)
    return [(sample.labels["slurm_job"], sample.labels["name"]) for sample in running.samples]


def test_running_jobs_are_listed(tmp_path: Path) -> None:
    done = run(tmp_path, '17 d2tv-train\n18 a "b" \\c\n')
    assert done.returncode == 0, done.stderr
    assert jobs(done.stdout) == [("17", "d2tv-train"), ("18", 'a "b" \\c')]
    assert "--states=RUNNING --name=d2tv-train " in (tmp_path / "asked").read_text()


def test_the_name_is_that_of_the_job_script() -> None:
    assert "#SBATCH --job-name=d2tv-train\n" in (ROOT / "launcher" / "slurm" / "train.sbatch").read_text()


def test_what_it_prints_is_declared(tmp_path: Path) -> None:
    families = {family.name: family for family in text_string_to_metric_families(run(tmp_path, "17 one\n").stdout)}
    assert families.keys() == {metric.full_name for metric in CLUSTER}
    for metric in CLUSTER:
        assert set(families[metric.full_name].samples[0].labels) == set(metric.labels)


def test_jobs_of_other_names(tmp_path: Path) -> None:
    run(tmp_path, "", JOB_NAMES="one,two")
    assert "--name=one,two " in (tmp_path / "asked").read_text()


def test_no_job_is_no_series_but_a_time(tmp_path: Path) -> None:
    done = run(tmp_path, "")
    assert done.returncode == 0
    assert jobs(done.stdout) == []


def test_a_file_is_replaced_whole_and_readable_by_node_exporter(tmp_path: Path) -> None:
    file = tmp_path / "d2tv.prom"
    file.write_text("old\n")
    before = file.stat().st_ino
    done = run(tmp_path, "17 d2tv-train\n", str(file))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert jobs(file.read_text()) == [("17", "d2tv-train")]
    assert file.stat().st_ino != before
    assert file.stat().st_mode & 0o777 == 0o644
    assert sorted(path.name for path in tmp_path.glob("d2tv.prom*")) == ["d2tv.prom"]


def test_where_squeue_fails_the_old_file_stays(tmp_path: Path) -> None:
    file = tmp_path / "d2tv.prom"
    file.write_text("old\n")
    assert run(tmp_path, "", str(file), code=1).returncode == 1
    assert file.read_text() == "old\n"
    assert sorted(path.name for path in tmp_path.glob("d2tv.prom*")) == ["d2tv.prom"]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool here: apt install prometheus")
def test_promtool_has_nothing_to_say(tmp_path: Path) -> None:
    text = run(tmp_path, "17 d2tv-train\n").stdout
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="no shellcheck here: apt install shellcheck")
def test_shellcheck_is_silent() -> None:
    done = subprocess.run(["shellcheck", str(SCRIPT)], capture_output=True, text=True)
    assert done.stdout + done.stderr == ""


def test_it_can_be_executed() -> None:
    assert os.access(SCRIPT, os.X_OK)


@pytest.mark.parametrize("linked", [False, True])
def test_what_is_no_regular_file_is_refused(tmp_path: Path, linked: bool) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    done = run(tmp_path, "", str(tmp_path / ("link" if linked else "pipe")))
    assert done.returncode == 2
    assert "is not a regular file" in done.stderr
    assert done.stderr.count("\n") == 1
    assert (tmp_path / "pipe").is_fifo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["asked", "bin", "link", "output", "pipe"]


def test_a_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "d2tv.prom").symlink_to("there/jobs.prom")
    assert run(tmp_path, "17 d2tv-train\n", str(tmp_path / "d2tv.prom")).returncode == 0
    assert os.readlink(tmp_path / "d2tv.prom") == "there/jobs.prom"
    assert jobs((tmp_path / "there" / "jobs.prom").read_text()) == [("17", "d2tv-train")]
