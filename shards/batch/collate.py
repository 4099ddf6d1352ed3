"""Groups of examples -> the tensors of one micro-batch."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from shards.batch.fetch import Fetcher
from shards.batch.types import Batch
from shards.format.index import Corpus
from shards.stream.sampler import Groups
from shards.text.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True, slots=True)
class Lengths:
    """Lengths that texts are cut to, in tokens, end token included."""

    document: int
    summary: int


class Collator:
    """Turns examples into a `Batch`. Holds no state that depends on what came before."""

    def __init__(self, corpus: Corpus, fetch: Fetcher, tokenizer: Tokenizer, lengths: Lengths) -> None:
        self._corpus = corpus
        self._fetch = fetch
        self._tokenizer = tokenizer
        self._lengths = lengths
        self._start = [tokenizer.start_id(language) for language in corpus.languages]

    def __call__(self, groups: Groups) -> Batch:
        """One micro-batch of whole groups, rows in slot order.

        Documents and summaries are padded to the longest of the micro-batch. A placeholder's texts are the end
        token alone, behind the language where the tokenizer marks it.
        """
        fetched = self._fetch(groups)
        size = groups.source.shape[1]
        sources, targets = groups.source.ravel(), groups.target.ravel()
        # An article comes twice in a monolingual row, and in every row that a story batch gives it.
        encode, lengths = cache(self._tokenizer.encode), self._lengths
        documents = [encode(article.text, lengths.document, article.language) for article in fetched.source]
        teachers = [encode(article.text, lengths.document, article.language) for article in fetched.target]
        summaries = [encode(article.summary, lengths.summary) for article in fetched.target]
        source_ids_BM, source_mask_BM = _pad(documents, self._tokenizer.pad_id)
        target_ids_BM, target_mask_BM = _pad(teachers, self._tokenizer.pad_id)
        summary_ids_BN, summary_mask_BN = _pad(summaries, self._tokenizer.pad_id)

        language = self._corpus.articles["language"]
        source_language, target_language = language[sources].astype(np.int64), language[targets].astype(np.int64)
        return Batch(
            source_ids_BM=source_ids_BM,
            source_mask_BM=source_mask_BM,
            target_ids_BM=target_ids_BM,
            target_mask_BM=target_mask_BM,
            summary_ids_BN=summary_ids_BN,
            summary_mask_BN=summary_mask_BN,
            start_B=torch.tensor([self._start[number] for number in target_language]),
            roi_BIRV=fetched.roi_BIRV,
            boxes_BIR4=fetched.boxes_BIR4,
            image_mask_BI=fetched.image_mask_BI,
            images_B=fetched.images_B,
            cross_B=torch.from_numpy(source_language != target_language),
            weight_B=fetched.weight_B,
            source_language_B=torch.from_numpy(source_language),
            target_language_B=torch.from_numpy(target_language),
            story_B=torch.from_numpy(groups.story.ravel()),
            group_B=torch.from_numpy(np.repeat(groups.number, size)),
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
