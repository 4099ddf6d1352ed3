"""Collate articles and images into the tensors of one micro-batch."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from types import MappingProxyType

import numpy as np
import torch

from shards.batch.fetch import Fetcher
from shards.batch.fields import Examples, Field, needed_fields
from shards.batch.types import Batch, ImageRows, StreamBatch, unrelated
from shards.format.index import Corpus
from shards.schema import Article
from shards.stream.sampler import Groups
from shards.text.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True, slots=True)
class Lengths:
    """Lengths that texts are cut to, in tokens, end token included."""

    document: int
    summary: int


def collate_articles(
    source: Sequence[Article],
    target: Sequence[Article],
    images: ImageRows,
    tokenizer: Tokenizer,
    lengths: Lengths,
    *,
    languages: Sequence[str],
    rows: Mapping[str, torch.Tensor] | None = None,
    optional: Sequence[Field] = (),
    classes: Mapping[str, int] = MappingProxyType({}),
) -> Batch:
    """Return the batch of examples from `source` to `target` articles, one a row.

    Documents and summaries are padded to the longest of the batch. An empty text is the end token alone, behind the
    language where the tokenizer marks it.  languages: those that the language numbers count.  rows: `story_B`,
    `group_B` and `weight_B`; by default the rows are unrelated.  optional: fields beside those that
    every batch has.  classes: label -> its number in `label_B`.
    """
    # An article comes twice in a monolingual row, and in every row that a story batch gives it.
    encode, start_id, pad_id = cache(tokenizer.encode), cache(tokenizer.start_id), tokenizer.pad_id
    documents = [encode(article.text, lengths.document, article.language) for article in source]
    teachers = [encode(article.text, lengths.document, article.language) for article in target]

    def summaries(articles: Sequence[Article]) -> tuple[torch.Tensor, torch.Tensor]:
        return _pad([encode(article.summary, lengths.summary) for article in articles], pad_id)

    def starts(articles: Sequence[Article]) -> torch.Tensor:
        return torch.tensor([start_id(article.language) for article in articles])

    def classified(articles: Sequence[Article]) -> torch.Tensor:
        return torch.tensor([-1 if article.label is None else classes.get(article.label, -1) for article in articles])

    source_ids_BM, source_mask_BM = _pad(documents, pad_id)
    target_ids_BM, target_mask_BM = _pad(teachers, pad_id)
    summary_ids_BN, summary_mask_BN = summaries(target)
    number_of = {language: number for number, language in enumerate(languages)}
    source_language_B = torch.tensor([number_of[article.language] for article in source])
    target_language_B = torch.tensor([number_of[article.language] for article in target])
    examples = Examples(
        source=source,
        target=target,
        summaries=summaries,
        starts=starts,
        classes=classified,
        pixels_BIHWC=images.pixels_BIHWC,
    )
    made = {name: value for of in optional for name, value in zip(of.attributes, of.make(examples), strict=True)}
    return Batch(
        source_ids_BM=source_ids_BM,
        source_mask_BM=source_mask_BM,
        target_ids_BM=target_ids_BM,
        target_mask_BM=target_mask_BM,
        summary_ids_BN=summary_ids_BN,
        summary_mask_BN=summary_mask_BN,
        start_B=starts(target),
        roi_BIRV=images.roi_BIRV,
        boxes_BIR4=images.boxes_BIR4,
        image_mask_BI=images.image_mask_BI,
        images_B=images.images_B,
        cross_B=source_language_B != target_language_B,
        source_language_B=source_language_B,
        target_language_B=target_language_B,
        **(rows or unrelated(len(source))),
        **made,
    )


class Collator:
    """Turns groups of examples into a `StreamBatch`. Holds no state that depends on what came before."""

    def __init__(
        self,
        corpus: Corpus,
        fetch: Fetcher,
        tokenizer: Tokenizer,
        lengths: Lengths,
        *,
        needs: Collection[str] = (),
        classes: Mapping[str, int] | None = None,
    ) -> None:
        """needs: names of optional fields to make (shards/batch/fields.py). `InputError` for an unknown one.

        classes: label -> its number in `label_B`; None: all those of the corpus, in their order.
        """
        every = {label: number for number, label in enumerate(corpus.label_names)}
        self._classes = every if classes is None else classes
        self._corpus, self._fetch, self._tokenizer, self._lengths = corpus, fetch, tokenizer, lengths
        self._optional = needed_fields(needs)

    def __call__(self, groups: Groups) -> StreamBatch:
        """Return one micro-batch of whole groups, rows in slot order."""
        fetched = self._fetch(groups)
        rows = {
            "story_B": torch.from_numpy(groups.story.ravel()),
            "group_B": torch.from_numpy(np.repeat(groups.number, groups.source.shape[1])),
            "weight_B": fetched.weight_B,
        }
        batch = collate_articles(
            fetched.source,
            fetched.target,
            fetched.images,
            self._tokenizer,
            self._lengths,
            languages=self._corpus.languages,
            rows=rows,
            optional=self._optional,
            classes=self._classes,
        )
        return StreamBatch(
            **{field.name: getattr(batch, field.name) for field in fields(Batch)},
            slot_B=torch.from_numpy(groups.slot.ravel()),
            unreadable=fetched.unreadable,
        )


def _pad(sequences: list[list[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    length = max(len(ids) for ids in sequences)
    padded = torch.full((len(sequences), length), pad_id, dtype=torch.int64)
    mask = torch.zeros(len(sequences), length, dtype=torch.bool)
    for row, ids in enumerate(sequences):
        padded[row, : len(ids)] = torch.tensor(ids)
        mask[row, : len(ids)] = True
    return padded, mask
