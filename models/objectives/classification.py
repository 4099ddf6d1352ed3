"""Fine-tune for classification of a text with its images (RC³, Zhou et al., 2023, Appendix B: XVNLI, xGQA, MaRVL).

    label   cross-entropy of the article's label, from a head on the state at [CLS]

The paper leaves head and loss open. The head is VOLTA's (e-bug/volta, volta/encoders.py), by which IGLUE's models are
fine-tuned: dropout, then for xGQA and MaRVL Linear, GELU, LayerNorm and Linear, for XVNLI one Linear; weights drawn by
Xavier's rule, biases zero. VOLTA joins the states of MaRVL's two images, where RC³ reads both in one input.
The text is a row's target document, whose label it is, with its language's token before it as RC³ reads texts. The
decoder takes part in every step, and is not changed by it.

Shape suffixes as in models/ragged.py; C classes.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.arranged import Arranged
from models.arrangement import Arrangement
from models.dropout import dropout
from models.losses import widen
from models.network import Network, States, real_rows
from models.objectives.base import Objective, Outputs, Term
from models.objectives.classification_config import ClassificationConfig
from shards.batch.types import Batch
from shards.directions import DirectionKind


class Classification(Objective):
    """Compute the term label. It trains no writing, so it has no branches; validation measures loss and accuracy."""

    branches = ()
    measured = ("held_out_label", "held_out_accuracy")
    measured_kind: DirectionKind = "mms"

    def __init__(self, config: ClassificationConfig, network: Network) -> None:
        """Build the objective around a network of early fusion."""
        super().__init__()
        self.config, self.network = config, network
        width, classes = network.hidden_size, len(config.class_names)
        self.head: nn.Module = nn.Linear(width, classes)
        if config.head == "mlp":
            hidden = 2 * width
            self.head = nn.Sequential(
                nn.Linear(width, hidden), nn.GELU(), nn.LayerNorm(hidden), nn.Linear(hidden, classes)
            )
        for layer in self.head.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def counts(self, batch: Batch) -> dict[str, float]:
        """Count examples with a label among the classes."""
        return {"label": float(len(labelled(batch)))}

    def flops(self, batch: Batch) -> int:
        """Count what is arranged, and the head."""
        rows = labelled(batch)
        weights = sum(layer.weight.numel() for layer in self.head.modules() if isinstance(layer, nn.Linear))
        return self.network.flops(self._arrange(batch, rows), 2 * weights * len(rows)).training

    def _arrange(self, batch: Batch, rows: list[int]) -> Arrangement:
        arrangement = self.network.arrangement(batch, tagged=True)
        arrangement.decode("idle", "summary", [])
        arrangement.encode("example", "target", rows, images=rows)
        return arrangement

    def _logits(self, batch: Batch, rows: list[int]) -> tuple[Arranged, States, Tensor]:
        """Return what was arranged, its states, and the logits (B, C) float32 of `rows`, any of others."""
        arranged = self.network.place(self._arrange(batch, rows).arranged())
        states = self.network.states(batch, arranged)
        first_BD = states.texts_TD.index_select(0, arranged.encoded["example"].first_B)
        first_BD = dropout(first_BD, self.config.dropout, self.training and self.network.training)
        return arranged, states, widen(self.head(first_BD))

    def forward(self, batch: Batch, step: int, counts: Mapping[str, float]) -> Outputs:
        """Compute one encoder call; `batch` is on the host."""
        arranged, states, logits_BC = self._logits(batch, labelled(batch))
        stream = arranged.main
        idle, _ = self.network.token_loss(states.hidden_TD, stream.target_T, 0.0, stream.weight_T)
        loss_B, _ = _losses(logits_BC, batch)
        # The decoder's part is zero, and there because every parameter takes part in every step.
        return Outputs.of(arranged, {"label": Term(sum=loss_B.sum() + idle, count=counts["label"], weight=1.0)})

    @torch.no_grad()
    def classify(self, batch: Batch) -> Tensor:
        """Return the number of each row's likeliest class, (B,) int64; any for a placeholder. Call it in eval mode."""
        _, _, logits_BC = self._logits(batch, real_rows(batch))
        return logits_BC.argmax(dim=1)

    @torch.no_grad()
    def measure(self, batch: Batch) -> dict[str, Tensor]:
        """Measure loss and accuracy, in eval mode."""
        training = self.network.training
        self.network.eval()
        _, _, logits_BC = self._logits(batch, labelled(batch))
        self.network.train(training)
        loss_B, right_B = _losses(logits_BC, batch)
        count = torch.tensor(float(len(labelled(batch))), dtype=torch.float64, device=loss_B.device)
        sums = (loss_B.double().sum(), right_B.double().sum())
        return {name: torch.stack([total, count]) for name, total in zip(self.measured, sums, strict=True)}


def labelled(batch: Batch) -> list[int]:
    """Return the rows with a label among the classes."""
    assert batch.label_B is not None, "the configuration's `needs` asks for it"
    return [row for row in real_rows(batch) if batch.label_B[row] >= 0]


def _losses(logits_BC: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return cross-entropy (B,) and whether the likeliest class is the label (B,); zero and False for other rows."""
    assert batch.label_B is not None
    label_B = torch.where(batch.weight_B > 0, batch.label_B, -1).to(logits_BC.device, non_blocking=True)
    loss_B = F.cross_entropy(logits_BC, label_B, ignore_index=-1, reduction="none")
    return loss_B, logits_BC.argmax(dim=1) == label_B
