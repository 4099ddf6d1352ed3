"""Distil a teacher of two modalities into a student of one, as both of AMID's objectives do (Eqs. 1-14 and 17).

    mi_student        teacher against student, within and between classes      Eq. 8
    mi_auxiliary      teacher against the other modality                       Eq. 9
    adversarial_*     the student against either discriminator                 Eq. 12
    discriminator_*   either discriminator against the student                 Eq. 13

A row's candidates are the rows of its group that take part, N + k of the paper, so J depends neither on ranks nor on
micro-steps. Eq. 12's d is the number of rows of the global batch with another one of their class beside them.

Shape suffixes as in models/losses/class_contrast.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.losses.class_contrast import Candidates, class_contrast, class_nce, similarities
from models.objectives.adversary import Adversary, perceptron
from models.objectives.amid_config import AmidKeys
from models.objectives.base import Group, Watched

#: Watched cosines, whose epochs' means lead to the weights of the discriminator of that name.
_SIMILARITY = "similarity_"


@dataclass(frozen=True, kw_only=True, slots=True)
class Representations:
    """Hold what the three models say of each row, (B, R); any for a row that does not take part."""

    student_BR: Tensor
    teacher_BR: Tensor
    auxiliary_BR: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """Rows that take part, on the host.

    others_BB: bool, a row's candidates of its class that read another document.  mated: rows that have such.  mate: of
    each of these, the next one.
    """

    rows: list[int]
    candidates: Candidates
    others_BB: Tensor
    mated: list[int]
    mate: list[int]


def compare_rows(rows: Sequence[int], class_B: Tensor, group_B: Tensor, document_B: Tensor) -> Compared:
    """Return what the rows that take part are compared with. class_B: any where a row takes none.

    document_B: rows of one number read the same, so that neither is the other's mate.
    """
    part_B = torch.zeros(len(group_B), dtype=torch.bool)
    part_B[list(rows)] = True
    beside_BB = (group_B[:, None] == group_B) & part_B & part_B[:, None]
    same_BB = beside_BB & (class_B[:, None] == class_B)
    others_BB = same_BB & (document_B[:, None] != document_B)
    mated, mate = [], []
    for row in rows:
        others = others_BB[row].nonzero()[:, 0].tolist()
        if others:
            mated.append(row)
            mate.append(next((other for other in others if other > row), others[0]))
    candidates = Candidates(beside_BB=beside_BB, same_BB=same_BB)
    return Compared(rows=list(rows), candidates=candidates, others_BB=others_BB, mated=mated, mate=mate)


class Distillation(nn.Module):
    """Hold the heads of student, auxiliary model and teacher above their extractors, and the adversary."""

    def __init__(self, keys: AmidKeys, *, target: int, other: int) -> None:
        """Build the heads. target, other: the widths of what the student reads, and of the other modality."""
        super().__init__()
        self.keys = keys
        self.student = nn.Linear(target, keys.width)
        self.auxiliary = nn.Linear(other, keys.width)
        self.teacher = perceptron(target + other, keys.width, keys.width, layers=2)
        self.adversary = Adversary(
            keys.width,
            epoch_steps=keys.epoch_steps,
            smoothing=keys.smoothing,
            adaptive=keys.adaptive,
            enhanced=keys.enhanced,
        )

    def represent(self, target_BD: Tensor, other_BV: Tensor) -> Representations:
        """Return the representations. The teacher's perceptron reads both modalities, the target first."""
        return Representations(
            student_BR=self.student(target_BD),
            teacher_BR=self.teacher(torch.cat((target_BD, other_BV), dim=1)),
            auxiliary_BR=self.auxiliary(other_BV),
        )

    def counts(self, compared: Compared) -> dict[str, float]:
        """Count rows, and for the enhanced discriminator those with another one of their class."""
        rows = float(len(compared.rows))
        of_pairs = {"fundamental": rows, "enhanced": float(len(compared.mated))}
        return {"mi_student": rows, "mi_auxiliary": rows} | {
            f"{what}_{name}": count for what in ("adversarial", "discriminator") for name, count in of_pairs.items()
        }

    def weights(self, step: int) -> dict[str, float]:
        """Return the factor of each term in J: 0 in the first `warmup_steps`."""
        keys, warm = self.keys, step >= self.keys.warmup_steps
        weights = {"mi_student": keys.alpha1 * warm, "mi_auxiliary": keys.alpha2 * warm}
        for name in self.adversary.discriminators:
            weights[f"adversarial_{name}"] = keys.alpha3 * warm
            weights[f"discriminator_{name}"] = float(warm and keys.alpha3 > 0)
        return weights

    def sums(self, of: Representations, compared: Compared) -> tuple[dict[str, Tensor], dict[str, Watched]]:
        """Return the sums of the terms, and the figures that `after_step` and a reader want."""
        device, keys = of.student_BR.device, self.keys
        candidates = compared.candidates.to(device)
        row_K, mated_K, mate_K = (
            torch.tensor(rows, dtype=torch.int64).to(device, non_blocking=True)
            for rows in (compared.rows, compared.mated, compared.mate)
        )
        contrast = class_contrast if keys.bound == "mi" else class_nce
        cosine_BB = similarities(of.teacher_BR, of.student_BR)
        auxiliary_BB = similarities(of.teacher_BR, of.auxiliary_BR)
        sums = {
            "mi_student": contrast(cosine_BB, candidates, keys.temperature).sum(),
            "mi_auxiliary": contrast(auxiliary_BB, candidates, keys.temperature).sum(),
        }
        weights, adversary = self.adversary.weights(), self.adversary
        pairs = {
            "fundamental": (of.teacher_BR.index_select(0, row_K), of.student_BR.index_select(0, row_K)),
            "enhanced": (of.teacher_BR.index_select(0, mated_K), of.student_BR.index_select(0, mate_K)),
        }
        for name, (_, student_KR) in pairs.items():
            sums[f"adversarial_{name}"] = weights[name] * adversary.deceived(name, student_KR).sum()
        for name, (teacher_KR, student_KR) in pairs.items():
            sums[f"discriminator_{name}"] = weights[name] * adversary.told_apart(name, teacher_KR, student_KR).sum()
        cosine_BB, rows = cosine_BB.detach(), float(len(compared.rows))
        others_BB, own_B = compared.others_BB, cosine_BB.diagonal()
        watched = {
            f"{_SIMILARITY}fundamental": Watched(sum=own_B.index_select(0, row_K).sum(), count=rows),
            f"{_SIMILARITY}enhanced": Watched(
                sum=(others_BB.to(device, non_blocking=True) * cosine_BB).sum(), count=float(others_BB.sum())
            ),
            "weight_fundamental": Watched(sum=weights["fundamental"] * rows, count=rows),
        }
        return sums, watched

    def after_step(self, step: int, means: Mapping[str, float]) -> None:
        """Add the mean cosines of taken step `step`, where it had any."""
        figures = {name: f"{_SIMILARITY}{name}" for name in self.adversary.discriminators}
        self.adversary.add(step, {name: means[figure] for name, figure in figures.items() if figure in means})

    def groups(self, objective: nn.Module) -> list[Group]:
        """Return all trained parameters of an objective: the discriminators apart, at their own rate."""
        discriminators = list(self.adversary.parameters())
        theirs = set(map(id, discriminators))
        trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]
        return [
            Group(parameters=[parameter for parameter in trained if id(parameter) not in theirs]),
            Group(parameters=discriminators, factor=self.keys.discriminator_rate),
        ]

    def products(self, compared: Compared) -> int:
        """Count the operations of a forward pass: heads, cosines, and discriminators, which run thrice."""
        rows, mated = len(compared.rows), len(compared.mated)
        discriminators = self.adversary.discriminators
        heads = sum(map(weights_of, (self.student, self.auxiliary, self.teacher)))
        judged = rows * weights_of(discriminators["fundamental"]) + mated * weights_of(discriminators["enhanced"])
        cosines = 2 * self.keys.width * int(compared.candidates.beside_BB.sum())
        return 2 * (rows * heads + 3 * judged + cosines)


def weights_of(layers: nn.Module) -> int:
    """Return the numbers in the weights of linear layers."""
    return sum(layer.weight.numel() for layer in layers.modules() if isinstance(layer, nn.Linear))
