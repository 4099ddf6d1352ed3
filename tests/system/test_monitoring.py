"""A real Prometheus beside a real run on two ranks: targets, every panel of every dashboard, alerts that faults raise.

One run, to which things happen one after the other: a damaged shard from the start, checkpoints that cannot be written,
a rank that is stopped, a Slurm job without an endpoint, and the end.
"""

import functools
import http.server
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from shards.format.index import Corpus
from tests.support.launch import Training
from tests.support.monitoring import MONITORING, dashboards, panel_queries
from tests.support.prometheus import Prometheus, missing
from tests.support.tiny import tiny_overrides
from trainer.liveness.exit_codes import FINISHED

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
]

RUN, JOB, LOST_JOB = "mt5", "4242", "4243"
STEPS = 220


def overrides(corpus: Path, run: Path) -> list[str]:
    return [
        *tiny_overrides(corpus, run),
        "batch.groups_per_micro_batch=1",
        f"training.steps={STEPS}",
        "training.log_every=2",
        "training.validate_every=40",
        "checkpoint.every=20",
        "loader.threads=2",
        "loader.retry_seconds=0.001",
        "loader.max_unreadable_share=0.9",
        "prometheus.enabled=true",
        "prometheus.port=0",
        "prometheus.direction_matrix=true",
        f"prometheus.targets={run.parent / 'targets'}",
    ]


@dataclass(slots=True)
class Story:
    """What was seen of the run. firing: the alerts that fired at the end of each of its parts."""

    prometheus: Prometheus
    begin: float
    end: float = 0.0
    up: dict[str, str] = field(default_factory=dict)  # labels of the one target
    ranks: list[dict[str, str]] = field(default_factory=list)  # labels of d2tv_rank_busy_seconds
    firing: dict[str, set[str]] = field(default_factory=dict)
    stalled: list[dict[str, Any]] = field(default_factory=list)  # the alert as Prometheus tells of it
    targets_left: list[str] = field(default_factory=list)


def damaged(corpus: Corpus, directory: Path) -> Path:
    """A copy of the corpus with one bit of the first article with images turned over in every shard."""
    shutil.copytree(corpus.directory, directory)
    for number, name in enumerate(corpus.shards):
        of_shard = (corpus.articles["shard"] == number) & (corpus.articles["images"] > 0)
        place = int(corpus.articles["roi_offset"][np.flatnonzero(of_shard)[0]]) + 300
        with open(directory / name, "r+b") as tar:
            tar.seek(place)
            (byte,) = tar.read(1)
            tar.seek(place)
            tar.write(bytes([byte ^ 1]))
    return directory


