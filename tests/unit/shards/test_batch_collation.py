"""What a batch holds, against the articles that the writer was given."""

import numpy as np
import pytest
import torch

from shards.batch.collate import Collator, Lengths
from shards.batch.fetch import Fetcher, ImageSizes
from shards.batch.reader import Reader
from shards.batch.types import Batch
from shards.format.index import Corpus
from shards.format.writer import encode_key
from shards.schema import Images, Story
from shards.stream.images import ImageRule
from shards.stream.sampler import Groups
from shards.text.tokenizer import Tokenizer, open_tokenizer
from tests.support.tiny import make_stories


@pytest.fixture(scope="module")
def tokenizer(tiny_corpus: Corpus) -> Tokenizer:
    return open_tokenizer(tiny_corpus.directory / "tokenizer")


@pytest.fixture(scope="module")
def told(tiny_corpus: Corpus) -> dict[int, Story]:
    """Story number -> the story as it was told to the writer."""
    by_key = {encode_key(story.key): story for story in make_stories(tiny_corpus.languages, 96)}
    return {number: by_key[key] for number, key in enumerate(tiny_corpus.story_keys())}


def collate(
    corpus: Corpus, edges: np.ndarray, group_size: int = 1, rule: ImageRule = "source_or_target", **changed: int
) -> Batch:
    lengths = {"document": 64, "summary": 16}
    sizes = {"images": 2, "regions": 36, "feature_size": 32}
    lengths = {key: changed.get(key, value) for key, value in lengths.items()}
    sizes = {key: changed.get(key, value) for key, value in (sizes | {"load": True}).items()}
    pairs = edges.astype(np.int64).reshape(-1, group_size, 2)
    groups = Groups(
        number=np.arange(len(pairs)) + 7,
        source=pairs[..., 0],
        target=pairs[..., 1],
        story=corpus.articles["story"][pairs[..., 1]].astype(np.int64),
    )
    tokenizer = open_tokenizer(corpus.directory / "tokenizer")
    fetch = Fetcher(corpus, Reader(corpus), ImageSizes(**sizes), rule=rule)
    return Collator(corpus, fetch, tokenizer, Lengths(**lengths))(groups)


def images_of(story: Story, language: str) -> Images | None:
    return (story.images or {}).get(language) or story.shared_images


def shown(story: Story, source: str, target: str, rule: ImageRule) -> Images | None:
    """V of an example: that of the source article, or of the first of both that has any."""
    own, others = images_of(story, source), images_of(story, target)
    return {"source": own, "source_or_target": own or others, "target_or_source": others or own}[rule]


@pytest.mark.parametrize("rule", ["source", "source_or_target", "target_or_source"])
def test_every_training_example_is_told_as_it_was_written(
    tiny_corpus: Corpus, tokenizer: Tokenizer, told: dict[int, Story], rule: ImageRule
) -> None:
    edges = np.asarray(tiny_corpus.edges["train"])
    batch = collate(tiny_corpus, edges, rule=rule)
    borrowed = without = 0
    for row in range(len(batch)):
        story = told[int(batch.story_B[row])]
        source, target = (
            tiny_corpus.languages[int(language[row])] for language in (batch.source_language_B, batch.target_language_B)
        )
        by_language = {article.language: article for article in story.articles}
        for ids, mask, text in (
            (batch.source_ids_BM, batch.source_mask_BM, by_language[source].text),
            (batch.target_ids_BM, batch.target_mask_BM, by_language[target].text),
            (batch.summary_ids_BN, batch.summary_mask_BN, by_language[target].summary),
        ):
            length = int(mask[row].sum())
            assert mask[row, :length].all()  # real tokens first, then padding
            assert (ids[row, length:] == tokenizer.pad_id).all()
            assert ids[row, length - 1] == tokenizer.eos_id
            assert tokenizer.decode(ids[row, :length].tolist()) == text
        assert bool(batch.cross_B[row]) == (source != target)
        assert int(batch.start_B[row]) == tokenizer.start_id(target)

        expected = shown(story, source, target, rule)
        borrowed += images_of(story, source) is None and expected is not None
        without += expected is None
        count = 0 if expected is None else min(2, len(expected.roi_IRV))
        assert batch.image_mask_BI[row].tolist() == [place < count for place in range(2)]
        assert not batch.roi_BIRV[row, count:].any()
        assert not batch.boxes_BIR4[row, count:].any()
        if expected is not None:
            np.testing.assert_array_equal(batch.roi_BIRV[row, :count].numpy(), expected.roi_IRV[:count])
            np.testing.assert_array_equal(batch.boxes_BIR4[row, :count].numpy(), expected.boxes_IR4[:count])
    assert (borrowed > 10) == (rule != "source")
    assert without > 10
    assert (batch.weight_B == 1).all()


