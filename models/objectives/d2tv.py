"""D2TV (Liang et al., 2023) and the models it is compared with: Tables 1 and 2 as flags of one objective.

    MMS               branches: mms                               Eq. 2
    MXLS              branches: mxls                              Eq. 4
    MMS+MXLS          branches: both, distillation: none          Eqs. 2, 4
    Vanilla-KD        branches: both, distillation: vanilla       Eqs. 2, 3, 4
    w/ DKD            branches: both, distillation: dual          Eqs. 2-8
    w/ TCO            branches: both, contrast: true              Eqs. 2, 4, 9
    D2TV              branches: both, distillation: dual, contrast: true    Eq. 10

Shape suffixes as in shards/schema.py; S rows of the student, Q rows of both branches (teacher first), T target
tokens. The teacher reads the target document of every row, the student the source document of cross-lingual
rows only; both write the row's summary with the row's images.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from models.config import NetworkConfig
from models.losses.contrast import contrast_anchors, target_oriented_contrast
from models.losses.distillation import Distance, alpha, distillation_distance
from models.network import Network
from models.objectives.base import Objective, ObjectiveConfig, Outputs, Term
from models.packing import Tokens
from models.vision import Visual, masked_mean
from shards.errors import InputError
from shards.schema import Batch


class D2TVConfig(ObjectiveConfig):
    """Defaults are the full method with the paper's numbers (section 3, Table 5; tau is ours)."""

    name: Literal["d2tv"] = "d2tv"
    branches: Literal["mms", "mxls", "both"] = "both"
    distillation: Literal["none", "vanilla", "dual"] = "dual"
    distance: Distance = "cosine"
    contrast: bool = True
    beta: float = Field(default=1.0, ge=0, description="weight of the contrastive term, Eq. 10")
    temperature: float = Field(default=0.1, gt=0, description="tau of Eq. 9")
    alpha_steps: int = Field(default=5000, gt=0, description="T1 of Eq. 8, in optimizer steps")
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)

    def check(self, network: NetworkConfig) -> None:
        """Distillation needs both branches, contrast needs images."""
        if self.distillation != "none" and self.branches != "both":
            raise InputError(
                f"objective.distillation {self.distillation!r} needs teacher and student: set branches to 'both', "
                f"or distillation to 'none' to train {self.branches!r} alone"
            )
        if self.contrast and not network.vision.enabled:
            raise InputError(
                "objective.contrast compares images with summaries: set objective.contrast to false, "
                "or network.vision.enabled to true"
            )