@contextmanager
def node_exporter(folder: Path) -> Iterator[tuple[str, Path]]:
    """host:port of a server of `folder`/metrics, as a node_exporter serves slurm_jobs.sh's file, and that file."""
    (folder / "files").mkdir()
    handler = functools.partial(QuietHandler, directory=str(folder / "files"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}", folder / "files" / "metrics"
        finally:
            server.shutdown()
            thread.join()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


def tell_jobs(folder: Path, file: Path) -> None:
    """slurm_jobs.sh, of a Slurm that runs two jobs."""
    squeue = folder / "bin" / "squeue"
    squeue.parent.mkdir(exist_ok=True)
    squeue.write_text(f"#!/bin/sh\necho {JOB} d2tv-train; echo {LOST_JOB} d2tv-train\n")
    squeue.chmod(0o755)
    path = f"{squeue.parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run([MONITORING / "slurm_jobs.sh", file], check=True, env=os.environ | {"PATH": path})


@pytest.fixture(scope="module")
def story(tiny_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("monitoring")
    run, targets = folder / RUN, folder / "targets"
    targets.mkdir()
    words = overrides(damaged(tiny_corpus, folder / "corpus"), run)
    with (
        pytest.MonkeyPatch.context() as patch,
        node_exporter(folder) as (jobs, jobs_file),
        Prometheus(targets, jobs) as prometheus,
    ):
        patch.setenv("SLURM_JOB_ID", JOB)  # what an endpoint under Slurm finds
        story = Story(prometheus, time.time())
        with Training(run, words) as training:
            live(story, training, lambda: tell_jobs(folder, jobs_file))
            assert training.wait() == FINISHED, training.output
            story.targets_left = sorted(path.name for path in targets.iterdir())
        prometheus.until(lambda: not prometheus.query('up{job="d2tv"}'))
        prometheus.until(lambda: "D2tvSlurmJobsUnknown" in prometheus.firing())
        # Rules are evaluated one after the other: what fired while the endpoint closed is over with the next round.
        prometheus.until(lambda: "D2tvEndpointDown" not in prometheus.firing())
        story.firing["after the end"] = prometheus.firing()
        story.end = time.time()
        yield story


def live(story: Story, training: Training, tell: Any) -> None:
    """The run's life, until it is left alone to finish."""
    prometheus = story.prometheus

    def fires(name: str) -> bool:
        assert training.ended() is None, training.output
        tell()
        return name in prometheus.firing()

    def expect(name: str, part: str) -> None:
        prometheus.until(lambda: fires(name))
        story.firing[part] = prometheus.firing()

    prometheus.until(lambda: bool(prometheus.query("d2tv_checkpoint_bytes > 0")))
    (up,) = prometheus.query('up{job="d2tv"}')
    story.up = up["metric"]
    story.ranks = [series["metric"] for series in prometheus.query("d2tv_rank_busy_seconds")]
    story.firing["at the start"] = prometheus.firing()
    expect("D2tvPlaceholdersRising", "a damaged shard")

    checkpoints = training.run / "checkpoints"
    checkpoints.rename(training.run / "hidden")
    checkpoints.write_text("this is no directory")
    expect("D2tvCheckpointsFailing", "no place for checkpoints")
    expect("D2tvCheckpointOverdue", "no checkpoint for long")
    checkpoints.unlink()
    (training.run / "hidden").rename(checkpoints)
    prometheus.until(lambda: not fires("D2tvCheckpointOverdue"))

    other = psutil.Process(training.ranks[1].pid)
    other.suspend()
    try:
        expect("D2tvRunStalled", "a rank is stopped")
        alerts = prometheus.get("alerts")["alerts"]
        story.stalled = [alert for alert in alerts if alert["labels"]["alertname"] == "D2tvRunStalled"]
        # What wants time alone costs no steps now.
        expect("D2tvSlurmJobWithoutEndpoint", "a job without an endpoint")
        prometheus.until(lambda: bool(prometheus.query("run:d2tv_rank_tokens_per_second:median6h")))
    finally:
        other.send_signal(signal.SIGCONT)
    prometheus.until(lambda: not fires("D2tvRunStalled"))
    story.firing["it goes on"] = prometheus.firing()


def test_the_target_has_its_labels(story: Story) -> None:
    instance = story.up.pop("instance")
    assert instance.startswith("127.0.0.1:")
    node = story.up.pop("node")
    assert node
    assert story.up == {"__name__": "up", "job": "d2tv", "run": RUN, "rank": "0", "slurm_job": JOB}


def test_series_of_a_rank_keep_their_own_label(story: Story) -> None:
    assert sorted(labels["rank"] for labels in story.ranks) == ["0", "1"]
    assert all("exported_rank" not in labels for labels in story.ranks)
    assert {labels["run"] for labels in story.ranks} == {RUN}


def test_nothing_is_left_behind_at_the_end(story: Story) -> None:
    assert story.targets_left == []
    # While it closes a scrape may fail for longer than five minutes, which are 2.5 s here; it must not stay.
    assert "D2tvEndpointDown" not in story.firing["after the end"]


def test_faults_raise_their_alerts_and_no_others(story: Story) -> None:
    expected = {
        "a damaged shard": "D2tvPlaceholdersRising",
        "no place for checkpoints": "D2tvCheckpointsFailing",
        "no checkpoint for long": "D2tvCheckpointOverdue",
        "a rank is stopped": "D2tvRunStalled",
        "a job without an endpoint": "D2tvSlurmJobWithoutEndpoint",
        "after the end": "D2tvSlurmJobsUnknown",
    }
    for part, name in expected.items():
        assert name in story.firing[part]
    # Not those that tell of slowness: on this machine and in this hurry they may be right.
    never = {"D2tvLossNotFinite", "D2tvStepsSkipped", "D2tvRolledBack", "D2tvRunRestarting", "D2tvDiskFull"}
    assert not never & set().union(*story.firing.values())
    assert "D2tvCheckpointsFailing" not in story.firing["at the start"]
    assert "D2tvRunStalled" not in story.firing["it goes on"]


def test_an_alert_tells_run_and_values(story: Story) -> None:
    (alert,) = story.stalled
    assert alert["labels"]["run"] == RUN
    assert alert["annotations"]["summary"] == f"Run {RUN} does nothing"
    assert alert["annotations"]["description"].startswith("No step, no batch of an evaluation and no checkpoint for ")
    assert alert["annotations"]["runbook"] == "docs/runbook.md#d2tvrunstalled"


def test_every_query_of_every_panel_has_data(story: Story) -> None:
    empty, asked = [], 0
    for board in dashboards().values():
        for query in panel_queries(board):
            expr = query.expr.replace("$run", RUN).replace("$node", ".*")
            assert "$" not in expr, query.place
            if "d2tv_loss_scale" in expr:  # of fp16, which a CPU does not train in
                continue
            asked += 1
            if not story.prometheus.course(expr, story.begin, story.end):
                empty.append(f"{query.place}: {expr}")
    assert empty == []
    assert asked > 80


def test_variables_find_the_run_and_its_nodes(story: Story) -> None:
    between = {"start": str(story.begin), "end": str(story.end)}
    for board in dashboards().values():
        for variable in board["templating"]["list"]:
            if variable["type"] != "query":
                continue
            selector, label = variable["definition"].removeprefix("label_values(").removesuffix(")").rsplit(", ", 1)
            selector = selector.replace("$run", RUN)
            values = story.prometheus.get(f"label/{label}/values", **between, **{"match[]": selector})
            assert values == [RUN] if label == "run" else len(values) == 1, json.dumps(values)
