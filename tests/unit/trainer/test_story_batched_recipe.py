"""`batch.sources_per_target`: what it chooses, what it refuses, and that a run keeps it."""

import hashlib
import json
from pathlib import Path

import pytest

from shards.errors import InputError
from shards.format.index import Corpus
from shards.stream.bundles import BundledSampler
from shards.stream.sampler import Sampler
from tests.support.tiny import tiny_overrides
from tests.unit.launcher.test_train_refusals import Setup, plan
from trainer.plan import build_sampler
from trainer.recipe import Recipe, load_recipe


def recipe(corpus: Corpus, tmp_path: Path, *overrides: str) -> Recipe:
    return load_recipe("d2tv", [*tiny_overrides(corpus.directory, tmp_path / "run"), *overrides])


def test_a_recipe_that_says_nothing_reads_the_plain_stream(tiny_corpus: Corpus, tmp_path: Path) -> None:
    plain = recipe(tiny_corpus, tmp_path)
    assert plain.batch.sources_per_target == 1
    assert type(build_sampler(plain, tiny_corpus)) is Sampler


def test_the_stream_of_a_run_has_the_recipes_seed_groups_and_changes(tiny_corpus: Corpus, tmp_path: Path) -> None:
    changes = "mixture.changes=[{from_step: 2, kinds: [mms]}]"
    stream = build_sampler(
        recipe(tiny_corpus, tmp_path, "batch.sources_per_target=2", "training.seed=5", changes), tiny_corpus
    )
    assert isinstance(stream, BundledSampler)
    assert (stream.seed, stream.group_size) == (5, 4)
    groups = stream.groups(0, 16)  # groups_per_step is 4, so the change is before group 8
    language = tiny_corpus.articles["language"]
    assert (groups.target[:, ::2] == groups.target[:, 1::2]).all()
    assert (language[groups.source[:8]] != language[groups.target[:8]]).any()
    assert (language[groups.source[8:]] == language[groups.target[8:]]).all()
    plain = build_sampler(
        recipe(tiny_corpus, tmp_path, "batch.group_size=2", "training.seed=5", changes), tiny_corpus
    ).groups(0, 16)
    assert (groups.source[:, ::2] == plain.source).all()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["batch.sources_per_target=3"],
            "batch: sources_per_target=3 does not divide group_size=4: set it to one of 1, 2, 4, or group_size to a "
            "multiple of 3",
        ),
        (["batch.sources_per_target=8"], "set it to one of 1, 2, 4, or"),
        (["batch.sources_per_target=0"], "batch.sources_per_target:"),
        (["batch.source_per_target=2"], "did you mean 'sources_per_target'"),
    ],
)
def test_what_does_not_divide_the_group_is_refused_in_one_line(
    tiny_corpus: Corpus, tmp_path: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises(InputError) as caught:
        recipe(tiny_corpus, tmp_path, *overrides)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_cap_counts_anchors(tiny_corpus: Corpus, tmp_path: Path) -> None:
    """A run of as many slots as three passes hold is within a cap of two, when every anchor takes two slots."""
    examples = int(tiny_corpus.direction_counts("train").sum())
    keys = [f"training.steps={3 * examples // 16}", "mixture.max_passes=2"]
    with pytest.raises(InputError, match="max_passes"):
        build_sampler(recipe(tiny_corpus, tmp_path, *keys), tiny_corpus)
    build_sampler(recipe(tiny_corpus, tmp_path, *keys, "batch.sources_per_target=2"), tiny_corpus)


@pytest.mark.parametrize(("begun_with", "now"), [(1, 2), (2, 1), (2, 4)])
def test_a_run_is_not_continued_with_other_bundles(
    tiny_corpus: Corpus, tmp_path: Path, begun_with: int, now: int
) -> None:
    setup = Setup(tmp_path, tiny_corpus)
    setup.add_checkpoint(3, f"batch.sources_per_target={begun_with}")
    assert plan(setup, f"batch.sources_per_target={begun_with}") == 1
    with pytest.raises(InputError, match=r"begun with another batch\.sources_per_target \(\d\): restore it"):
        plan(setup, f"batch.sources_per_target={now}")


def test_a_checkpoint_from_before_the_key_goes_on_as_it_was(tiny_corpus: Corpus, tmp_path: Path) -> None:
    setup = Setup(tmp_path, tiny_corpus)
    checkpoint = setup.add_checkpoint(3)
    saved = (checkpoint / "recipe.yaml").read_bytes()
    before = saved.replace(b"  sources_per_target: 1\n", b"")
    assert before != saved
    (checkpoint / "recipe.yaml").write_bytes(before)
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    manifest["recipe.yaml"] = {"bytes": len(before), "sha256": hashlib.sha256(before).hexdigest()}
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))
    assert plan(setup) == 1
    with pytest.raises(InputError, match=r"begun with another batch\.sources_per_target"):
        plan(setup, "batch.sources_per_target=2")