def test_rows_have_one_image_number_exactly_where_they_have_one_image_sequence(
    tiny_corpus: Corpus, told: dict[int, Story]
) -> None:
    batch = collate(tiny_corpus, np.asarray(tiny_corpus.edges["train"]))
    of_sequence: dict[object, set[int]] = {}
    for row, number in enumerate(batch.images_B.tolist()):
        story = told[int(batch.story_B[row])]
        source, target = (
            tiny_corpus.languages[int(language[row])] for language in (batch.source_language_B, batch.target_language_B)
        )
        images = shown(story, source, target, "source_or_target")
        # A row without images is alone with its number, so it stands for itself.
        of_sequence.setdefault(id(images) if images is not None else f"row {row}", set()).add(number)
        assert (number < 0) == (images is None)
    numbers = [number for found in of_sequence.values() for number in found]
    assert len(set(numbers)) == len(numbers) == len(of_sequence)
    assert 20 < len(of_sequence) < len(batch)
    assert any(id(story.shared_images) in of_sequence for story in told.values())
    assert any(id(images) in of_sequence for story in told.values() for images in (story.images or {}).values())


def test_rows_whose_images_stay_on_disk_share_no_number(tiny_corpus: Corpus) -> None:
    batch = collate(tiny_corpus, np.asarray(tiny_corpus.edges["train"][:8]), load=False)
    assert len(set(batch.images_B.tolist())) == 8


def test_rows_are_numbered_by_slot_and_group(tiny_corpus: Corpus) -> None:
    batch = collate(tiny_corpus, np.asarray(tiny_corpus.edges["train"][:12]), group_size=4)
    assert batch.slot_B.tolist() == list(range(28, 40))
    assert batch.group_B.tolist() == [7] * 4 + [8] * 4 + [9] * 4


def test_a_row_has_its_own_targets_start_token(tiny_corpus: Corpus, tokenizer: Tokenizer) -> None:
    counts = tiny_corpus.directions["train"]
    mixed = np.asarray(tiny_corpus.edges["train"])[[counts[1], counts[6], counts[11], counts[13]]]
    batch = collate(tiny_corpus, mixed)
    assert len(set(batch.target_language_B.tolist())) == 4
    assert batch.start_B.tolist() == [
        tokenizer.start_id(tiny_corpus.languages[target]) for target in batch.target_language_B
    ]
    assert len(set(batch.start_B.tolist())) == 4


def test_what_is_too_long_is_cut_and_still_ends(tiny_corpus: Corpus, tokenizer: Tokenizer) -> None:
    edges = np.asarray(tiny_corpus.edges["train"][::25])
    whole = collate(tiny_corpus, edges)
    cut = collate(tiny_corpus, edges, document=5, summary=3)
    assert cut.source_ids_BM.shape[1] == cut.target_ids_BM.shape[1] == 5
    assert cut.summary_ids_BN.shape[1] == 3
    for name, length in (("source_ids_BM", 5), ("target_ids_BM", 5), ("summary_ids_BN", 3)):
        long, short = getattr(whole, name), getattr(cut, name)
        assert torch.equal(short[:, : length - 1], long[:, : length - 1])
        was_longer = (long[:, length - 1 :] != tokenizer.pad_id).sum(dim=1) > 1
        assert was_longer.any()
        assert (short[was_longer, length - 1] == tokenizer.eos_id).all()


def test_padding_is_to_the_longest_row_and_no_further(tiny_corpus: Corpus) -> None:
    batch = collate(tiny_corpus, np.asarray(tiny_corpus.edges["train"][::25]))
    for mask in (batch.source_mask_BM, batch.target_mask_BM, batch.summary_mask_BN):
        assert mask[:, -1].any()
        assert not mask[:, -1].all()


def test_features_stay_on_disk_where_the_network_sees_none(tiny_corpus: Corpus) -> None:
    batch = collate(tiny_corpus, np.asarray(tiny_corpus.edges["train"][:8]), load=False)
    assert not batch.image_mask_BI.any()
    assert batch.roi_BIRV.numel() == 0
    assert batch.boxes_BIR4.shape == (8, 2, 36, 4)


def test_dtypes_and_moving(tiny_corpus: Corpus) -> None:
    batch = collate(tiny_corpus, np.asarray(tiny_corpus.edges["train"][:8]))
    assert batch.roi_BIRV.dtype == torch.float16
    assert batch.boxes_BIR4.dtype == batch.weight_B.dtype == torch.float32
    assert batch.source_mask_BM.dtype == batch.cross_B.dtype == batch.image_mask_BI.dtype == torch.bool
    assert batch.start_B.dtype == batch.slot_B.dtype == batch.source_ids_BM.dtype == batch.images_B.dtype == torch.int64
    assert batch.to("meta").roi_BIRV.device.type == "meta"
    assert len(batch) == 8
