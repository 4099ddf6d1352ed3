"""A damaged shard under a real run on two ranks: placeholders in their own slots, counted, listed, limited."""

import json
import shutil
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from shards.format.index import Corpus
from shards.stream.mixture import MixtureConfig
from shards.stream.sampler import Sampler
from tests.support.launch import Training
from tests.support.tiny import tiny_overrides
from tests.support.waiting import HANGING
from trainer.checkpoint.directory import read_state, whole_checkpoints

STEPS, SLOTS_A_STEP, SEED = 12, 16, 0


def overrides(corpus: Path, run: Path, *more: str) -> list[str]:
    return [
        *tiny_overrides(corpus, run),
        "batch.groups_per_micro_batch=1",
        f"training.steps={STEPS}",
        "checkpoint.every=4",
        "loader.threads=2",
        "loader.retry_seconds=0.001",
        "network.text.dropout=0",
        "network.vision.dropout=0",
        "network.fusion.dropout=0",
        *more,
    ]


def example_rows(corpus: Corpus) -> tuple[np.ndarray, np.ndarray]:
    """Per slot of the run, the article whose images it shows, and whether it shows any."""
    stream = Sampler(corpus, split="train", mixture=MixtureConfig(), seed=SEED, group_size=4)
    groups = stream.groups(0, STEPS * 4)
    images = corpus.articles["images"]
    owner = np.where(images[groups.source] > 0, groups.source, groups.target).ravel()
    return owner, images[owner] > 0


@pytest.fixture
def damaged(tiny_corpus: Corpus, tmp_path: Path) -> tuple[Path, list[int]]:
    """A copy of the corpus with one bit of one image member flipped, and the slots that show it."""
    owner, shows = example_rows(tiny_corpus)
    places = tiny_corpus.articles["roi_offset"].astype(np.int64) + (
        tiny_corpus.articles["shard"].astype(np.int64) << 40
    )
    member = np.where(shows, places[owner], -1)
    chosen = int(member[5 * SLOTS_A_STEP :][member[5 * SLOTS_A_STEP :] >= 0][0])
    slots = np.flatnonzero(member == chosen).tolist()
    row = int(owner[slots[0]])
    shutil.copytree(tiny_corpus.directory, tmp_path / "corpus")
    with open(tmp_path / "corpus" / tiny_corpus.shards[tiny_corpus.articles["shard"][row]], "r+b") as tar:
        tar.seek(int(tiny_corpus.articles["roi_offset"][row]) + 300)
        byte = tar.read(1)
        tar.seek(-1, 1)
        tar.write(bytes([byte[0] ^ 1]))
    return tmp_path / "corpus", slots


def listed(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "unreadable.jsonl").read_text().splitlines()]


def test_placeholders_are_counted_and_listed_and_move_nothing(
    tiny_corpus: Corpus, damaged: tuple[Path, list[int]], tmp_path: Path
) -> None:
    corpus, slots = damaged
    run, sound_run = tmp_path / "run", tmp_path / "sound"
    more = ("loader.max_unreadable_share=0.5",)
    with Training(run, overrides(corpus, run, *more)) as training:
        assert training.wait() == 0, training.output
        records = training.records("train")
        assert f"slot {slots[0]} has a placeholder" in training.output
        assert "its checksum is wrong" in training.output
    found = listed(run)
    assert [one["slot"] for one in found] == slots
    keys = tiny_corpus.story_keys()
    stream = Sampler(tiny_corpus, split="train", mixture=MixtureConfig(), seed=SEED, group_size=4).groups(0, STEPS * 4)
    language = np.array(tiny_corpus.languages)[tiny_corpus.articles["language"]]
    for one in found:
        group, place = divmod(one["slot"], 4)
        assert one["step"] == one["slot"] // SLOTS_A_STEP + 1
        assert one["source"] == language[stream.source[group, place]]
        assert one["target"] == language[stream.target[group, place]]
        assert one["story"] == keys[stream.story[group, place]]
    assert records[-1]["unreadable"] == len(slots)
    assert sum(sum(record["examples"].values()) for record in records) == STEPS * SLOTS_A_STEP - len(slots)
    (checkpoint, *_) = whole_checkpoints(run / "checkpoints")
    assert read_state(checkpoint).unreadable == len(slots)

    # Before the first placeholder, and in which examples come after it, nothing differs from a sound corpus.
    with Training(sound_run, overrides(tiny_corpus.directory, sound_run)) as training:
        assert training.wait() == 0, training.output
        sound = training.records("train")
    assert listed(sound_run) == []
    first = slots[0] // SLOTS_A_STEP
    assert [record["loss"] for record in records[:first]] == [record["loss"] for record in sound[:first]]
    assert records[first]["loss"] != sound[first]["loss"]
    for record, of_sound in zip(records, sound, strict=True):
        missing = sum(one["step"] == record["step"] for one in found)
        assert sum(of_sound["examples"].values()) - sum(record["examples"].values()) == missing


