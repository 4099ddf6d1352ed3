"""The source's summary among the texts that rows of a batch have in common."""

from dataclasses import fields, replace

import pytest
import torch

from models.sharing import Rows
from models.synthetic import random_batch
from shards.errors import InputError


def test_it_is_the_text_of_its_story_and_language() -> None:
    batch = random_batch(rows=4, source_summaries=True)
    assert batch.source_summary_ids_BS is not None
    assert batch.source_summary_mask_BS is not None
    rows = Rows(batch, share=True)
    for row in range(4):
        real = batch.source_summary_ids_BS[row][batch.source_summary_mask_BS[row]]
        assert rows.ids("source_summary", row).tolist() == real.tolist()
        same = rows.identity("source_summary", row) == rows.identity("summary", row)
        assert same != bool(batch.cross_B[row])  # a monolingual row's is its summary
    # What one row reads is what another writes: the same summary, once as the source's and once as the target's.
    story_B, language_B = batch.story_B.clone(), batch.target_language_B.clone()
    story_B[1], language_B[1] = batch.story_B[0], batch.source_language_B[0]
    ids_BN, mask_BN = batch.summary_ids_BN.clone(), batch.summary_mask_BN.clone()
    ids_BN[1], mask_BN[1] = batch.source_summary_ids_BS[0], batch.source_summary_mask_BS[0]
    other = Rows(
        replace(batch, story_B=story_B, target_language_B=language_B, summary_ids_BN=ids_BN, summary_mask_BN=mask_BN),
        share=True,
    )
    assert other.identity("source_summary", 0) == other.identity("summary", 1)


def test_without_it_the_error_names_needs() -> None:
    with pytest.raises(InputError, match=r"the batch has no source_summary: name it in `needs`"):
        Rows(random_batch(), share=True).ids("source_summary", 0)


def test_the_other_fields_are_drawn_as_without_it() -> None:
    plain, more = random_batch(rows=5), random_batch(rows=5, source_summaries=True)
    for field in fields(plain):
        if (value := getattr(plain, field.name)) is not None:
            assert torch.equal(value, getattr(more, field.name)), field.name
