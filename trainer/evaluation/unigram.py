"""Compute the NLL of a unigram model of each language's training summaries, to compare a network's with."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from shards.batch.reader import Reader
from shards.batch.spans import UnreadableError
from shards.format.index import Corpus
from shards.stream.sampler import Groups
from shards.text.tokenizer import Tokenizer
from trainer.distributed import sum_over_ranks
from trainer.ranks import Ranks

#: Additive smoothing is chosen among these on the validation split, in the unigram model's favour.
_SMOOTHING = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)


class UnigramBaseline:
    """p(token | language) from the training summaries, with additive smoothing.

    Same tokenizer, same summaries and same token counts (end token included) as the network's NLL.
    """

    def __init__(
        self,
        corpus: Corpus,
        reader: Reader,
        tokenizer: Tokenizer,
        summary_length: int,
        ranks: Ranks,
        device: torch.device,
    ) -> None:
        """Count the corpus' summaries, divided among the ranks (all ranks call this)."""
        self._ranks, self._device = ranks, device
        self._corpus, self._reader, self._tokenizer = corpus, reader, tokenizer
        self._length = summary_length
        counts = self._counts("train")
        held_out = self._counts("validation")
        scores = [(-float((held_out * _log_probabilities(counts, s)).sum()), s) for s in _SMOOTHING]
        self.smoothing = min(scores)[1]
        self._log_p = _log_probabilities(counts, self.smoothing)

    def nll(self, groups: Groups) -> float:
        """Return the NLL a target token, in nats, of the summaries of these examples."""
        total, tokens = 0.0, 0
        for row in groups.target.ravel().tolist():
            ids = self._summary(row)
            total -= float(self._log_p[int(self._corpus.articles["language"][row])][ids].sum())
            tokens += len(ids)
        return total / tokens if tokens else float("nan")

    def _counts(self, split: str) -> NDArray[np.float64]:
        """Return (L, W) token counts of a split's summaries."""
        counts = np.zeros((len(self._corpus.languages), self._tokenizer.vocab_size))
        names: Sequence[str] = self._corpus.shards
        of_split = np.array([name.split("-")[0] == split for name in names])
        articles = self._corpus.articles
        rows = np.flatnonzero(of_split[articles["shard"]])
        rows = rows[~self._corpus.is_variant(rows)]  # they have no summary
        for row in rows[self._ranks.rank :: self._ranks.world_size]:
            np.add.at(counts[int(articles["language"][row])], self._summary(int(row)), 1)
        return np.asarray(sum_over_ranks(torch.from_numpy(counts).to(self._device)).cpu().numpy())

    def _summary(self, row: int) -> list[int]:
        """Return the token ids of an article's summary; none where it cannot be read."""
        try:
            return self._tokenizer.encode(self._reader.article(row).summary, self._length)
        except UnreadableError:
            return []


def _log_probabilities(counts: NDArray[np.float64], smoothing: float) -> NDArray[np.float64]:
    smoothed = counts + smoothing
    return np.asarray(np.log(smoothed / smoothed.sum(axis=1, keepdims=True)))
