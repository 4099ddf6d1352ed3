"""launcher/monitoring/slurm_jobs.sh on a real Slurm: it lists the jobs that run, by the number that endpoints have."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from shards.format.index import Corpus
from tests.support.harness import FP32
from tests.support.monitoring import MONITORING
from tests.support.slurm import LOOK, NODES, Slurm, missing
from tests.support.tiny import tiny_overrides
from tests.support.waiting import until

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(missing() is not None, reason=f"needs a real Slurm: {missing()}"),
]


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    with Slurm() as slurm:
        yield slurm


def listed(slurm: Slurm, **environment: str) -> list[tuple[str, str]]:
    text = slurm.call(str(MONITORING / "slurm_jobs.sh"), **environment)
    (jobs,) = (family for family in text_string_to_metric_families(text + "\n") if "running" in family.name)
    return [(sample.labels["slurm_job"], sample.labels["name"]) for sample in jobs.samples]


def test_a_running_job_is_listed_as_its_endpoints_are(slurm: Slurm, tiny_corpus: Corpus, tmp_path: Path) -> None:
    assert listed(slurm) == []
    run, targets = tmp_path / "run", tmp_path / "targets"
    words = [*tiny_overrides(tiny_corpus.directory, run), "training.steps=100000", "batch.groups_per_micro_batch=1"]
    words += ["prometheus.enabled=true", "prometheus.port=0"]
    options = ("--nodes=2", "--ntasks-per-node=1")
    job = slurm.submit(tmp_path / "log", "train.sbatch", "--ds_config", str(FP32), *words, options=options)
    job.until(lambda: len(list(targets.glob("*.json"))) == 2)
    # Both nodes are taken.
    waiting = slurm.submit(tmp_path / "waiting.log", "train.sbatch", options=("--nodes=2", "--exclusive"))
    assert listed(slurm) == [(job.number, "d2tv-train")]
    assert listed(slurm, JOB_NAMES="another") == []

    found = {}
    for path in targets.glob("*.json"):
        (group,) = json.loads(path.read_text())
        found[group["labels"]["node"]] = group["labels"]
    assert sorted(found) == sorted(NODES)
    assert {labels["slurm_job"] for labels in found.values()} == {job.number}

    waiting.cancel()
    job.cancel()
    job.wait()
    until(lambda: listed(slurm) == [], slurm.logs, pause=LOOK)
    assert list(targets.glob("*.json")) == []


def test_jobs_of_an_array_have_the_numbers_that_they_know_themselves_by(slurm: Slurm, tmp_path: Path) -> None:
    setup = tmp_path / "setup.sh"
    setup.write_text('echo "$SLURM_JOB_ID" > "$NUMBERS/$SLURM_ARRAY_TASK_ID"; sleep 600\n')
    numbers = tmp_path / "numbers"
    numbers.mkdir()
    environment = {"SETUP": str(setup), "NUMBERS": str(numbers), "DS_CONFIG": str(FP32)}
    slurm.submit(tmp_path / "%a.log", "train.sbatch", options=("--array=1-2",), **environment)
    until(lambda: len(list(numbers.iterdir())) == 2, slurm.logs)
    known = sorted((path.read_text().strip(), "d2tv-train") for path in numbers.iterdir())
    assert sorted(listed(slurm)) == known
    slurm.clear()
