"""Test that an objective's transforms are the same in every layout and after a resume, and in no other stream."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from models.objectives import OBJECTIVES
from shards.batch.fetch import Fetcher, ImageSizes
from shards.batch.loader import Loader
from shards.batch.reader import Reader, ReaderConfig
from shards.batch.transforms import Fetched, Transform
from shards.draws import seeded
from shards.errors import InputError
from shards.format.index import Corpus
from shards.stream.mixture import MixtureConfig
from shards.stream.partition import Partition
from shards.stream.sampler import Groups, Sampler
from shards.text.tokenizer import open_tokenizer
from tests.support.augmented import AugmentedConfig, ShuffleWords
from tests.support.tiny import tiny_overrides
from tests.unit.shards.test_loader_partition import rows_of
from trainer.assemble import build_collator
from trainer.evaluation.robustness.extraction import Extractor
from trainer.evaluation.robustness.kinds import KINDS
from trainer.evaluation.robustness.perturb import Material, perturbation
from trainer.plan import build_sampler
from trainer.recipe import Recipe, load_recipe

PER_STEP, STEPS = 4, 3


@pytest.fixture
def recipe(tiny_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    monkeypatch.setitem(OBJECTIVES, "augmented", AugmentedConfig)
    return load_recipe("d2tv", [*tiny_overrides(tiny_corpus.directory, tmp_path / "run"), "objective.name=augmented"])


def rows_in(
    recipe: Recipe, corpus: Corpus, *, ranks: int, micro: int, threads: int, first: int = 0
) -> dict[int, dict[str, object]]:
    """Slot -> row, of the steps from `first` to the last as ranks of a run read them."""
    tokenizer, found = open_tokenizer(corpus.directory / "tokenizer"), dict[int, dict[str, object]]()
    for rank in range(ranks):
        reader = recipe.loader.open(corpus)
        loader = Loader(
            build_sampler(recipe, corpus),
            build_collator(recipe, corpus, reader, tokenizer, torch.device("cpu"), training=True),
            Partition(groups_per_step=PER_STEP, groups_per_micro_batch=micro, rank=rank, world_size=ranks),
            first_step=first,
            threads=threads,
            prefetch=3,
        )
        for batch in islice(loader, (STEPS - first) * PER_STEP // (micro * ranks)):
            found |= {int(str(row["slot"])): row for row in rows_of(batch)}
        loader.close()
        reader.close()
    return found


def test_layouts_and_resumes_train_on_the_same(recipe: Recipe, tiny_corpus: Corpus) -> None:
    one_by_four = rows_in(recipe, tiny_corpus, ranks=1, micro=1, threads=0)
    assert sorted(one_by_four) == list(range(STEPS * PER_STEP * recipe.batch.group_size))
    assert rows_in(recipe, tiny_corpus, ranks=2, micro=1, threads=3) == one_by_four
    assert rows_in(recipe, tiny_corpus, ranks=1, micro=4, threads=1) == one_by_four
    resumed = rows_in(recipe, tiny_corpus, ranks=2, micro=2, threads=0, first=2)
    assert sorted(resumed) == list(range(2 * PER_STEP * 4, STEPS * PER_STEP * 4))
    assert all(one_by_four[slot] == row for slot, row in resumed.items())


def test_a_row_holds_what_the_transform_made_of_its_slot(recipe: Recipe, tiny_corpus: Corpus) -> None:
    """And nothing else of it: targets, summaries and validation are as they were read."""
    tokenizer, reader = open_tokenizer(tiny_corpus.directory / "tokenizer"), Reader(tiny_corpus)
    groups = build_sampler(recipe, tiny_corpus).groups(2, 3)
    changed, clean = (
        build_collator(recipe, tiny_corpus, reader, tokenizer, torch.device("cpu"), training=training)(groups)
        for training in (True, False)
    )
    for row, slot in enumerate(groups.slot.ravel().tolist()):
        text = reader.article(int(groups.source.ravel()[row])).text
        words = text.split()
        seeded(recipe.training.seed, "shuffle", str(slot)).shuffle(words)
        for batch, wanted in ((changed, " ".join(words)), (clean, text)):
            assert batch.source_ids_BM[row][batch.source_mask_BM[row]].tolist() == tokenizer.encode(wanted, 32)
    assert not torch.equal(changed.source_ids_BM, clean.source_ids_BM)
    for name in ("target_ids_BM", "summary_ids_BN", "source_summary_ids_BS", "source_start_B"):
        assert torch.equal(getattr(changed, name), getattr(clean, name))


def fetcher(corpus: Corpus, transforms: Sequence[Transform]) -> Fetcher:
    reader = Reader(corpus, ReaderConfig(io_threads=0))
    return Fetcher(corpus, reader, ImageSizes(images=2, regions=36, feature_size=32), transforms=transforms)


def test_transforms_come_in_order_and_leave_placeholders(tiny_corpus: Corpus) -> None:
    seen: list[list[str]] = []

    def first_word(fetched: Fetched) -> Fetched:
        seen.append([article.text for article in fetched.source])
        return replace(fetched, source=[replace(one, text=one.text.split()[0]) for one in fetched.source])

    groups = Sampler(tiny_corpus, split="train", mixture=MixtureConfig(), seed=5, group_size=4).groups(0, 2)
    after = fetcher(tiny_corpus, [ShuffleWords(3), first_word])(groups)
    alone = fetcher(tiny_corpus, [ShuffleWords(3)])(groups)
    assert seen == [[article.text for article in alone.source]]
    assert [article.text for article in after.source] == [text.split()[0] for text in seen[0]]
    weight_B = torch.ones(8)
    weight_B[2] = 0
    changed = ShuffleWords(4)(replace(alone, weight_B=weight_B))
    assert changed.source[2] == alone.source[2]
    assert changed.source[3] != alone.source[3]


@pytest.mark.parametrize("kind", ["word_delete", "wrong_images", "region_drop"])
def test_a_perturbation_serves_training_too(tiny_corpus: Corpus, kind: str) -> None:
    """Train on what `--perturb` makes of examples: the same whoever reads a group."""
    material = Material(
        corpus=tiny_corpus, reader=Reader(tiny_corpus), split="train", seed=7, extract=Extractor(tiny_corpus)
    )
    fetch = fetcher(tiny_corpus, [perturbation(KINDS[kind], 3, material)])
    groups = Sampler(tiny_corpus, split="train", mixture=MixtureConfig(), seed=5, group_size=4).groups(0, 4)
    whole, clean = fetch(groups), fetcher(tiny_corpus, [])(groups)
    for number in range(4):
        part = fetch(_group(groups, number))
        rows = slice(4 * number, 4 * number + 4)
        assert part.source == whole.source[rows]
        assert torch.equal(part.roi_BIRV, whole.roi_BIRV[rows])
        assert part.slot.tolist() == whole.slot[rows].tolist()
    assert whole.source != clean.source or not torch.equal(whole.roi_BIRV, clean.roi_BIRV)
    assert whole.target == clean.target


def _group(groups: Groups, number: int) -> Groups:
    at = np.array([number])
    return Groups(number=groups.number[at], source=groups.source[at], target=groups.target[at], story=groups.story[at])


def test_a_recipe_whose_objective_needs_what_is_unknown_is_refused(
    tiny_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OBJECTIVES, "augmented", AugmentedConfig)
    monkeypatch.setattr(AugmentedConfig, "needs", frozenset({"pictures", "source_summary"}))
    words = [*tiny_overrides(tiny_corpus.directory, tmp_path / "run"), "objective.name=augmented"]
    with pytest.raises(InputError, match="no batch field 'pictures'; known: source_summary"):
        load_recipe("d2tv", words)
