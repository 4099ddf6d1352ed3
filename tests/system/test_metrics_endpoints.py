"""Hold what two ranks on two nodes serve against docs/metrics.md, from the first step to the last scrape."""

import json
import re
import shutil
import signal
import subprocess
import threading
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from shards.format.index import Corpus
from tests.support.forkserver import ROOT, Program
from tests.support.harness import FP32, free_port
from tests.support.tiny import tiny_overrides
from tests.support.waiting import HANGING, until
from trainer.evaluation.scoring.rouge import ROUGE
from trainer.liveness.exit_codes import BAD_INPUT, FINISHED, STOPPED
from trainer.telemetry.metrics import read_metrics
from trainer.telemetry.prometheus.metric_table import RUN

STEPS, SLOTS_A_STEP = 60, 16
NODES = ("n0", "n1")
#: Served by runs in fp16 alone, which a CPU does not train in.
IN_FP16 = {"d2tv_loss_scale"}


@dataclass(frozen=True, slots=True)
class Documented:
    """A row of docs/metrics.md."""

    kind: str
    labels: frozenset[str]
    of_the_node: bool


def documented() -> dict[str, Documented]:
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8").partition("## The cluster")[0]
    run, node = text.split("## The node")
    found = {}
    for text, of_the_node in ((run, False), (node, True)):
        for name, kind, labels in re.findall(r"^\| `(d2tv_\w+)` \| (\w+) \|([^|]*)\|", text, re.MULTILINE):
            found[name] = Documented(kind, frozenset(re.findall(r"`(\w+)`", labels)), of_the_node)
    return found


@dataclass(slots=True)
class Watcher:
    """Scrapes every target of a directory, again and again, and keeps each one's first and last answer."""

    targets: Path
    labels: dict[str, dict[str, str]] = field(default_factory=dict)  # by node
    first: dict[str, str] = field(default_factory=dict)
    last: dict[str, str] = field(default_factory=dict)
    _ended: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        while not self._ended.wait(0.25):
            for path in self.targets.glob("*.json") if self.targets.is_dir() else ():
                try:
                    ((group,),) = (json.loads(path.read_text()),)
                    (address,), node = group["targets"], group["labels"]["node"]
                    with urllib.request.urlopen(f"http://{address}/metrics", timeout=HANGING) as reply:
                        text = reply.read().decode()
                except OSError:
                    continue  # it has just ended
                self.labels[node] = group["labels"]
                self.first.setdefault(node, text)
                self.last[node] = text

    def end(self) -> None:
        self._ended.set()


def start(words: Sequence[str], log: Path, nodes: Sequence[str] = NODES) -> list[Program]:
    """A rank on each of these nodes, as srun would start them."""
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(len(nodes))}
    return [
        Program(
            "launcher/train.py",
            ["--ds_config", str(FP32), *words],
            output=log,
            environment=shared | {"RANK": str(rank), "LOCAL_RANK": "0", "SLURMD_NODENAME": node},
        )
        for rank, node in enumerate(nodes)
    ]


def overrides(corpus: Path, run: Path, *more: str) -> list[str]:
    return [
        *tiny_overrides(corpus, run),
        "batch.groups_per_micro_batch=1",
        f"training.steps={STEPS}",
        "training.validate_every=20",
        "checkpoint.every=20",
        "loader.threads=2",
        "loader.retry_seconds=0.001",
        "loader.max_unreadable_share=0.9",
        "prometheus.enabled=true",
        "prometheus.port=0",
        "prometheus.direction_matrix=true",
        *more,
    ]


def damaged(corpus: Corpus, directory: Path) -> Path:
    """A copy of the corpus with a bit of the first article with images turned over in every shard."""
    shutil.copytree(corpus.directory, directory)
    articles = corpus.articles
    for shard, name in enumerate(corpus.shards):
        row = int(np.flatnonzero((articles["shard"] == shard) & (articles["images"] > 0))[0])
        with open(directory / name, "r+b") as tar:
            tar.seek(int(articles["roi_offset"][row]) + 300)
            (byte,) = tar.read(1)
            tar.seek(-1, 1)
            tar.write(bytes([byte ^ 1]))
    return directory


@dataclass(frozen=True, slots=True)
class Watched:
    """The run: stopped by a signal once, started again, finished."""

    directory: Path
    targets: Path
    codes: list[list[int]]  # of every start, by rank
    watchers: list[Watcher]
    left: list[list[str]]  # target files that were left after each start
    records: list[list[dict[str, Any]]]  # of metrics.jsonl after each start


