"""Implement RC³ (Zhou et al., 2023): pre-training across languages and modalities, on a network of early fusion.

    mlm         hidden tokens of a name, from the encoder's states             Eq. 1
    mclm        its translation, written from the name with hidden tokens      Eq. 2
    itm         whether an image and a name belong together                    Eq. 3
    xtcl        names that translate each other, among others' names           Eqs. 4-8
    xvtcl       the same of images with texts, against three kinds             Eqs. 9, 13
    relevance   as near as the texts are, where they are weakly aligned        Eqs. 10-12

The paper's D_s and D_t are the summaries of a story in two languages, with its images and without; D_w are the
documents. rc3_roles.py decides which rows are read as what, and the configuration's `inputs` whether the images of
either are read as regions, as patches or as both. A text is represented by the state at its [BOS], an image
with a text by that at [CLS]. One encoder call reads all of them, an input that several rows need once.

Shape suffixes as in models/ragged.py; K candidates of an anchor, M hidden tokens.
"""

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.arranged import Arranged
from models.arrangement import Arrangement
from models.losses import widen
from models.losses.interpolated_contrast import contrast_of_distances, distances, interpolated_contrast
from models.losses.relevance import relevance_divergence
from models.network import Network
from models.objectives.base import Branch, Outputs, Term, Watched
from models.objectives.matching import Matcher
from models.objectives.rc3_config import RC3Config
from models.objectives.rc3_roles import Roles, hidden, hide, roles
from models.objectives.running_mean import RunningMean
from models.sharing import Text
from shards.batch.types import Batch

BRANCHES = (Branch(name="mclm", kinds=frozenset({"mms", "mxls"})),)
#: What an anchor, an image with a text, is compared with: whose text in which language, and whose image.
COMPARED = {
    "positive": ("target", "row", "row"),
    "other_source": ("source", "partner", "row"),
    "other_target": ("target", "partner", "row"),
    "other_image_source": ("source", "row", "partner"),
    "other_image_target": ("target", "row", "partner"),
    "both_source": ("source", "partner", "partner"),
    "both_target": ("target", "partner", "partner"),
}
#: Of them, those with the anchor's own image: Eqs. 10 and 11 compare their texts.
OWN_IMAGE = ("positive", "other_source", "other_target")
#: The texts of a side: strictly aligned ones, weakly aligned ones.
_TEXTS: Mapping[str, tuple[Text, Text]] = {"source": ("source_summary", "source"), "target": ("summary", "target")}


