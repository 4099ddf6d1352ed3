"""Groups of examples -> the tensors of one micro-batch."""

from dataclasses import dataclass

import numpy as np
import torch

from shards.index import Corpus
from shards.reader import Reader
from shards.sampler import Groups
from shards.schema import Batch
from shards.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True, slots=True)
class Lengths:
    """What a batch is cut to. `load_images` False leaves the features on disk: all rows are without images."""

    document: int  # tokens, end token included
    summary: int
    images: int  # I, images an article
    regions: int  # R
    feature_size: int  # V
    load_images: bool = True


class Collator:
    """Turns examples into a `Batch`. Holds no state that depends on what came before."""

    def __init__(self, corpus: Corpus, reader: Reader, tokenizer: Tokenizer, lengths: Lengths) -> None:
        self._corpus = corpus
        self._reader = reader
        self._tokenizer = tokenizer
        self._lengths = lengths
        self._start = [tokenizer.start_id(language) for language in corpus.languages]

    def __call__(self, groups: Groups) -> Batch:
        """One micro-batch of whole groups, rows in slot order.

        Documents and summaries are padded to the longest of the micro-batch. V is the target article's
        images if it has any, else the source's.
        """
        size = groups.source.shape[1]
        sources, targets = groups.source.ravel(), groups.target.ravel()
        articles = self._corpus.articles
        source_articles = [self._reader.article(int(row)) for row in sources]
        target_articles = [
            article if source == target else self._reader.article(int(target))
            for source, target, article in zip(sources, targets, source_articles, strict=True)
        ]
        documents = [self._tokenizer.encode(a.text, self._lengths.document) for a in source_articles]
        teachers = [self._tokenizer.encode(a.text, self._lengths.document) for a in target_articles]
        summaries = [self._tokenizer.encode(a.summary, self._lengths.summary) for a in target_articles]
        source_ids_BM, source_mask_BM = _pad(documents, self._tokenizer.pad_id)
        target_ids_BM, target_mask_BM = _pad(teachers, self._tokenizer.pad_id)
        summary_ids_BN, summary_mask_BN = _pad(summaries, self._tokenizer.pad_id)

        rows = len(sources)
        sizes = self._lengths
        width = sizes.feature_size if sizes.load_images else 0
        roi_BIRV = torch.zeros(rows, sizes.images, sizes.regions, width, dtype=torch.float16)
        boxes_BIR4 = torch.zeros(rows, sizes.images, sizes.regions, 4)
        image_mask_BI = torch.zeros(rows, sizes.images, dtype=torch.bool)
        for row, (source, target) in enumerate(zip(sources, targets, strict=True)):
            if sizes.load_images:
                owner = int(target if articles["images"][target] else source)
                count = self._reader.images(owner, roi_BIRV[row].numpy(), boxes_BIR4[row].numpy())
                image_mask_BI[row, :count] = True

        source_language = articles["language"][sources].astype(np.int64)
        target_language = articles["language"][targets].astype(np.int64)
        slots = groups.number[:, None] * size + np.arange(size)
        return Batch(
            source_ids_BM=source_ids_BM,
            source_mask_BM=source_mask_BM,
            target_ids_BM=target_ids_BM,
            target_mask_BM=target_mask_BM,
            summary_ids_BN=summary_ids_BN,
            summary_mask_BN=summary_mask_BN,
            start_B=torch.tensor([self._start[language] for language in target_language]),
            roi_BIRV=roi_BIRV,
            boxes_BIR4=boxes_BIR4,
            image_mask_BI=image_mask_BI,
            cross_B=torch.from_numpy(source_language != target_language),
            weight_B=torch.ones(rows),
            source_language_B=torch.from_numpy(source_language),
            target_language_B=torch.from_numpy(target_language),
            story_B=torch.from_numpy(groups.story.ravel()),
            group_B=torch.from_numpy(np.repeat(groups.number, size)),
            slot_B=torch.from_numpy(slots.ravel()),
        )


def _pad(sequences: list[list[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    length = max(len(ids) for ids in sequences)
    padded = torch.full((len(sequences), length), pad_id, dtype=torch.int64)
    mask = torch.zeros(len(sequences), length, dtype=torch.bool)
    for row, ids in enumerate(sequences):
        padded[row, : len(ids)] = torch.tensor(ids)
        mask[row, : len(ids)] = True
    return padded, mask
