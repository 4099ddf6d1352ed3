"""Fields of a batch that are there where an objective needs them, and nowhere else."""

from dataclasses import fields
from itertools import islice

import numpy as np
import pytest
import torch

from shards.batch.collate import Collator, Lengths, collate_articles
from shards.batch.fetch import Fetcher, ImageSizes
from shards.batch.fields import FIELDS, needed_fields
from shards.batch.loader import Loader
from shards.batch.reader import Reader, ReaderConfig
from shards.batch.types import Batch, ImageRows, StreamBatch
from shards.errors import InputError
from shards.format.index import Corpus
from shards.schema import Article
from shards.stream.mixture import MixtureConfig
from shards.stream.partition import Partition
from shards.stream.sampler import Groups, Sampler
from shards.text.tokenizer import open_tokenizer

NEEDS = ("source_summary",)


def collator(corpus: Corpus, needs: tuple[str, ...] = NEEDS, summary: int = 12) -> Collator:
    reader = Reader(corpus, ReaderConfig(io_threads=0))
    fetch = Fetcher(corpus, reader, ImageSizes(images=2, regions=36, feature_size=32))
    tokenizer = open_tokenizer(corpus.directory / "tokenizer")
    return Collator(corpus, fetch, tokenizer, Lengths(document=32, summary=summary), needs=needs)


def every_example(corpus: Corpus) -> Groups:
    edges = np.asarray(corpus.edges["train"]).astype(np.int64)
    story = corpus.articles["story"][edges[:, 1:]].astype(np.int64)
    return Groups(number=np.arange(len(edges)), source=edges[:, :1], target=edges[:, 1:], story=story)


def values(batch: Batch) -> dict[str, object]:
    return {field.name: getattr(batch, field.name) for field in fields(batch)}


def test_a_row_has_the_summary_of_its_source(tiny_corpus: Corpus) -> None:
    groups, tokenizer = every_example(tiny_corpus), open_tokenizer(tiny_corpus.directory / "tokenizer")
    reader, batch = Reader(tiny_corpus), collator(tiny_corpus)(groups)
    ids_BS, mask_BS, start_B = batch.source_summary_ids_BS, batch.source_summary_mask_BS, batch.source_start_B
    assert ids_BS is not None
    assert mask_BS is not None
    assert start_B is not None
    assert mask_BS[:, -1].any()
    other = 0
    for row, source in enumerate(groups.source.ravel().tolist()):
        article = reader.article(source)
        length = int(mask_BS[row].sum())
        assert ids_BS[row, :length].tolist() == tokenizer.encode(article.summary, 12)
        assert ids_BS[row, length - 1] == tokenizer.eos_id
        assert mask_BS[row, :length].all()
        assert (ids_BS[row, length:] == tokenizer.pad_id).all()
        assert start_B[row] == tokenizer.start_id(article.language)
        assert (start_B[row] != batch.start_B[row]) == bool(batch.cross_B[row])
        own = batch.summary_ids_BN[row][batch.summary_mask_BN[row]].tolist()
        other += own != ids_BS[row, :length].tolist()
        assert own == ids_BS[row, :length].tolist() or batch.cross_B[row]
    assert other > 100


def test_a_batch_is_the_same_without_it(tiny_corpus: Corpus) -> None:
    groups = every_example(tiny_corpus)
    plain, more = values(collator(tiny_corpus, ())(groups)), values(collator(tiny_corpus)(groups))
    optional = {attribute for field in FIELDS.values() for attribute in field.attributes}
    assert {name for name, value in plain.items() if value is None} == optional
    for name in plain.keys() - optional:
        one, other = plain[name], more[name]
        if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
            assert one.dtype == other.dtype
            assert torch.equal(one, other), name
        else:
            assert one == other