class RC3(Matcher):
    """Compute the terms above. Its own state is the mean of exp(-L) over the last steps of either contrast, Eq. 6."""

    reads: Text = RC3Config.reads

    def __init__(self, config: RC3Config, network: Network) -> None:
        """Build the objective around a network of early fusion."""
        super().__init__()
        self.config, self.network = config, network
        self.branches, self.has_state = BRANCHES, config.textual_contrast or config.contrast
        self.match = nn.Linear(network.hidden_size, 1)
        self.textual = RunningMean(config.history)
        self.visual_textual = RunningMean(config.history)

    def counts(self, batch: Batch) -> dict[str, float]:
        """Count hidden and target tokens, two inputs a row for itm, anchors for the rest."""
        config, of = self.config, roles(batch, self.config.shares)
        assert batch.source_summary_mask_BS is not None
        sizes = batch.source_summary_mask_BS.sum(dim=1).tolist()
        strict = [row for row in of.pairs if row not in of.weak]
        counts = {
            "mlm": float(sum(hidden(sizes[row], config.masked) for row in of.named)),
            "mclm": float(batch.summary_mask_BN[of.named].sum()),
            "itm": 2.0 * len(strict),
        }
        if config.textual_contrast:
            counts["xtcl"] = float(len(of.parallel))
        if config.contrast:
            counts["xvtcl"] = float(len(of.pairs))
            if config.relevance:
                counts["relevance"] = float(len(of.pairs) - len(strict))
        return counts

    def flops(self, batch: Batch) -> int:
        """Count what is arranged, and the head over hidden tokens."""
        of = roles(batch, self.config.shares)
        own = 2 * self.network.hidden_size * self.network.vocab_size * int(self.counts(batch)["mlm"])
        return self.network.flops(self._arrange(batch, of, {}), own).training

    def _arrange(self, batch: Batch, of: Roles, masks: Mapping[int, Tensor]) -> Arrangement:
        """Ask for the names that are decoded from, and for all texts, with an image or without, that are compared."""
        by_kind = ((of.named, self.config.inputs.strict), (of.weak, self.config.inputs.weak))
        inputs = {row: read for rows, read in by_kind if read is not None for row in rows}
        arrangement = self.network.arrangement(batch, tagged=True, inputs=inputs)
        places = {row: mask.numpy() for row, mask in masks.items()}
        arrangement.decode("mclm", "source_summary", of.named, seen=True, hidden=places)
        row_of = {"row": of.pairs, "partner": of.partner}

        def texts(side: str) -> list[Text]:
            strict, weak = _TEXTS[side]
            return [weak if row in of.weak else strict for row in of.pairs]

        arrangement.encode("anchor", texts("source"), of.pairs, images=of.pairs)
        for name, (side, whose, image) in COMPARED.items():
            # Without the contrast, itm alone compares.
            if self.config.contrast or name == "other_source":
                arrangement.encode(name, texts(side), of.pairs, of=row_of[whose], images=row_of[image])
        if self.config.textual_contrast:
            arrangement.encode("name", "source_summary", of.parallel)
            arrangement.encode("translation", "summary", of.parallel)
        if self.config.contrast and self.config.relevance:
            weak = [row for row in of.pairs if row in of.weak]
            others = [other for row, other in zip(of.pairs, of.partner, strict=True) if row in of.weak]
            arrangement.encode("text anchor", "source", weak)
            arrangement.encode("text positive", "target", weak)
            arrangement.encode("text other_source", "source", weak, of=others)
            arrangement.encode("text other_target", "target", weak, of=others)
        return arrangement

    def forward(self, batch: Batch, step: int, counts: Mapping[str, float]) -> Outputs:
        """Compute one call each of encoder and decoder; `batch` is on the host."""
        config, network, of = self.config, self.network, roles(batch, self.config.shares)
        assert batch.source_summary_mask_BS is not None
        sizes = batch.source_summary_mask_BS.sum(dim=1).tolist()
        masks = {row: hide(sizes[row], config.masked) for row in of.named}
        arranged = network.place(self._arrange(batch, of, masks).arranged())
        states, stream = network.states(batch, arranged), arranged.main
        states_TD = states.texts_TD
        written, nll_T = network.token_loss(states.hidden_TD, stream.target_T, config.label_smoothing, stream.weight_T)
        terms = {
            "mlm": Term(sum=self._masked(states_TD, arranged), count=counts["mlm"], weight=1.0),
            "mclm": Term(sum=written, count=counts["mclm"], weight=1.0),
            "itm": Term(sum=self._matching(states_TD, arranged, of, len(batch)), count=counts["itm"], weight=1.0),
        }
        watched: dict[str, Watched] = {}
        if config.textual_contrast:
            total, plain = self._names(states_TD, arranged, of)
            terms["xtcl"] = Term(sum=total, count=counts["xtcl"], weight=1.0)
            watched["xtcl_plain"] = Watched(sum=plain, count=counts["xtcl"])
        if config.contrast:
            total, plain, divergence = self._images(states_TD, arranged, of)
            terms["xvtcl"] = Term(sum=total, count=counts["xvtcl"], weight=1.0)
            watched["xvtcl_plain"] = Watched(sum=plain, count=counts["xvtcl"])
            if config.relevance:
                terms["relevance"] = Term(sum=divergence, count=counts["relevance"], weight=1.0)
        return Outputs.of(arranged, terms, nll_T=nll_T, branches=self.branches, watched=watched)

    def _masked(self, states_TD: Tensor, arranged: Arranged) -> Tensor:
        """Compute Eq. 1 over the hidden tokens."""
        joint = arranged.joint
        assert joint is not None
        target_M = arranged.ids_T.index_select(0, joint.masked_M)
        total, _ = self.network.token_loss(states_TD.index_select(0, joint.hidden_M), target_M, 0.0)
        return total

    def _matching(self, states_TD: Tensor, arranged: Arranged, of: Roles, rows: int) -> Tensor:
        """Compute Eq. 3 for each strictly aligned row: its own name, and that of its partner, with its image."""
        score_2B = self.match(torch.stack([_first(states_TD, arranged, name) for name in ("anchor", "other_source")]))
        score_2B = widen(score_2B[..., 0])
        strict_B = _mask(rows, [row for row in of.pairs if row not in of.weak], score_2B)
        matched_2B = torch.stack((torch.ones_like(score_2B[0]), torch.zeros_like(score_2B[0])))
        loss_2B = F.binary_cross_entropy_with_logits(score_2B, matched_2B, reduction="none")
        return torch.where(strict_B, loss_2B, 0.0).sum()

    def _names(self, states_TD: Tensor, arranged: Arranged, of: Roles) -> tuple[Tensor, Tensor]:
        """Compute Eqs. 7 and, detached, 4 for names: the others of its group, in either language, are negatives."""
        anchor_BD, positive_BD = (_first(states_TD, arranged, name) for name in ("name", "translation"))
        rows = len(anchor_BD)
        index_BK = torch.zeros(rows, max([1, *(2 * len(others) for others in of.negatives)]), dtype=torch.int64)
        counts_BK = torch.zeros_like(index_BK, dtype=torch.bool)
        for row, others in zip(of.parallel, of.negatives, strict=True):
            both = [*others, *(rows + other for other in others)]
            index_BK[row, : len(both)], counts_BK[row, : len(both)] = torch.tensor(both), True
        loss_B, plain_B = interpolated_contrast(
            anchor_BD,
            positive_BD,
            torch.cat((anchor_BD, positive_BD)),
            index_BK.to(anchor_BD.device, non_blocking=True),
            counts_BK.to(anchor_BD.device, non_blocking=True),
            self.config.slack,
            self.textual.mean(),
        )
        of_B = _mask(rows, of.parallel, loss_B)
        return torch.where(of_B, loss_B, 0.0).sum(), torch.where(of_B, plain_B, 0.0).sum()

    def _images(self, states_TD: Tensor, arranged: Arranged, of: Roles) -> tuple[Tensor, Tensor, Tensor]:
        """Compute Eq. 9 and, detached, its plain form for images with texts, and Eq. 12's divergence."""
        distance_BK = _distances(states_TD, arranged, "anchor", list(COMPARED))
        everything_BK = torch.ones_like(distance_BK[:, 1:], dtype=torch.bool)
        loss_B, plain_B = contrast_of_distances(
            distance_BK[:, 0], distance_BK[:, 1:], everything_BK, self.config.slack, self.visual_textual.mean()
        )
        of_B = _mask(len(loss_B), of.pairs, loss_B)
        totals = [torch.where(of_B, of_each_B, 0.0).sum() for of_each_B in (loss_B, plain_B)]
        if not self.config.relevance:
            return totals[0], totals[1], totals[1]
        text_BK = _distances(states_TD, arranged, "text anchor", [f"text {name}" for name in OWN_IMAGE])
        divergence_B = relevance_divergence(
            distance_BK[:, : len(OWN_IMAGE)], text_BK, torch.ones_like(text_BK, dtype=torch.bool)
        )
        weak_B = _mask(len(loss_B), [row for row in of.pairs if row in of.weak], loss_B)
        return totals[0], totals[1], torch.where(weak_B, divergence_B, 0.0).sum()

    def after_step(self, step: int, means: Mapping[str, float], kept: Mapping[str, Tensor]) -> None:
        """Add the step's exp(-L) of either contrast, where it had anchors."""
        for name, mean in (("xtcl_plain", self.textual), ("xvtcl_plain", self.visual_textual)):
            if name in means:
                mean.add(math.exp(-means[name]))


def _first(states_TD: Tensor, arranged: Arranged, name: str) -> Tensor:
    """Return the representation (B, D) of each row's input of a request; any for a row that was not asked for."""
    return states_TD.index_select(0, arranged.encoded[name].first_B)


def _distances(states_TD: Tensor, arranged: Arranged, anchor: str, names: Sequence[str]) -> Tensor:
    """Return the distances (B, K) of each row's anchor from its inputs of other requests."""
    anchor_BD = _first(states_TD, arranged, anchor)
    first_BK = torch.stack([arranged.encoded[name].first_B for name in names], dim=1)
    return distances(anchor_BD, states_TD, first_BK)


def _mask(rows: int, of: Sequence[int], like: Tensor) -> Tensor:
    mask_B = torch.zeros(rows, dtype=torch.bool)
    mask_B[list(of)] = True
    return mask_B.to(like.device, non_blocking=True)