def test_too_many_end_the_run_with_a_checkpoint_and_a_mended_corpus_goes_on(
    tiny_corpus: Corpus, damaged: tuple[Path, list[int]], tmp_path: Path
) -> None:
    corpus, slots = damaged
    run, words = tmp_path / "run", ("loader.max_unreadable_share=0",)
    with Training(run, overrides(corpus, run, *words)) as training:
        assert training.wait() != 0
        errors = [line for line in training.output.splitlines() if line.startswith("error:")]
        assert "Traceback" not in training.output
    reached = slots[0] // SLOTS_A_STEP
    assert len(errors) == 1
    in_that_step = sum(slot // SLOTS_A_STEP == reached for slot in slots)
    assert f"{in_that_step} of {(reached + 1) * SLOTS_A_STEP} examples could not be read" in errors[0]
    assert "unreadable.jsonl" in errors[0]
    (checkpoint, *_) = whole_checkpoints(run / "checkpoints")
    assert read_state(checkpoint).step == reached
    assert read_state(checkpoint).unreadable == 0  # the step was not taken
    assert [one["slot"] for one in listed(run)] == [slot for slot in slots if slot // SLOTS_A_STEP == reached]

    for name in tiny_corpus.shards:
        shutil.copy(tiny_corpus.directory / name, corpus / name)
    with Training(run, overrides(corpus, run, *words)) as training:
        assert training.wait() == 0, training.output
        assert [record["step"] for record in training.records("train")] == list(range(1, STEPS + 1))
    assert listed(run) == []  # what was listed belonged to a step that was taken again, and read


def test_a_served_counter_names_the_direction(
    tiny_corpus: Corpus, damaged: tuple[Path, list[int]], tmp_path: Path
) -> None:
    corpus, slots = damaged
    run = tmp_path / "run"
    more = ("loader.max_unreadable_share=0.9", "prometheus.enabled=true", "prometheus.port=0", "training.steps=100000")
    with Training(run, overrides(corpus, run, *more)) as training:
        training.until(lambda: training.last_step() > slots[0] // SLOTS_A_STEP + 1)
        (line,) = (line for line in training.output.splitlines() if line.startswith("metrics at "))
        with urllib.request.urlopen(line.removeprefix("metrics at "), timeout=HANGING) as response:
            families = list(text_string_to_metric_families(response.read().decode()))
    (family,) = (family for family in families if family.name == "d2tv_unreadable_examples")
    one = listed(run)[0]
    served = {(sample.labels["source"], sample.labels["target"]) for sample in family.samples}
    assert (one["source"], one["target"]) in served
    (retries,) = (family for family in families if family.name == "d2tv_read_retries")
    assert retries.samples[0].value >= 3


def test_a_text_that_cannot_be_read_does_not_end_the_evaluation(tiny_corpus: Corpus, tmp_path: Path) -> None:
    """After all the training: its examples are counted and not scored, on whichever rank they fall."""
    shutil.copytree(tiny_corpus.directory, tmp_path / "corpus")
    row = int(tiny_corpus.edges["test"][0, 1])
    with open(tmp_path / "corpus" / "text.bin", "r+b") as arena:
        arena.seek(int(tiny_corpus.articles["text_offset"][row]) + 2)
        arena.write(b"\xff\xff")
    run = tmp_path / "run"
    more = ("training.steps=4", "evaluation.examples_per_kind=null", "validation.examples_per_kind=10000")
    with Training(run, overrides(tmp_path / "corpus", run, *more)) as training:
        assert training.wait() == 0, training.output
        assert "examples unreadable" in training.output
    edges = tiny_corpus.edges["test"]
    missing = int(((edges == row).any(axis=1)).sum())
    report = json.loads((run / "evaluation" / "test.json").read_text())
    assert report["unreadable"] == missing > 0
    assert report["examples"] == len(edges) - missing
