"""Implement NCLS with a second task (Zhu et al., 2019), the multi-task baselines of ACROSS' Table 1.

    cls     cross-entropy of the target summary, given the source document
    mls     NCLS+MLS: that of the source summary, given the same document
    mt      NCLS+MT: that of the target summary, given the source summary: a translation

Encoder, embeddings and head are shared; the second task has a decoder of its own, which is no part of the product.
The paper of NCLS+MT translates sentences of another corpus; the two summaries of a story are what a corpus here has.
A monolingual row has nothing to translate, and an augmented document no summary of its own.

Shape suffixes as in models/ragged.py.
"""

from collections.abc import Mapping

from torch import Tensor

from models.arrangement import Arrangement
from models.network import Network, real_rows
from models.objectives.base import Branch, Objective, Outputs, Term
from models.objectives.ncls_config import NclsConfig
from shards.batch.types import Batch


class Ncls(Objective):
    """Compute the terms cls and mls or mt."""

    def __init__(self, config: NclsConfig, network: Network) -> None:
        super().__init__()
        self.config, self.network = config, network
        self.branches = (Branch(name="cls", kinds=frozenset({"mms", "mxls"})),)
        self.second = network.backbone.further_decoder()

    def _rows(self, batch: Batch) -> list[int]:
        """Return the rows that the second task reads. The summary of an augmented source is its end token alone."""
        assert batch.source_summary_mask_BS is not None, "the configuration's `needs` asks for it"
        tokens_B = batch.source_summary_mask_BS.sum(dim=1)
        rows = [row for row in real_rows(batch) if tokens_B[row] > 1]
        return rows if self.config.task == "mls" else [row for row in rows if batch.cross_B[row]]

    def counts(self, batch: Batch) -> dict[str, float]:
        """Count target tokens of either task."""
        rows = self._rows(batch)
        mask = batch.source_summary_mask_BS if self.config.task == "mls" else batch.summary_mask_BN
        assert mask is not None
        first, second = batch.summary_mask_BN[real_rows(batch)].sum(), mask[rows].sum()
        return {"cls": float(first), self.config.task: float(second)}

    def _arrange(self, batch: Batch) -> Arrangement:
        arrangement = self.network.arrangement(batch)
        arrangement.decode("cls", "source", real_rows(batch))
        if self.config.task == "mls":
            arrangement.decode("mls", "source", self._rows(batch), writes="source_summary", decoder="second")
        else:
            arrangement.decode("mt", "source_summary", self._rows(batch), decoder="second")
        return arrangement

    def flops(self, batch: Batch) -> int:
        """Count what is arranged, both decoders' work included."""
        return self.network.flops(self._arrange(batch)).training

    def forward(self, batch: Batch, step: int, counts: Mapping[str, float]) -> Outputs:
        """Compute one call each of vision, encoder and fusion, and one of either decoder."""
        network, task = self.network, self.config.task
        arranged = network.place(self._arrange(batch).arranged())
        states, main, second = network.states(batch, arranged), arranged.main, arranged.decoders["second"]
        second_TD = network.decode(states.memory_TD, second, self.second)

        def loss(hidden_TD: Tensor, target_T: Tensor, weight_T: Tensor) -> tuple[Tensor, Tensor]:
            return network.token_loss(hidden_TD, target_T, self.config.label_smoothing, weight_T)

        cls, nll_T = loss(states.hidden_TD, main.target_T, main.weight_T)
        other, _ = loss(second_TD, second.target_T, second.weight_T)
        terms = {
            "cls": Term(sum=cls, count=counts["cls"], weight=1.0),
            task: Term(sum=other, count=counts[task], weight=self.config.weight),
        }
        return Outputs.of(arranged, terms, nll_T=nll_T, branches=self.branches)