@pytest.fixture(scope="module")
def watched(tiny_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Watched:
    folder = tmp_path_factory.mktemp("endpoints")
    run = folder / "run"
    words = overrides(damaged(tiny_corpus, folder / "corpus"), run)
    found = Watched(run, folder / "targets", [], [], [], [])
    for number in range(2):
        watcher = Watcher(found.targets)
        thread = threading.Thread(target=watcher.watch)
        thread.start()
        ranks = start(words, folder / "log")
        try:
            if number == 0:
                until_step(run, 5, ranks, folder / "log")
                ranks[1].send_signal(signal.SIGTERM)
            codes = [rank.wait(HANGING) for rank in ranks]
        finally:
            for rank in ranks:
                rank.kill()
            watcher.end()
            thread.join()
        found.codes.append(codes)
        found.watchers.append(watcher)
        found.left.append([path.name for path in found.targets.iterdir()])
        found.records.append(read_metrics(run / "metrics.jsonl"))
    return found


def until_step(run: Path, step: int, ranks: Sequence[Program], log: Path) -> None:
    path = run / "metrics.jsonl"

    def reached() -> bool:
        assert all(rank.poll() is None for rank in ranks), log.read_text()
        return path.is_file() and max((record["step"] for record in read_metrics(path)), default=0) >= step

    until(reached, log.read_text)


def families(text: str) -> dict[str, Metric]:
    """By the name that a query would use."""
    found = {}
    for family in text_string_to_metric_families(text):
        found[family.name + ("_total" if family.type == "counter" else "")] = family
    return found


def values(text: str, name: str) -> dict[tuple[str, ...], float]:
    """Label values, in the order of the labels' names, -> value."""
    return {
        tuple(sample.labels[label] for label in sorted(sample.labels)): sample.value
        for family in families(text).values()
        for sample in family.samples
        if sample.name == name
    }


def labels_of(family: Metric) -> set[frozenset[str]]:
    return {frozenset(sample.labels) - {"le"} for sample in family.samples}


def wrong(served: Mapping[str, Metric], wanted: Mapping[str, Documented]) -> list[str]:
    """Return what differs, in words."""
    problems = [f"{name} is served and not documented" for name in served.keys() - wanted.keys()]
    problems += [f"{name} is documented and not served" for name in wanted.keys() - served.keys()]
    for name in served.keys() & wanted.keys():
        family, row = served[name], wanted[name]
        if family.type != row.kind or not family.samples or labels_of(family) != {row.labels}:
            problems.append(f"{name}: {family.type} with {labels_of(family)}, but {row} in docs/metrics.md")
    return problems


def test_the_document_says_what_a_run_serves(watched: Watched) -> None:
    assert watched.codes[1] == [FINISHED, FINISHED]
    wanted = {name: row for name, row in documented().items() if name not in IN_FP16}
    assert len(wanted) > 60
    last = watched.watchers[1].last
    assert wrong(families(last["n0"]), wanted) == []
    assert wrong(families(last["n1"]), {name: row for name, row in wanted.items() if row.of_the_node}) == []


def test_a_declared_field_of_metrics_jsonl_is_what_is_served(watched: Watched) -> None:
    record = [record for record in watched.records[1] if record["kind"] == "train"][-1]
    text, compared = watched.watchers[1].last["n0"], 0
    for metric in RUN:
        kind, _, field_name = metric.source.partition("/")
        if kind == "train" and field_name in record:
            value = record[field_name]
            wanted = {(key,): one for key, one in value.items()} if isinstance(value, dict) else {(): value}
            assert values(text, metric.full_name) == wanted
            compared += 1
    assert compared > 8


def test_prometheus_own_lint_finds_nothing(watched: Watched) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("no promtool here: apt install prometheus")
    for node in NODES:
        text = watched.watchers[1].last[node]
        done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_node_serves_its_own_ranks_and_is_found(watched: Watched) -> None:
    watcher = watched.watchers[1]
    for rank, node in enumerate(NODES):
        labels = {name: value for name, value in watcher.labels[node].items() if not name.startswith("__")}
        assert labels == {"job": "d2tv", "run": "run", "node": node, "rank": str(rank)}
        assert set(values(watcher.last[node], "d2tv_rank_busy_seconds")) == {(str(rank),)}
        assert values(watcher.last[node], "d2tv_rank_read_bytes_total")[(str(rank),)] > 0
        assert values(watcher.last[node], "d2tv_rank_resident_memory_bytes")[(str(rank),)] > 1e7
        assert values(watcher.last[node], "d2tv_step_seconds_count")[()] > 10


def test_targets_are_gone_when_the_run_is(watched: Watched) -> None:
    """After a signal and after the end."""
    assert watched.codes[0] == [STOPPED, STOPPED]
    assert watched.left == [[], []]


def test_the_last_scrape_has_the_final_values(watched: Watched) -> None:
    text = watched.watchers[1].last["n0"]
    assert values(text, "d2tv_step")[()] == STEPS
    assert values(text, "d2tv_checkpoint_step")[()] == STEPS
    report = json.loads((watched.directory / "evaluation" / "test.json").read_text())
    for kind, scores in report["by_kind"].items():
        served = {metric: value for (of, metric), value in values(text, "d2tv_rouge_ratio").items() if of == kind}
        assert served == pytest.approx({metric: scores[metric] / 100 for metric in ROUGE})
    final = [record for record in watched.records[1] if record["kind"] == "validation"][-1]
    assert values(text, "d2tv_validation_nll_nats") == {(kind,): nll for kind, nll in final["nll"].items()}


def test_a_start_after_a_stop_is_one_restart(watched: Watched) -> None:
    first, second = (watcher.last["n0"] for watcher in watched.watchers)
    assert values(first, "d2tv_restarts")[()] == 0
    assert values(second, "d2tv_restarts")[()] == 1
    outcomes = [[r["outcome"] for r in records if r["kind"] == "end"] for records in watched.records]
    assert outcomes == [["stopped"], ["stopped", "finished"]]
    stopped_at = values(watched.watchers[1].first["n0"], "d2tv_step")[()]
    assert 5 <= stopped_at < STEPS  # no age counts from 1970, no step from 0


def test_counters_add_up_to_the_stream(watched: Watched) -> None:
    """Examples of this start and placeholders: every slot since it went on, by target and by source."""
    text = watched.watchers[1].last["n0"]
    (begun,) = (record["step"] for record in watched.records[1] if record["kind"] == "start" and record["restarts"])
    examples = values(text, "d2tv_examples_total")
    unreadable = values(text, "d2tv_unreadable_examples_total")
    assert sum(unreadable.values()) > 0
    assert sum(examples.values()) + sum(unreadable.values()) == (STEPS - begun) * SLOTS_A_STEP
    cross = sum(count for (kind, _), count in examples.items() if kind == "mxls")
    assert sum(values(text, "d2tv_source_examples_total").values()) == cross
    assert sum(values(text, "d2tv_direction_examples").values()) == sum(examples.values())
    assert values(text, "d2tv_read_retries_total")[()] >= len(unreadable)
    quota, share = values(text, "d2tv_target_quota_ratio"), values(text, "d2tv_target_share_ratio")
    assert sum(quota.values()) == pytest.approx(1)
    assert sum(share.values()) == pytest.approx(1)
    logged = [record for record in watched.records[1] if record["kind"] == "directions" and record["step"] > begun]
    assert sum(sum(record["examples"].values()) for record in logged) == sum(examples.values())


def test_every_checkpoint_is_told_of(watched: Watched) -> None:
    """Also one whose end was waited for by the next."""
    first, second = ([r["step"] for r in records if r["kind"] == "checkpoint"] for records in watched.records)
    assert first == [*range(20, first[-1], 20), first[-1]]
    assert second == sorted({*first, *range(20, STEPS + 1, 20)})


def test_a_server_that_does_not_start_ends_no_run(tiny_corpus: Corpus, tmp_path: Path) -> None:
    """Neither does a target directory that cannot be."""
    (tmp_path / "file").touch()
    for words, warning in (
        (["prometheus.certificate=/none.pem"], "warning: rank 0: metrics are not served: /none.pem: No such file"),
        ([f"prometheus.targets={tmp_path / 'file'}"], "warning: rank 0: no Prometheus will find these metrics"),
    ):
        run, log = tmp_path / words[0].partition("=")[0], tmp_path / "log"
        log.unlink(missing_ok=True)
        more = ("training.steps=1", "training.validate_every=1", "checkpoint.every=1", *words)
        (rank,) = start(overrides(tiny_corpus.directory, run, *more), log, nodes=["n0"])
        assert rank.wait(HANGING) == FINISHED, log.read_text()
        assert warning in log.read_text()


def test_a_run_that_fails_is_missed(tiny_corpus: Corpus, tmp_path: Path) -> None:
    """Its target stays, so that a Prometheus sees an endpoint that is down; the next start takes it away."""
    run, log = tmp_path / "run", tmp_path / "log"
    words = overrides(damaged(tiny_corpus, tmp_path / "corpus"), run, "loader.max_unreadable_share=0")
    (rank,) = start(words, log, nodes=["n0"])
    assert rank.wait(HANGING) == BAD_INPUT, log.read_text()
    assert [r["outcome"] for r in read_metrics(run / "metrics.jsonl") if r["kind"] == "end"] == ["failed"]
    (left,) = (tmp_path / "targets").iterdir()
    ((group,),) = (json.loads(left.read_text()),)
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://{group['targets'][0]}/metrics", timeout=HANGING)


def test_a_signal_ends_the_wait_for_the_last_scrape_and_not_the_run(tiny_corpus: Corpus, tmp_path: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    more = ("training.steps=1", "training.validate_every=1", "checkpoint.every=1", "evaluation.batch_size=1")
    watcher = Watcher(tmp_path / "targets")
    thread = threading.Thread(target=watcher.watch)
    thread.start()
    (rank,) = start(overrides(tiny_corpus.directory, run, *more), log, nodes=["n0"])
    try:
        until(lambda: watcher.first and "held-out NLL" in log.read_text(), log.read_text)
        watcher.end()
        thread.join()
        until(lambda: "waiting up to 60 s for the final metrics" in log.read_text(), log.read_text)
        rank.send_signal(signal.SIGINT)
        assert rank.wait(HANGING) == FINISHED
    finally:
        rank.kill()
        watcher.end()
    assert [r["outcome"] for r in read_metrics(run / "metrics.jsonl") if r["kind"] == "end"] == ["finished"]
