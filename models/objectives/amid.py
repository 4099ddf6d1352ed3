"""Implement AMID (Chen et al., 2023): a student of one modality and, learned at the same time, its teacher of both.

    student, teacher      cross-entropy of the class, one classifier for both     Eq. 15
    divergence            JSD of the student's and the teacher's classes          Eq. 16
    mi_*, adversarial_*, discriminator_*   models/objectives/amid_distillation.py
    J                     Eq. 17 + Eq. 13; in the first `warmup_steps` Eqs. 15 and 16 alone

Text and images have an extractor each: the text encoder, whose states are averaged over a document, and the visual
encoder, over an article's images. The student reads the target modality's, the auxiliary model the other's, the teacher
both: extractors are shared, as in the paper. A row takes part if it has a label and images.

The decoder takes part in every step, and is not changed by it.

Shape suffixes as in models/losses/class_contrast.py.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.arranged import Arranged
from models.arrangement import Arrangement
from models.losses import widen
from models.losses.class_contrast import prediction_divergence
from models.network import Network, real_rows
from models.objectives.amid_config import COLUMNS, AmidConfig
from models.objectives.amid_distillation import Compared, Distillation, Representations, compare_rows, weights_of
from models.objectives.base import Group, Objective, Outputs, Term, Watched
from models.ragged import averages
from shards.batch.types import Batch
from shards.directions import DirectionKind


class Amid(Objective):
    """Compute the terms above. It trains no writing; validation measures the accuracy of student and teacher."""

    branches = ()
    has_state = True
    measured = tuple(f"held_out_{column}_accuracy" for column in COLUMNS)
    measured_kind: DirectionKind = "mms"

    def __init__(self, config: AmidConfig, network: Network) -> None:
        """Build the objective around a network with vision."""
        super().__init__()
        self.config, self.network = config, network
        text, image = network.hidden_size, network.visual_size
        target, other = (text, image) if config.target == "text" else (image, text)
        self.distillation = Distillation(config, target=target, other=other)
        self.classify = nn.Linear(config.width, len(config.class_names))

    def counts(self, batch: Batch) -> dict[str, float]:
        """Count rows that take part."""
        compared = self.compared(batch)
        return dict.fromkeys((*COLUMNS, "divergence"), float(len(compared.rows))) | self.distillation.counts(compared)

    def compared(self, batch: Batch) -> Compared:
        """Return the rows with a label and images, and which of them are compared."""
        assert batch.label_B is not None, "the configuration's `needs` asks for it"
        shown_B = batch.image_mask_BI.any(dim=1)
        rows = [row for row in real_rows(batch) if batch.label_B[row] >= 0 and shown_B[row]]
        return compare_rows(rows, batch.label_B, batch.group_B, torch.arange(len(batch)))

    def flops(self, batch: Batch) -> int:
        """Count what is arranged, and the layers of the objective."""
        compared = self.compared(batch)
        classes = 2 * len(COLUMNS) * len(compared.rows) * weights_of(self.classify)
        own = classes + self.distillation.products(compared)
        return self.network.flops(self._arrange(batch, compared.rows), own).training

    def _arrange(self, batch: Batch, rows: Sequence[int]) -> Arrangement:
        arrangement = self.network.arrangement(batch)
        arrangement.decode("idle", "summary", [])
        arrangement.encode("document", "target", rows)
        arrangement.images()
        return arrangement

    def _represent(self, batch: Batch, rows: Sequence[int]) -> tuple[Arranged, Tensor, Representations]:
        """Return what was arranged, the decoder's part, which is zero, and what the models say of `rows`."""
        arranged = self.network.place(self._arrange(batch, rows).arranged())
        states, stream = self.network.states(batch, arranged), arranged.main
        assert states.visual_SV is not None
        idle, _ = self.network.token_loss(states.hidden_TD, stream.target_T, 0.0, stream.weight_T)
        text_BD = arranged.encoded["document"].means(states.texts_TD)
        image_BV = averages(arranged.pool_images, states.visual_SV).index_select(0, arranged.sequence_B)
        read = (text_BD, image_BV) if self.config.target == "text" else (image_BV, text_BD)
        return arranged, idle, self.distillation.represent(*read)

    def forward(self, batch: Batch, step: int, counts: Mapping[str, float]) -> Outputs:
        """Compute one call each of the text and the visual encoder; `batch` is on the host."""
        config, compared = self.config, self.compared(batch)
        arranged, idle, of = self._represent(batch, compared.rows)
        row_K = torch.tensor(compared.rows, dtype=torch.int64).to(idle.device, non_blocking=True)
        assert batch.label_B is not None
        class_K = batch.label_B[compared.rows].to(idle.device, non_blocking=True)
        said = {"student": of.student_BR, "teacher": of.teacher_BR}
        logits = {column: self.classify(by_BR.index_select(0, row_K)) for column, by_BR in said.items()}
        sums = {
            column: F.cross_entropy(widen(logits_KC), class_K, reduction="sum") for column, logits_KC in logits.items()
        }
        sums["divergence"] = prediction_divergence(*logits.values()).sum()
        distilled, watched = self.distillation.sums(of, compared)
        for column, logits_KC in logits.items():
            right = (logits_KC.argmax(dim=1) == class_K).float().sum()
            watched[f"{column}_accuracy"] = Watched(sum=right, count=counts[column])
        # Every parameter takes part in every step.
        sums["student"] = sums["student"] + idle
        weights = {"student": config.student, "teacher": config.teacher, "divergence": config.divergence}
        sums, weights = sums | distilled, weights | self.distillation.weights(step)
        terms = {name: Term(sum=sums[name], count=counts[name], weight=weights[name]) for name in counts}
        return Outputs.of(arranged, terms, watched=watched)

    @torch.no_grad()
    def judge(self, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        """Return the likeliest class (B,) int64 and the representation (B, R) of each row, by `COLUMNS`.

        In eval mode. Any for a placeholder, and for a row without images where those are read.
        """
        training = self.network.training
        self.network.eval()
        try:
            _, _, of = self._represent(batch, real_rows(batch))
        finally:
            self.network.train(training)
        said = {"student": of.student_BR, "teacher": of.teacher_BR}
        return {column: (self.classify(by_BR).argmax(dim=1), by_BR) for column, by_BR in said.items()}

    def measure(self, batch: Batch) -> dict[str, Tensor]:
        """Measure accuracies over the rows that have a label and images."""
        rows, label_B = self.compared(batch).rows, batch.label_B
        assert label_B is not None
        right = {
            f"held_out_{column}_accuracy": (chosen_B.cpu() == label_B)[rows].double()
            for column, (chosen_B, _) in self.judge(batch).items()
        }
        return {name: torch.stack([of.sum(), torch.ones_like(of).sum()]) for name, of in right.items()}

    def after_step(self, step: int, means: Mapping[str, float], kept: Mapping[str, Tensor]) -> None:
        """Let the discriminators' weights follow the cosines."""
        self.distillation.after_step(step, means)

    def parameter_groups(self) -> list[Group]:
        """Give the discriminators a rate of their own."""
        return self.distillation.groups(self)
