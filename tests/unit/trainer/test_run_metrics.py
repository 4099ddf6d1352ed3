"""The run's and a node's metrics, as a scrape gets them after each report."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, disable_created_metrics, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from shards.format.index import Corpus
from shards.schema import Unreadable
from shards.stream.mixture import MixtureConfig
from tests.support.intervals import INTERVAL, run_facts, saved
from tests.support.tiny import make_corpus
from trainer.interval import Interval
from trainer.telemetry.prometheus.node_metrics import NodeMetrics
from trainer.telemetry.prometheus.run_metrics import OTHER, RAREST, UNREADABLE, WORST, RunMetrics

NONE: tuple[str, ...] = ()


@pytest.fixture(scope="module")
def two_languages(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("two") / "corpus", languages=("english", "urdu"))


@pytest.fixture
def metrics(two_languages: Corpus) -> RunMetrics:
    metrics = RunMetrics(CollectorRegistry(), run_facts(two_languages))
    metrics.begin(step=0, steps=400, skipped=0, restarts=2, checkpoint_bytes=77)
    return metrics


def samples(registry: CollectorRegistry) -> dict[tuple[str, tuple[str, ...]], float]:
    """(name without prefix, values of the labels in the order of their names) -> value."""
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {
        (sample.name.removeprefix("d2tv_"), tuple(sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
    }


def now(metrics: RunMetrics) -> dict[tuple[str, tuple[str, ...]], float]:
    return samples(metrics.registry)


def log(metrics: RunMetrics, interval: Interval = INTERVAL, *, groups: int = 40) -> None:
    metrics.interval(
        interval,
        groups=groups,
        learning_rate=2e-3,
        gradient_norm=1.5,
        loss_scale=None,
        scalars={"alpha": 0.75},
    )


def test_where_a_run_stands_as_it_starts(metrics: RunMetrics) -> None:
    found = now(metrics)
    assert found["steps_planned", NONE] == 400
    assert found["restarts", NONE] == 2
    assert found["run_info", ("d2tv", "mine")] == 1
    assert found["checkpoint_every_steps", NONE] == 50
    assert found["checkpoint_timestamp_seconds", NONE] > 1.6e9
    assert found["checkpoint_bytes", NONE] == 77
    # A counter that is born at 1 has no increase.
    for name in ("checkpoint_failures", "loss_spikes", "rollbacks", "read_retries", "checkpoint_stall_seconds"):
        assert found[f"{name}_total", NONE] == 0


def test_the_disk_is_measured_on_request_and_has_no_series_where_it_cannot_be(
    two_languages: Corpus, tmp_path: Path
) -> None:
    directory = tmp_path / "run"
    directory.mkdir()
    facts = dataclasses.replace(run_facts(two_languages), directory=directory)
    metrics = RunMetrics(CollectorRegistry(), facts)
    assert ("run_disk_free_bytes", NONE) not in now(metrics)
    metrics.look_at_disk()
    found = now(metrics)
    assert 0 < found["run_disk_free_bytes", NONE] < found["run_disk_size_bytes", NONE]
    directory.rmdir()
    assert ("run_disk_free_bytes", NONE) in now(metrics)  # a scrape touches no disk
    metrics.look_at_disk()
    assert ("run_disk_free_bytes", NONE) not in now(metrics)


def test_a_skipped_step_has_no_loss_until_the_next_logged_one(metrics: RunMetrics) -> None:
    log(metrics)
    metrics.not_finite()
    assert np.isnan(now(metrics)["loss", ("total",)])
    log(metrics)
    assert now(metrics)["loss", ("total",)] == 8.0


def test_what_is_not_trained_has_no_series(metrics: RunMetrics) -> None:
    """A perfect NLL of a branch that does not exist would be worse than none."""
    log(metrics, dataclasses.replace(INTERVAL, nll={"mms": 3.5}, loss={"mms": 4.0}))
    found = now(metrics)
    assert ("nll_nats", ("mxls",)) not in found
    assert ("loss", ("tco",)) not in found


def test_without_a_known_peak_there_is_no_mfu(two_languages: Corpus) -> None:
    metrics = RunMetrics(CollectorRegistry(), dataclasses.replace(run_facts(two_languages), peak_flops=0.0))
    log(metrics)
    assert not {"mfu_ratio", "peak_flops_per_second"} & {name for name, _ in now(metrics)}


def test_steps_and_a_return_to_a_checkpoint(metrics: RunMetrics) -> None:
    metrics.step(step=8, skipped=1)
    found = now(metrics)
    assert (found["step", NONE], found["skipped_steps", NONE]) == (8, 1)
    metrics.rollback(step=3, skipped=0)
    found = now(metrics)
    assert (found["step", NONE], found["skipped_steps", NONE], found["rollbacks_total", NONE]) == (3, 0, 1)


def test_a_logged_interval(metrics: RunMetrics) -> None:
    for _ in range(2):
        log(metrics)
    found = now(metrics)
    assert found["loss", ("total",)] == 8.0
    assert found["loss", ("tco",)] == 0.25
    assert found["nll_nats", ("mxls",)] == 3.75
    assert found["learning_rate", NONE] == 2e-3
    assert found["gradient_norm", NONE] == 1.5
    assert found["objective_scalar", ("alpha",)] == 0.75
    assert found["examples_per_second", NONE] == pytest.approx(12 / 5)
    assert found["target_tokens_per_second", NONE] == pytest.approx(42 / 5)
    assert found["model_flops_per_second", NONE] == pytest.approx(5e8)
    assert found["mfu_ratio", NONE] == pytest.approx(0.05)
    assert found["padding_ratio", NONE] == pytest.approx(0.05)
    assert found["read_retries_total", NONE] == 4
    assert found["slowest_rank", NONE] == 1
    assert found["slowest_rank_lag_seconds", NONE] == pytest.approx((3.0 - 2.0) / 10)


def test_examples_tokens_and_nll_by_language(metrics: RunMetrics) -> None:
    log(metrics)
    log(metrics)
    found = now(metrics)
    assert found["examples_total", ("mms", "english")] == 16
    assert found["examples_total", ("mxls", "urdu")] == 8
    assert found["source_examples_total", ("english",)] == 8
    assert found["target_tokens_total", ("mxls", "urdu")] == 24
    assert found["target_tokens_total", ("mms", "english")] == 40
    assert found["source_target_tokens_total", ("english",)] == 24
    assert ("examples_total", ("mms", "urdu")) not in found  # nothing trained, nothing said
    assert found["target_nll_nats", ("mms", "english")] == pytest.approx(3.5)
    assert found["target_nll_nats", ("mxls", "urdu")] == pytest.approx(3.75)
    assert found["source_nll_nats", ("english",)] == pytest.approx(3.75)
    assert ("source_nll_nats", ("urdu",)) not in found


def test_recent_nll_follows_and_survives_a_loss_that_is_not_finite(metrics: RunMetrics) -> None:
    log(metrics)
    broken = np.array([[np.nan, 0.0], [45.0, 0.0]])
    log(metrics, dataclasses.replace(INTERVAL, nats_TS=broken, total_loss=float("nan")))
    found = now(metrics)
    assert found["target_nll_nats", ("mms", "english")] == pytest.approx(3.5)
    assert np.isnan(found["loss", ("total",)])  # this is told as it is
    for _ in range(200):
        log(metrics, dataclasses.replace(INTERVAL, nats_TS=np.array([[20.0, 0.0], [45.0, 0.0]])))
    assert now(metrics)["target_nll_nats", ("mms", "english")] == pytest.approx(1.0, abs=0.01)


def test_share_against_quota_of_a_language_that_starves(metrics: RunMetrics) -> None:
    log(metrics, dataclasses.replace(INTERVAL, examples_TS=np.array([[8.0, 4.0], [0.0, 0.0]])))
    found = now(metrics)
    assert found["target_quota_ratio", ("urdu",)] == pytest.approx(0.5, abs=0.1)
    assert found["target_share_ratio", ("urdu",)] == 0  # and not absent: an alert compares them
    assert found["target_share_ratio", ("english",)] == 1


def test_quota_and_passes_follow_a_change_of_the_mixture(two_languages: Corpus) -> None:
    mixture = MixtureConfig.model_validate(
        {"kinds": ["mms"], "changes": [{"from_step": 10, "directions": "urdu-urdu"}]}
    )
    metrics = RunMetrics(CollectorRegistry(), run_facts(two_languages, mixture=mixture))
    counts_TS = two_languages.direction_counts("train")
    log(metrics, groups=40)
    before = now(metrics)
    assert ("rarest_direction_passes", ("english", "urdu")) not in before  # no share, no passes
    log(metrics, groups=60)
    after = now(metrics)
    assert before["target_quota_ratio", ("english",)] == pytest.approx(0.5, abs=0.1)
    assert ("target_quota_ratio", ("english",)) not in after
    assert after["target_quota_ratio", ("urdu",)] == 1
    key = ("rarest_direction_passes", ("urdu", "urdu"))
    assert after[key] - before[key] == pytest.approx(20 * 4 / counts_TS[1, 1])


def many(corpus: Corpus, nll: float) -> Interval:
    """Every direction with ten tokens; the NLL grows with the direction's number."""
    size = len(corpus.languages)
    tokens_TS = np.full((size, size), 10.0)
    nats_TS = tokens_TS * (nll + np.arange(size * size).reshape(size, size))
    by_target = {kind: [10.0] * size for kind in ("mms", "mxls")}
    return dataclasses.replace(
        INTERVAL, tokens=by_target, nats_TS=nats_TS, tokens_TS=tokens_TS, examples_TS=np.ones((size, size))
    )


