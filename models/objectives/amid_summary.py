"""Teach a summarizer that reads text alone by one that sees: AMID (Chen et al., 2023) for summaries, which is ours.

    student, teacher      cross-entropy of the summary, without images and with them         Eq. 15
    divergence            JSD of their distributions, token by token; the teacher is fixed    Eq. 16
    mi_*, adversarial_*, discriminator_*   models/objectives/amid_distillation.py
    J                     Eq. 17 + Eq. 13; in the first `warmup_steps` Eqs. 15 and 16 alone

A class is a story: the others of a row's class are the documents that tell it in other languages, several of which
`batch.sources_per_target` puts into a group. Text and images are represented by the mean states of the two encoders.
Encoder, decoder and head are shared, as the paper's extractors and classifier are, so the student is the network
without its visual path: a text model of its own that stock transformers read.

In Eq. 16 the teacher's distribution gets no gradient, so that both losses come out of one pass over the words
(models/losses/consistency.py); the paper's gets one.

Shape suffixes as in models/ragged.py and models/losses/class_contrast.py.
"""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor

from models.arranged import same_tokens
from models.arrangement import Arrangement
from models.dropout import dropout
from models.losses.consistency import cross_entropy_and_divergence
from models.network import Network, by_row, real_rows
from models.objectives.amid_distillation import Compared, Distillation, compare_rows
from models.objectives.amid_summary_config import AmidSummaryConfig
from models.objectives.base import Branch, Group, Objective, Outputs, Term
from models.ragged import averages
from shards.batch.types import Batch

STUDENT, TEACHER = "student", "teacher"


class AmidSummary(Objective):
    """Compute the terms above. Its products are the student, which has no vision, and the teacher."""

    branches = (
        Branch(name=STUDENT, kinds=frozenset({"mms", "mxls"})),
        Branch(name=TEACHER, kinds=frozenset()),
    )
    has_state = True

    def __init__(self, config: AmidSummaryConfig, network: Network) -> None:
        """Build the objective around the teacher, a network with vision."""
        super().__init__()
        self.config, self.network = config, network
        # In a tuple, out of torch's sight: all its parameters are the teacher's, and a checkpoint holds them once.
        self._student = (text_alone(network),)
        self.distillation = Distillation(config, target=network.hidden_size, other=network.visual_size)

    @property
    def student(self) -> Network:
        """Return the summarizer that reads text alone."""
        return self._student[0]

    def products(self) -> dict[str, Network]:
        """Return the student, and the teacher by its name."""
        return {STUDENT: self.student, TEACHER: self.network}

    def counts(self, batch: Batch) -> dict[str, float]:
        """Count target tokens for either cross-entropy and the divergence, rows with images for the rest."""
        tokens = float(batch.summary_mask_BN[real_rows(batch)].sum())
        return dict.fromkeys((STUDENT, "divergence", TEACHER), tokens) | self.distillation.counts(_compared(batch))

    def flops(self, batch: Batch) -> int:
        """Count the teacher's work, the student's behind the encoder, and the objective's layers."""
        seeing, blind = self._arrange(batch)
        teacher = self.network.flops(seeing, self.distillation.products(_compared(batch)))
        student = self.student.flops(blind)
        # Of the divergence, the teacher's words once more.
        return teacher.training + 3 * (student.decoder + student.head) + student.head

    def _arrange(self, batch: Batch) -> tuple[Arrangement, Arrangement]:
        """Ask the teacher for summaries and all states, the student for summaries of the same documents."""
        rows = real_rows(batch)
        seeing, blind = self.network.arrangement(batch), self.student.arrangement(batch)
        seeing.decode(TEACHER, "source", rows)
        seeing.encode("document", "source", rows)
        seeing.images()
        blind.decode(STUDENT, "source", rows)
        return seeing, blind

    def forward(self, batch: Batch, step: int, counts: Mapping[str, float]) -> Outputs:
        """Compute one call each of vision, encoder and fusion, and two of the decoder; `batch` is on the host."""
        config, network, student = self.config, self.network, self.student
        seeing, blind = (arrangement.arranged() for arrangement in self._arrange(batch))
        token_T = same_tokens(blind.main, STUDENT, seeing.main, TEACHER)
        arranged, written = network.place(seeing), student.place(blind)
        states = network.states(batch, arranged)
        assert states.visual_SV is not None
        documents_TD = states.texts_TD[: arranged.document_tokens]
        hidden_TD = student.decode(student.fuse(documents_TD, None, written), written.main)
        stream, head = written.main, network.backbone.head
        taught, divergence, nll_T = cross_entropy_and_divergence(
            dropout(hidden_TD, network.backbone.output_dropout, self.training),
            (head.weight, head.bias),
            states.hidden_TD.detach().index_select(0, token_T.to(hidden_TD.device, non_blocking=True)),
            (head.weight.detach(), head.bias.detach()),
            stream.target_T,
            config.label_smoothing,
            config.divergence / config.student,
            weight_T=stream.weight_T,
        )
        seen = arranged.main
        teaching, seen_T = network.token_loss(states.hidden_TD, seen.target_T, config.label_smoothing, seen.weight_T)
        image_BV = averages(arranged.pool_images, states.visual_SV).index_select(0, arranged.sequence_B)
        of = self.distillation.represent(arranged.encoded["document"].means(states.texts_TD), image_BV)
        distilled, watched = self.distillation.sums(of, _compared(batch))
        sums = {STUDENT: taught, "divergence": divergence, TEACHER: teaching} | distilled
        weights = {STUDENT: config.student, "divergence": config.divergence, TEACHER: config.teacher}
        weights |= self.distillation.weights(step)
        rows = {STUDENT: (nll_T, written), TEACHER: (seen_T, arranged)}
        return Outputs(
            terms={name: Term(sum=sums[name], count=counts[name], weight=weights[name]) for name in counts},
            row_nll={name: by_row(of_T, where.main, name) for name, (of_T, where) in rows.items()},
            row_tokens={name: by_row(torch.ones_like(of_T), where.main, name) for name, (of_T, where) in rows.items()},
            scalars={},
            real_tokens=arranged.real_tokens + len(stream.target_T),
            computed_tokens=arranged.computed_tokens + stream.layout.queries.rows * stream.layout.queries.length,
            watched=watched,
        )

    def after_step(self, step: int, means: Mapping[str, float], kept: Mapping[str, Tensor]) -> None:
        """Let the discriminators' weights follow the cosines."""
        self.distillation.after_step(step, means)

    def parameter_groups(self) -> list[Group]:
        """Give the discriminators a rate of their own."""
        return self.distillation.groups(self)


def text_alone(network: Network) -> Network:
    """Return a network that reads text with the same backbone, whose parameters it shares, and has no vision."""
    alone = copy.copy(network)
    alone._modules = {**network._modules, "vision": None, "fusion": None}
    alone.config = AmidSummaryConfig.product_of(network.config)
    alone.visual_size = alone.config.vision.width
    return alone


def _compared(batch: Batch) -> Compared:
    """Return the rows with images, and of each those of its group that tell the same story."""
    shown_B = batch.image_mask_BI.any(dim=1)
    rows = [row for row in real_rows(batch) if shown_B[row]]
    # A story with fewer sources than a group wants has some of them twice.
    return compare_rows(rows, batch.story_B, batch.group_B, batch.source_language_B)
