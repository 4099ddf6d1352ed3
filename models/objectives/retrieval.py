"""Fine-tune image-text matching for retrieval (RC³, Zhou et al., 2023, Appendix B: ITR).

    image_to_text   cross-entropy of an image's own name among the names of its group
    text_to_image   that of a name's own image among the images of its group

The paper leaves the loss of fine-tuning open. Both are over the scores of RC³'s Eq. 3, a linear head on the state at
[CLS], as IGLUE's retrieval chooses among texts and images; here all others of a group are the negatives. A name is the
target's summary: a group has one target language. The decoder takes part in every step, and is not changed by it.

Shape suffixes as in models/ragged.py; K shifts: a row's name is read with the images of the row k places on.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.arranged import Arranged
from models.arrangement import Arrangement
from models.losses import widen
from models.network import Network, States, real_rows
from models.objectives.base import Outputs, Term
from models.objectives.matching import Matcher
from models.objectives.retrieval_config import RetrievalConfig
from shards.batch.types import Batch
from shards.directions import DirectionKind

#: Held-out rows that are ranked against each other in validation.
_MEASURED = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Pairs:
    """Names and images of groups to score, on the host.

    names, images: of each shift, the rows whose names are read, and beside them those whose images are; shift 0 has the
    pairs that belong together.  anchors: rows with their own pair and another.
    """

    names: list[list[int]]
    images: list[list[int]]
    anchors: list[int]

    @property
    def count(self) -> int:
        return sum(map(len, self.names))


def pairs_of(batch: Batch) -> Pairs:
    """Return the pairs of a batch's groups: rows with an image and a name, and none of one story but a row's own."""
    told_B = batch.image_mask_BI.any(dim=1) & (batch.summary_mask_BN.sum(dim=1) > 1)
    groups: dict[int, list[int]] = {}
    for row in real_rows(batch):
        if told_B[row]:
            groups.setdefault(int(batch.group_B[row]), []).append(row)
    shifts = max(map(len, groups.values()), default=1)
    names: list[list[int]] = [[] for _ in range(shifts)]
    images: list[list[int]] = [[] for _ in range(shifts)]
    compared: set[int] = set()
    for rows in groups.values():
        for shift in range(len(rows)):
            for place, row in enumerate(rows):
                other = rows[(place + shift) % len(rows)]
                if not shift or batch.story_B[row] != batch.story_B[other]:
                    names[shift].append(row)
                    images[shift].append(other)
                    compared |= {row} if shift else set()
    return Pairs(names=names, images=images, anchors=sorted(compared))


class Retrieval(Matcher):
    """Compute both terms. It trains no writing, so it has no branches; validation measures how it chooses."""

    branches = ()
    measured = ("held_out_match", "held_out_recall1")
    measured_kind: DirectionKind = "mms"

    def __init__(self, config: RetrievalConfig, network: Network) -> None:
        super().__init__()
        self.config, self.network = config, network
        self.match = nn.Linear(network.hidden_size, 1)

    def counts(self, batch: Batch) -> dict[str, float]:
        """Count anchors."""
        anchors = float(len(pairs_of(batch).anchors))
        return {"image_to_text": anchors, "text_to_image": anchors}

    def flops(self, batch: Batch) -> int:
        """Count what is arranged, and the head."""
        pairs = pairs_of(batch)
        own = 2 * self.network.hidden_size * pairs.count
        return self.network.flops(self._arrange(batch, pairs), own).training

    def _arrange(self, batch: Batch, pairs: Pairs) -> Arrangement:
        arrangement = self.network.arrangement(batch, tagged=True)
        arrangement.decode("idle", "summary", [])
        for shift, (names, images) in enumerate(zip(pairs.names, pairs.images, strict=True)):
            arrangement.encode(f"pair {shift}", "summary", names, images=images)
        return arrangement

    def _scored(self, batch: Batch, pairs: Pairs) -> tuple[Arranged, States, tuple[Tensor, Tensor]]:
        """Return what was arranged, its states, and the scores (K, B) of `_choices`, from one encoder call."""
        arranged = self.network.place(self._arrange(batch, pairs).arranged())
        states = self.network.states(batch, arranged)
        first_KB = torch.stack([arranged.encoded[f"pair {shift}"].first_B for shift in range(len(pairs.names))])
        state_KBD = states.texts_TD.index_select(0, first_KB.flatten()).view(*first_KB.shape, -1)
        return arranged, states, _choices(widen(self.match(state_KBD)[..., 0]), pairs)

    def forward(self, batch: Batch, step: int, counts: Mapping[str, float]) -> Outputs:
        """Compute one encoder call for all pairs; `batch` is on the host."""
        pairs = pairs_of(batch)
        arranged, states, choices = self._scored(batch, pairs)
        stream = arranged.main
        idle, _ = self.network.token_loss(states.hidden_TD, stream.target_T, 0.0, stream.weight_T)
        anchor_R = torch.tensor(pairs.anchors, dtype=torch.int64).to(idle.device, non_blocking=True)
        image, text = (-F.log_softmax(choice_KB, dim=0)[0].index_select(0, anchor_R).sum() for choice_KB in choices)
        # The decoder's part is zero, and there because every parameter takes part in every step.
        sums = {"image_to_text": image + idle, "text_to_image": text}
        terms = {name: Term(sum=total, count=counts[name], weight=1.0) for name, total in sums.items()}
        return Outputs.of(arranged, terms)

    @torch.no_grad()
    def measure(self, batch: Batch) -> dict[str, Tensor]:
        """Measure loss and recall@1 of a choice among the first rows, over both directions. A tie is a miss."""
        weight_B = batch.weight_B * (torch.arange(len(batch)) < _MEASURED)
        batch = replace(batch, weight_B=weight_B, group_B=torch.zeros_like(batch.group_B))
        pairs, training = pairs_of(batch), self.network.training
        self.network.eval()
        _, _, choices = self._scored(batch, pairs)
        self.network.train(training)
        both_KR = torch.cat([choice_KB[:, pairs.anchors] for choice_KB in choices], dim=1)
        loss_R = -F.log_softmax(both_KR, dim=0)[0]
        found_R = (both_KR[0] > both_KR[1:]).all(dim=0)
        return {
            name: torch.stack([value_R.double().sum(), torch.ones_like(value_R, dtype=torch.float64).sum()])
            for name, value_R in zip(self.measured, (loss_R, found_R), strict=True)
        }


def _choices(score_KB: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Return the scores (K, B) that each image chooses a name by, and each name an image; its own are the first.

    score_KB: of a row's name with the images of the row k places on. What was not asked for is -inf.
    """
    asked_KB = torch.zeros(score_KB.shape, dtype=torch.bool)
    reader_KB = torch.arange(score_KB.shape[1]).repeat(score_KB.shape[0], 1)
    seen_KB = asked_KB.clone()
    for shift, (names, images) in enumerate(zip(pairs.names, pairs.images, strict=True)):
        asked_KB[shift, names], seen_KB[shift, images] = True, True
        reader_KB[shift, images] = torch.tensor(names, dtype=torch.int64)
    asked_KB[0], seen_KB[0] = True, True  # a row of nothing but -inf would give no number
    device = score_KB.device
    asked_KB, seen_KB, reader_KB = (x.to(device, non_blocking=True) for x in (asked_KB, seen_KB, reader_KB))
    return (
        score_KB.gather(1, reader_KB).masked_fill(~seen_KB, -torch.inf),
        score_KB.masked_fill(~asked_KB, -torch.inf),
    )
