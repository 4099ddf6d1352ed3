"""Implement D2TV (Liang et al., 2023) and its baselines: Tables 1 and 2 as flags of one objective.

    MMS               branches: mms                               Eq. 2
    MXLS              branches: mxls                              Eq. 4
    MMS+MXLS          branches: both, distillation: none          Eqs. 2, 4
    Vanilla-KD        branches: both, distillation: vanilla       Eqs. 2, 3, 4
    w/ DKD            branches: both, distillation: dual          Eqs. 2-8
    w/ TCO            branches: both, contrast: true              Eqs. 2, 4, 9
    D2TV              branches: both, distillation: dual, contrast: true    Eq. 10

Shape suffixes as in models/ragged.py; T target tokens of both branches (teacher first), S regions of all images.
The teacher reads the target document of every row, the student the source document of cross-lingual
rows only; both write the row's summary with the row's images.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.arranged import Arranged
from models.arrangement import Arrangement
from models.config import NetworkConfig
from models.flops import BackboneSizes, Flops, forward_flops
from models.losses.contrast import contrast_anchors, target_oriented_contrast
from models.losses.distillation import alpha, distillation_distance
from models.network import Network, States, real_rows
from models.objectives.base import Branch, Objective, Outputs, Term
from models.objectives.d2tv_config import D2TVConfig
from models.ragged import averages
from shards.batch.types import Batch

#: The teacher reads the target document of every row, the student the source document of cross-lingual ones.
BRANCHES = (Branch(name="mms", kinds=frozenset({"mms"})), Branch(name="mxls", kinds=frozenset({"mxls"})))


class D2TV(Objective):
    """Compute the terms mms, mxls, kd_teacher_to_student, kd_student_to_teacher and tco, each by its flag."""

    def __init__(self, config: D2TVConfig, network: Network, *, share: bool = True) -> None:
        """Build the objective. share False: compute every row on its own, to measure what sharing saves."""
        super().__init__()
        self.config, self.network, self.share = config, network, share
        self.waits_for_ranks = config.contrast and config.negatives == "global"
        self.measured = () if config.distillation == "none" else ("kd_distance", "kd_floor")
        self.has_teacher, self.has_student = config.branches != "mxls", config.branches != "mms"
        trained = {"mms": self.has_teacher, "mxls": self.has_student}
        self.branches = tuple(branch for branch in BRANCHES if trained[branch.name])
        self._sizes = BackboneSizes.of(network.backbone.model.config)
        # "MLP is a fully-connected layer" (above Eq. 9): from the visual width to the text's.
        self.project = nn.Linear(network.visual_size, network.hidden_size) if config.contrast else None

    def counts(self, batch: Batch) -> dict[str, float]:
        """Count target tokens for mms, mxls and the distillation terms, anchors for tco."""
        real_B = batch.weight_B > 0
        tokens_B = batch.summary_mask_BN.sum(dim=1) * real_B
        teacher = float(tokens_B.sum())
        student = float((tokens_B * batch.cross_B).sum())
        counts: dict[str, float] = {}
        if self.has_teacher:
            counts["mms"] = teacher
        if self.has_student:
            counts["mxls"] = student
        if self.config.distillation != "none":
            counts["kd_teacher_to_student"] = student
        if self.config.distillation == "dual":
            counts["kd_student_to_teacher"] = student
        if self.config.contrast:
            counts["tco"] = float(contrast_anchors(batch.image_mask_BI, batch.weight_B).sum())
        return counts

    def flops(self, batch: Batch) -> int:
        """Count the operations of what is arranged, and of the layer above Eq. 9."""
        return step_flops(self._arrange(batch), self.config, self.network.config, self._sizes).training

    def _arrange(self, batch: Batch) -> Arrangement:
        return arrange(self.network.arrangement(batch, share=self.share), batch, self.config)

    def forward(self, batch: Batch, step: int, counts: Mapping[str, float]) -> Outputs:
        """Compute one visual pass, one text-encoder call, one fusion and one decoder call, whatever the flags.

        `batch` is on the host: what to compute is decided there, and only that goes to the device.
        """
        network = self.network
        arranged = network.place(self._arrange(batch).arranged())
        return self.outputs(batch, arranged, network.states(batch, arranged), step, counts)

    def outputs(
        self, batch: Batch, arranged: Arranged, states: States, step: int, counts: Mapping[str, float]
    ) -> Outputs:
        """Return the terms, from the states of what `arrange` asks for. Other parts may have been arranged beside."""
        config, network, stream = self.config, self.network, arranged.main
        hidden_TD = states.hidden_TD
        terms: dict[str, Term] = {}
        nll_T = hidden_TD.new_zeros(len(hidden_TD), dtype=torch.float32)
        for branch in self.branches:
            name, tokens = branch.name, stream.parts[branch.name].tokens
            total, nll_T[tokens] = network.token_loss(
                hidden_TD[tokens], stream.target_T[tokens], config.label_smoothing, stream.weight_T[tokens]
            )
            terms[name] = Term(sum=total, count=counts[name], weight=1.0)
        scalars: dict[str, float] = {}
        if config.distillation != "none":
            scalars["alpha"] = alpha(step, config.alpha_steps)
            teacher_TD, student_TD, weight_T = _taught(hidden_TD, arranged)
            terms |= self._distillation(teacher_TD, student_TD, weight_T, counts, scalars["alpha"])
        if config.contrast:
            assert states.visual_SV is not None
            terms["tco"] = self._contrast(states.visual_SV, states.texts_TD, arranged, batch, counts["tco"])
        return Outputs.of(arranged, terms, nll_T=nll_T, branches=self.branches, scalars=scalars)

    @torch.no_grad()
    def measure(self, batch: Batch) -> dict[str, Tensor]:
        """Measure kd_distance, that of Eqs. 5 and 7 under dropout, and kd_floor, the part of it due to dropout alone.

        The floor is the distance of a branch to itself under another draw, the mean of both branches, on the same
        tokens: were teacher and student one, their distance would be the floor. Two forward passes; without dropout the
        floor is exactly 0.
        """
        if not self.measured:
            return {}
        rows = [row for row in real_rows(batch) if batch.cross_B[row]]
        network, training = self.network, self.network.training
        arrangement = network.arrangement(batch, share=self.share)
        arrangement.decode("mms", "target", rows)
        arrangement.decode("mxls", "source", rows, beside="mms")
        arranged = network.place(arrangement.arranged())
        network.train()
        draws = [network.states(batch, arranged).hidden_TD for _ in range(2)]
        network.train(training)
        (teacher_TD, student_TD, weight_T), (teacher_again_TD, student_again_TD, _) = (
            _taught(hidden_TD, arranged) for hidden_TD in draws
        )

        def total(one_TD: Tensor, other_TD: Tensor) -> Tensor:
            distance_T = distillation_distance(one_TD, other_TD, self.config.distance)
            return (weight_T * distance_T.clamp(min=0)).double().sum()  # a cosine of equals is rounded above 1

        count = weight_T.double().sum()
        floor = (total(teacher_TD, teacher_again_TD) + total(student_TD, student_again_TD)) / 2
        sums = {"kd_distance": total(teacher_TD, student_TD), "kd_floor": floor}
        return {name: torch.stack((of, count)) for name, of in sums.items()}

    def _distillation(
        self, teacher_TD: Tensor, student_TD: Tensor, weight_T: Tensor, counts: Mapping[str, float], weight: float
    ) -> dict[str, Term]:
        """Compute Eqs. 5 and 7 with the weights of Eqs. 3 and 6. The side that teaches is detached."""
        distance = self.config.distance
        to_student = (weight_T * distillation_distance(teacher_TD.detach(), student_TD, distance)).sum()
        name = "kd_teacher_to_student"
        terms = {name: Term(sum=to_student, count=counts[name], weight=weight)}
        if self.config.distillation == "dual":
            to_teacher = (weight_T * distillation_distance(student_TD.detach(), teacher_TD, distance)).sum()
            name = "kd_student_to_teacher"
            terms[name] = Term(sum=to_teacher, count=counts[name], weight=1 - weight)
        return terms

    def _contrast(self, visual_SV: Tensor, texts_TD: Tensor, arranged: Arranged, batch: Batch, count: float) -> Term:
        """Compute Eq. 9 with the weight of Eq. 10."""
        assert self.project is not None
        # The layer is affine, so it commutes with the mean over regions: once a sequence instead of once a region.
        vision = self.project(averages(arranged.pool_images, visual_SV))
        device = vision.device
        loss_B = target_oriented_contrast(
            vision.index_select(0, arranged.sequence_B),
            arranged.encoded["summary"].means(texts_TD),
            contrast_anchors(batch.image_mask_BI, batch.weight_B).to(device, non_blocking=True),
            batch.weight_B.to(device, non_blocking=True),
            batch.group_B.to(device, non_blocking=True),
            batch.story_B.to(device, non_blocking=True),
            self.config.temperature,
            self.config.negatives,
        )
        return Term(sum=loss_B.sum(), count=count, weight=self.config.beta)


def arrange(arrangement: Arrangement, batch: Batch, config: D2TVConfig) -> Arrangement:
    """Ask for what the branches and Eq. 9 read: parts `mms` and `mxls` that are decoded, `summary` that is encoded.

    The teacher has every real row, the student the cross-lingual ones. Returns `arrangement`.
    """
    rows = real_rows(batch)
    if config.branches != "mxls":
        arrangement.decode("mms", "target", rows)
    if config.branches != "mms":
        beside = None if config.branches == "mxls" else "mms"
        arrangement.decode("mxls", "source", [row for row in rows if batch.cross_B[row]], beside=beside)
    if config.contrast:
        arrangement.encode("summary", "summary", rows)
        arrangement.images()
    return arrangement


def step_flops(arrangement: Arrangement, config: D2TVConfig, network: NetworkConfig, backbone: BackboneSizes) -> Flops:
    """Count what `arrange` asked for, and 2VD operations of the layer above Eq. 9 for each image sequence."""
    lengths = arrangement.lengths()
    projected = len(lengths.images) if config.contrast else 0
    width = network.vision.width if network.joint is None else backbone.hidden
    return forward_flops(lengths, network, backbone, own=2 * width * backbone.hidden * projected)


def _taught(hidden_TD: Tensor, arranged: Arranged) -> tuple[Tensor, Tensor, Tensor]:
    """Return the teacher's and the student's states of the student's target tokens, and the weights of those."""
    student = arranged.main.parts["mxls"]
    assert student.beside_T is not None
    teacher_TD = hidden_TD.index_select(0, student.beside_T)
    return teacher_TD, hidden_TD[student.tokens], arranged.main.weight_T[student.tokens]