def test_it_is_cut_as_summaries_are(tiny_corpus: Corpus) -> None:
    batch = collator(tiny_corpus, summary=3)(every_example(tiny_corpus))
    ids_BS, mask_BS = batch.source_summary_ids_BS, batch.source_summary_mask_BS
    assert ids_BS is not None
    assert mask_BS is not None
    assert ids_BS.shape == batch.summary_ids_BN.shape
    last_B1 = mask_BS.sum(dim=1, keepdim=True) - 1
    assert (ids_BS.gather(1, last_B1) == 1).all()


def test_an_empty_summary_is_the_end_token(tiny_corpus: Corpus) -> None:
    """As it is of targets. A corpus has none: that is a placeholder's, of weight 0, or a transform's."""
    tokenizer = open_tokenizer(tiny_corpus.directory / "tokenizer")
    english = Article(language="english", text="sun moon", summary="")
    urdu = Article(language="urdu", text="x", summary="")
    batch = collate_articles(
        [english, urdu],
        [urdu, urdu],
        ImageRows.of([None, None], images=1, regions=1, feature_size=1),
        tokenizer,
        Lengths(document=8, summary=8),
        languages=("english", "urdu"),
        optional=needed_fields(NEEDS),
    )
    assert batch.source_summary_ids_BS is not None
    assert batch.source_summary_mask_BS is not None
    assert batch.source_start_B is not None
    assert batch.source_summary_ids_BS.tolist() == [[tokenizer.eos_id]] * 2 == batch.summary_ids_BN.tolist()
    assert batch.source_summary_mask_BS.all()
    assert batch.source_start_B.tolist() == [tokenizer.start_id(language) for language in ("english", "urdu")]


def test_it_moves_with_the_batch(tiny_corpus: Corpus) -> None:
    groups = Sampler(tiny_corpus, split="train", mixture=MixtureConfig(), seed=5, group_size=4).groups(0, 1)
    moved = collator(tiny_corpus)(groups).to("meta")
    assert moved.source_summary_ids_BS is not None
    assert moved.source_summary_ids_BS.device.type == "meta"
    assert collator(tiny_corpus, ())(groups).to("meta").source_summary_ids_BS is None


def read(corpus: Corpus, ranks: int, micro: int, threads: int) -> dict[int, tuple[list[int], int]]:
    """Slot -> tokens and start of its source summary, of two steps of four groups in some layout."""
    found: dict[int, tuple[list[int], int]] = {}
    for rank in range(ranks):
        loader = Loader(
            Sampler(corpus, split="train", mixture=MixtureConfig(), seed=5, group_size=4),
            collator(corpus),
            Partition(groups_per_step=4, groups_per_micro_batch=micro, rank=rank, world_size=ranks),
            first_step=0,
            threads=threads,
            prefetch=2,
        )
        for batch in islice(loader, 2 * 4 // (micro * ranks)):
            found |= _by_slot(batch)
        loader.close()
    return found


def _by_slot(batch: StreamBatch) -> dict[int, tuple[list[int], int]]:
    ids_BS, mask_BS, start_B = batch.source_summary_ids_BS, batch.source_summary_mask_BS, batch.source_start_B
    assert ids_BS is not None
    assert mask_BS is not None
    assert start_B is not None
    rows = enumerate(batch.slot_B.tolist())
    return {slot: (ids_BS[row][mask_BS[row]].tolist(), int(start_B[row])) for row, slot in rows}


def test_ranks_and_micro_steps_read_the_same(tiny_corpus: Corpus) -> None:
    plain = read(tiny_corpus, ranks=1, micro=1, threads=0)
    assert sorted(plain) == list(range(2 * 4 * 4))
    assert read(tiny_corpus, ranks=2, micro=1, threads=2) == plain
    assert read(tiny_corpus, ranks=1, micro=4, threads=0) == plain


def test_an_unknown_name_is_refused_with_the_known_ones(tiny_corpus: Corpus) -> None:
    with pytest.raises(InputError, match=r"no batch field 'source_sumary' \(did you mean 'source_summary'\?\); known"):
        collator(tiny_corpus, ("source_sumary",))