def of(metrics: RunMetrics, name: str) -> dict[tuple[str, ...], float]:
    return {labels: value for (found, labels), value in now(metrics).items() if found == name}


@pytest.fixture(scope="module")
def six_languages(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    languages = ("english", "french", "hindi", "russian", "turkish", "urdu")
    return make_corpus(tmp_path_factory.mktemp("six") / "corpus", languages=languages)


def test_only_the_worst_directions_have_series_and_old_ones_go(six_languages: Corpus) -> None:
    metrics = RunMetrics(CollectorRegistry(), run_facts(six_languages))
    log(metrics, many(six_languages, 1.0))
    worst = of(metrics, "worst_direction_nll_nats")
    assert len(worst) == WORST
    assert now(metrics)["worst_directions_truncated", NONE] == 36 - WORST
    assert min(worst.values()) == pytest.approx(1.0 + 36 - WORST)
    assert len(of(metrics, "rarest_direction_passes")) == RAREST
    assert not of(metrics, "direction_nll_nats")

    upside_down = many(six_languages, 1.0)
    for _ in range(300):
        log(metrics, dataclasses.replace(upside_down, nats_TS=upside_down.nats_TS[::-1, ::-1]))
    others = of(metrics, "worst_direction_nll_nats")
    assert len(others) == WORST
    assert set(others) != set(worst)


def test_the_whole_matrix_on_request(six_languages: Corpus) -> None:
    metrics = RunMetrics(CollectorRegistry(), run_facts(six_languages, direction_matrix=True))
    log(metrics, many(six_languages, 2.0))
    log(metrics, many(six_languages, 2.0))
    nll = of(metrics, "direction_nll_nats")
    assert len(nll) == 36
    assert nll["french", "english"] == pytest.approx(3.0)
    assert nll["english", "french"] == pytest.approx(8.0)
    assert of(metrics, "direction_examples") == dict.fromkeys(nll, 2.0)


def test_a_flood_of_unreadable_directions_has_an_end(metrics: RunMetrics) -> None:
    for number in range(UNREADABLE + 5):
        for _ in range(3):
            metrics.unreadable(Unreadable(slot=9, story=3, source=f"l{number}", target="urdu", problem="?"))
    found = of(metrics, "unreadable_examples_total")
    assert len(found) == UNREADABLE + 1
    assert found[("l0", "urdu")] == 3
    assert found[OTHER, OTHER] == 15
    assert sum(found.values()) == 3 * (UNREADABLE + 5)


def test_validation_evaluation_checkpoints_and_spikes(metrics: RunMetrics) -> None:
    metrics.validation({"mms": 3.0, "mxls": 3.25}, {"mms": {"english": 2.5}, "mxls": {"urdu": 3.5}})
    metrics.evaluation(
        {
            "by_kind": {"mms": {"rouge1": 30.0, "rouge2": 10.0, "rougeL": 25.0, "wrong_language": 4.0}},
            "by_target": {"urdu": {"rouge1": 1.0, "rouge2": 0.0, "rougeL": 12.5}},
        }
    )
    metrics.checkpoint(saved(8))
    metrics.checkpoint(saved(16, "No space left on device"))
    metrics.spike()
    found = now(metrics)
    assert found["validation_nll_nats", ("mms",)] == 3.0
    assert found["validation_target_nll_nats", ("mxls", "urdu")] == 3.5
    assert found["rouge_ratio", ("mms", "rougeL")] == 0.25
    assert ("rouge_ratio", ("mms", "wrong_language")) not in found
    assert found["target_rouge_ratio", ("urdu",)] == 0.125
    assert found["checkpoint_step", NONE] == 8
    assert found["checkpoint_duration_seconds", NONE] == 1.25
    assert found["checkpoint_bytes", NONE] == 4096
    assert found["checkpoint_failures_total", NONE] == 1
    assert found["checkpoint_stall_seconds_total", NONE] == 0.5
    assert found["loss_spikes_total", NONE] == 1


def test_the_loss_scale_is_there_in_fp16_only(metrics: RunMetrics) -> None:
    log(metrics)
    assert ("loss_scale", NONE) not in now(metrics)
    for scale in (65536.0, 32768.0):
        metrics.interval(INTERVAL, groups=1, learning_rate=1.0, gradient_norm=1.0, loss_scale=scale, scalars={})
    assert now(metrics)["loss_scale", NONE] == 32768


def test_a_node_shows_its_own_ranks() -> None:
    registry = CollectorRegistry()
    node = NodeMetrics(registry, [1])
    for seconds, wait in ((0.3, 0.002), (0.6, 0.2)):
        node.step(seconds=seconds, data_wait_seconds=wait)
    for _ in range(2):
        node.interval(INTERVAL.steps, INTERVAL.ranks)
    found = samples(registry)
    assert found["step_seconds_count", NONE] == 2
    assert found["step_seconds_sum", NONE] == pytest.approx(0.9)
    assert found["step_seconds_bucket", ("0.5",)] == 1
    assert found["step_seconds_bucket", ("600.0",)] == 2
    assert found["data_wait_seconds_bucket", ("0.005",)] == 1
    assert found["rank_busy_seconds", ("1",)] == pytest.approx(0.3)
    assert found["rank_data_wait_seconds", ("1",)] == pytest.approx(0.06)
    assert found["rank_read_bytes_total", ("1",)] == 2e6
    assert ("rank_busy_seconds", ("0",)) not in found
    assert 0 < found["node_memory_available_bytes", NONE] < found["node_memory_total_bytes", NONE]
    before = found["progress_timestamp_seconds", NONE]
    assert before > 1.6e9
    node.progress()
    assert samples(registry)["progress_timestamp_seconds", NONE] > before


def test_names_follow_the_conventions(metrics: RunMetrics) -> None:
    disable_created_metrics()  # as an endpoint does
    NodeMetrics(metrics.registry, [0])
    log(metrics)
    families = list(text_string_to_metric_families(generate_latest(metrics.registry).decode()))
    assert len(families) > 50
    for family in families:
        assert re.fullmatch(r"d2tv_[a-z_]+", family.name)
        assert family.documentation
        names = {sample.name for sample in family.samples}
        assert not any(name.endswith("_created") for name in names)
        if family.type == "counter":
            assert names <= {f"{family.name}_total"}
        else:
            assert not any(name.endswith("_total") for name in names)