class D2TV(Objective):
    """Terms: mms, mxls, kd_teacher_to_student, kd_student_to_teacher, tco; each only where its flag asks for it."""

    def __init__(self, config: D2TVConfig, network: Network) -> None:
        config.check(network.config)
        super().__init__()
        self.config, self.network = config, network
        self.has_teacher, self.has_student = config.branches != "mxls", config.branches != "mms"
        # "MLP is a fully-connected layer" (above Eq. 9): from the visual width to the text's.
        self.project = nn.Linear(network.config.vision.width, network.hidden_size) if config.contrast else None

    def counts(self, batch: Batch) -> dict[str, float]:
        """Target tokens for mms, mxls and the distillation terms; anchors for tco."""
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

    def forward(self, batch: Batch, step: int) -> Outputs:
        """One visual pass, one text-encoder call, one fusion, one decoder call, whatever the flags."""
        config, network, counts = self.config, self.network, self.counts(batch)
        real_B = batch.weight_B > 0
        student_S = _rows(real_B & batch.cross_B)
        teacher_B = torch.arange(len(batch), device=batch.start_B.device)

        visual = network.encode_vision(batch.roi_BIRV, batch.boxes_BIR4, batch.image_mask_BI)
        documents, rows, valid = [], [], []
        if self.has_teacher:
            documents.append(Tokens(batch.target_ids_BM, batch.target_mask_BM))
            rows.append(teacher_B)
            valid.append(real_B)
        if self.has_student:
            documents.append(Tokens(batch.source_ids_BM[student_S], batch.source_mask_BM[student_S]))
            rows.append(student_S)
            valid.append((real_B & batch.cross_B)[student_S])
        summaries = Tokens(batch.summary_ids_BN, batch.summary_mask_BN) if config.contrast else None
        text_QMD, text_mask_QM, summary_BND = network.encode_texts(documents, summaries)

        rows_Q = torch.cat(rows)
        ids_QN, mask_QN = batch.summary_ids_BN[rows_Q], batch.summary_mask_BN[rows_Q]
        memory_QMD = network.fuse(text_QMD, visual, rows_Q)
        hidden_QND = network.decode(batch.start_B[rows_Q], ids_QN, mask_QN, memory_QMD, text_mask_QM)

        # Rows that no loss is taken of leave here: the head sees real target tokens only.
        mask_QN = mask_QN & torch.cat(valid)[:, None]
        hidden_TD = hidden_QND[mask_QN]
        target_T = ids_QN[mask_QN]
        # Boolean selection keeps the order, so the teacher's tokens come first.
        split = int(counts.get("mms", 0.0))
        terms: dict[str, Term] = {}
        nll: list[Tensor] = []
        for name, part in (("mms", slice(0, split)), ("mxls", slice(split, None))):
            if name in counts:
                total, nll_T = network.token_loss(hidden_TD[part], target_T[part], config.label_smoothing)
                terms[name] = Term(sum=total, count=counts[name], weight=1.0)
                nll.append(nll_T)

        scalars: dict[str, float] = {}
        if config.distillation != "none":
            scalars["alpha"] = alpha(step, config.alpha_steps)
            student_mask_SN = mask_QN[len(batch) :]
            teacher_TD = hidden_QND[student_S][student_mask_SN]
            terms |= self._distillation(teacher_TD, hidden_TD[split:], counts, scalars["alpha"])
        if config.contrast:
            assert visual is not None
            assert summary_BND is not None
            terms["tco"] = self._contrast(visual, summary_BND, batch, counts["tco"])
        nll_T = torch.cat(nll)
        nll_QN = torch.zeros_like(mask_QN, dtype=nll_T.dtype).masked_scatter(mask_QN, nll_T)
        return Outputs(
            terms=terms,
            row_nll=self._by_branch(nll_QN.sum(dim=1), student_S, len(batch)),
            row_tokens=self._by_branch(mask_QN.sum(dim=1).float(), student_S, len(batch)),
            scalars=scalars,
        )

    def _by_branch(self, value_Q: Tensor, student_S: Tensor, rows: int) -> dict[str, Tensor]:
        """A number a stacked row, as one a batch row (B,) for each branch; zeros where a branch has no row."""
        teacher_B, student_B = value_Q.new_zeros(rows), value_Q.new_zeros(rows)
        if self.has_teacher:
            teacher_B = value_Q[:rows]
        if self.has_student:
            student_B = student_B.index_copy(0, student_S, value_Q[-len(student_S) :])
        return {"mms": teacher_B, "mxls": student_B}

    def _distillation(
        self, teacher_TD: Tensor, student_TD: Tensor, counts: dict[str, float], weight: float
    ) -> dict[str, Term]:
        """Eqs. 5 and 7 with the weights of Eqs. 3 and 6. The side that teaches is detached."""
        distance = self.config.distance
        to_student = distillation_distance(teacher_TD.detach(), student_TD, distance).sum()
        name = "kd_teacher_to_student"
        terms = {name: Term(sum=to_student, count=counts[name], weight=weight)}
        if self.config.distillation == "dual":
            to_teacher = distillation_distance(student_TD.detach(), teacher_TD, distance).sum()
            name = "kd_student_to_teacher"
            terms[name] = Term(sum=to_teacher, count=counts[name], weight=1 - weight)
        return terms

    def _contrast(self, visual: Visual, summary_BND: Tensor, batch: Batch, count: float) -> Term:
        """Eq. 9 with the weight of Eq. 10."""
        assert self.project is not None
        # The layer is affine, so it commutes with the mean over regions: once a row instead of once a region.
        vision_BD = self.project(masked_mean(visual.states_BKV, visual.mask_BK))
        loss_B = target_oriented_contrast(
            vision_BD,
            masked_mean(summary_BND, batch.summary_mask_BN),
            contrast_anchors(batch.image_mask_BI, batch.weight_B),
            batch.weight_B,
            batch.group_B,
            batch.story_B,
            self.config.temperature,
        )
        return Term(sum=loss_B.sum(), count=count, weight=self.config.beta)


def _rows(mask_B: Tensor) -> Tensor:
    """Indices of the True rows; row 0 where there is none, so that every parameter still takes part."""
    rows_S = mask_B.nonzero().squeeze(1)
    return rows_S if len(rows_S) else torch.zeros(1, dtype=torch.int64, device=mask_B.device)
