"""Fine-tune for multimodal machine translation (RC³, Zhou et al., 2023, section 3.5): names from names and images.

    mt      cross-entropy of the target's summary, given the source's summary and the source's images

Validation, evaluation (`evaluation.task: translation`) and this objective read the same: `Network.writing`.

Shape suffixes as in models/ragged.py.
"""

from collections.abc import Mapping

from models.arrangement import Arrangement
from models.network import Network, real_rows
from models.objectives.base import Branch, Objective, Outputs, Term
from models.objectives.translation_config import TranslationConfig
from models.sharing import Text
from shards.batch.types import Batch


class Translation(Objective):
    """Compute the term mt. Any network reads names with images, early or late fusion."""

    branches = (Branch(name="mt", kinds=frozenset({"mms", "mxls"})),)
    reads: Text = TranslationConfig.reads

    def __init__(self, config: TranslationConfig, network: Network) -> None:
        super().__init__()
        self.config, self.network = config, network

    def _rows(self, batch: Batch) -> list[int]:
        """Return the rows with a name to read. The summary of an augmented source is its end token alone."""
        assert batch.source_summary_mask_BS is not None, "the configuration's `needs` asks for it"
        tokens_B = batch.source_summary_mask_BS.sum(dim=1)
        return [row for row in real_rows(batch) if tokens_B[row] > 1]

    def _arrange(self, batch: Batch) -> Arrangement:
        return self.network.writing(batch, "mt", self.reads, self._rows(batch))

    def counts(self, batch: Batch) -> dict[str, float]:
        """Count target tokens."""
        return {"mt": float(batch.summary_mask_BN[self._rows(batch)].sum())}

    def flops(self, batch: Batch) -> int:
        """Count what is arranged."""
        return self.network.flops(self._arrange(batch)).training

    def forward(self, batch: Batch, step: int, counts: Mapping[str, float]) -> Outputs:
        """Compute one call each of vision, encoder, fusion and decoder; `batch` is on the host."""
        network = self.network
        arranged = network.place(self._arrange(batch).arranged())
        stream, hidden_TD = arranged.main, network.states(batch, arranged).hidden_TD
        total, nll_T = network.token_loss(hidden_TD, stream.target_T, self.config.label_smoothing, stream.weight_T)
        terms = {"mt": Term(sum=total, count=counts["mt"], weight=1.0)}
        return Outputs.of(arranged, terms, nll_T=nll_T, branches=self.branches)
