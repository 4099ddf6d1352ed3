"""Implement CAT, the complex auxiliary tasks of Liang et al. (2022b), as row 4 of D2TV's Table 2 adds them to MMS+MXLS.

    mms, mxls     as in models/objectives/d2tv.py                                                       Eqs. 2, 4
    v2s           vision to summary: -log p(y_t | V, y_<t), the decoder reads the images alone
    mim           masked image modelling: KL(classes of a masked region || predicted from the rest and the summary)
    J             mms + mxls + vision_to_summary v2s + masked_regions mim

15% of an article's regions are masked: their features are zero, their boxes stay. A masked region reads the summary, as
the encoder states it before fusion, by cross-modal attention, and its class follows from both. The paper's classes
are a detector's, which published features do not carry: here they are those of a random-projection quantizer.

Shape suffixes as in models/ragged.py; C the width of the fusion, M masked regions of the pairs of images and summary.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.arranged import Arranged
from models.arrangement import Arrangement
from models.attention import attend
from models.config import FusionConfig
from models.flops import vision_flops
from models.losses.region_classes import class_directions, class_divergence, region_classes
from models.network import Network, real_rows
from models.objectives.base import Outputs, Term
from models.objectives.cat_config import CatConfig
from models.objectives.d2tv import D2TV, arrange
from models.objectives.d2tv_config import D2TVConfig
from models.ragged import Layout, cross_layout
from models.sharing import Distinct
from models.vision import region_features
from shards.batch.types import Batch


class Cat(D2TV):
    """Compute the terms mms, mxls, v2s and mim."""

    directions_FK: Tensor

    def __init__(self, config: CatConfig, network: Network) -> None:
        """Build the objective around a network with vision."""
        two_branch = D2TVConfig(distillation="none", contrast=False, label_smoothing=config.label_smoothing)
        super().__init__(two_branch, network)
        self.cat, vision = config, network.config.vision
        self.see = nn.Linear(vision.width, network.hidden_size)
        self.reader = RegionReader(network.config.fusion, vision.width, network.hidden_size, config.classes)
        self.register_buffer("directions_FK", class_directions(vision.feature_size, config.classes), persistent=False)

    def counts(self, batch: Batch) -> dict[str, float]:
        """Count target tokens for v2s and masked regions for mim, of rows with images, beside those of the branches."""
        rows = _rows_with_images(batch)
        images = batch.image_mask_BI.sum(dim=1).tolist()
        masked = sum(self._masked(images[row] * batch.roi_BIRV.shape[2]) for row in rows)
        return super().counts(batch) | {"v2s": float(batch.summary_mask_BN[rows].sum()), "mim": float(masked)}

    def _masked(self, regions: int) -> int:
        return max(1, round(self.cat.mask_share * regions))

    def _arrange(self, batch: Batch) -> Arrangement:
        arrangement = arrange(self.network.arrangement(batch, share=self.share), batch, self.config)
        arrangement.decode("v2s", "images", _rows_with_images(batch))
        arrangement.encode("summary", "summary", real_rows(batch))
        return arrangement

    def flops(self, batch: Batch) -> int:
        """Count what is arranged, the second visual pass and the objective's layers."""
        arrangement, config = self._arrange(batch), self.network.config
        lengths = arrangement.lengths()
        if not lengths.images:
            return self.network.flops(arrangement).training
        pairs = _pairs(arrangement.arranged(), batch)
        regions = [images * config.vision.regions for images in lengths.images]
        read = sum(
            self.reader.flops(self._masked(pairs.regions[sequence]), pairs.tokens[text])
            for sequence, text in pairs.distinct
        )
        seen = 2 * config.vision.width * self.network.hidden_size * sum(regions)
        again = sum(vision_flops(images, config) for images in lengths.images)
        return self.network.flops(arrangement, own=read + seen + again).training

    def forward(self, batch: Batch, step: int, counts: Mapping[str, float]) -> Outputs:
        """Compute two visual passes, and one call each of encoder, fusion and decoder."""
        network = self.network
        on_host = self._arrange(batch).arranged()
        pairs = _pairs(on_host, batch)
        masked = self._mask(pairs, network.backbone.head.weight)
        arranged = network.place(on_host)
        states = network.states(batch, arranged, self.see)
        outputs = self.outputs(batch, arranged, states, step, counts)
        stream = arranged.main
        tokens = stream.parts["v2s"].tokens
        total, _ = network.token_loss(
            states.hidden_TD[tokens], stream.target_T[tokens], self.config.label_smoothing, stream.weight_T[tokens]
        )
        outputs.terms["v2s"] = Term(sum=total, count=counts["v2s"], weight=self.cat.vision_to_summary)
        hidden_SV = network.encode_vision(batch, arranged, masked.region_S)
        assert hidden_SV is not None
        summaries_TD = arranged.encoded["summary"].states(states.texts_TD)
        logits_MK = self.reader(hidden_SV.index_select(0, masked.region_M), summaries_TD, masked.layout)
        features_MF = region_features(batch, arranged).index_select(0, masked.region_M)
        divergence_M = class_divergence(logits_MK, region_classes(features_MF, self.directions_FK))
        term = Term(sum=(masked.weight_M * divergence_M).sum(), count=counts["mim"], weight=self.cat.masked_regions)
        outputs.terms["mim"] = term
        return outputs

    def _mask(self, pairs: "_Pairs", like: Tensor) -> "_Masked":
        """Draw the masked regions of every image sequence, and lay out which summary each of them reads."""
        begins = [sum(pairs.regions[:sequence]) for sequence in range(len(pairs.regions))]
        drawn = [
            begin + torch.rand(regions).topk(self._masked(regions)).indices.sort().values
            for begin, regions in zip(begins, pairs.regions, strict=True)
        ]
        sizes = [len(drawn[sequence]) for sequence, _ in pairs.distinct]
        weight_M = torch.tensor(pairs.weights).repeat_interleave(torch.tensor(sizes))
        layout = cross_layout(sizes, [text for _, text in pairs.distinct], pairs.tokens)
        return _Masked(
            region_S=torch.cat(drawn).to(like.device, non_blocking=True),
            region_M=torch.cat([drawn[sequence] for sequence, _ in pairs.distinct]).to(like.device, non_blocking=True),
            weight_M=weight_M.to(like.device, non_blocking=True),
            layout=layout.to(like.device, like.dtype),
        )


class RegionReader(nn.Module):
    """Predict the classes of regions from their states and a summary: cross-modal attention, then a linear layer."""

    def __init__(self, config: FusionConfig, vision_size: int, text_size: int, classes: int) -> None:
        super().__init__()
        self.heads, common = config.num_heads, config.hidden_size
        self.query = nn.Linear(vision_size, common, bias=False)
        self.key = nn.Linear(text_size, common, bias=False)
        self.value = nn.Linear(text_size, common, bias=False)
        self.classify = nn.Linear(vision_size + common, classes)

    def forward(self, region_MV: Tensor, text_TD: Tensor, layout: Layout) -> Tensor:
        """Return logits (M, K). layout: which text a region reads."""
        read_MC = attend(
            self.query(region_MV),
            self.key(text_TD),
            self.value(text_TD),
            layout,
            heads=self.heads,
            scale=(self.query.out_features // self.heads) ** -0.5,
            dropout=0.0,
        )
        logits: Tensor = self.classify(torch.cat((region_MV, read_MC), dim=-1))
        return logits

    def flops(self, regions: int, tokens: int) -> int:
        """Count the operations of `regions` that read a text of `tokens`, whose keys and values are counted, too."""
        common, classify = self.query.out_features, self.classify.in_features * self.classify.out_features
        query, key = self.query.in_features * common, self.key.in_features * common
        return regions * 2 * (query + classify) + tokens * 4 * key + 4 * common * regions * tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class _Pairs:
    """Pairs of image sequence and summary that rows have, each once."""

    distinct: list[tuple[int, int]]  # (sequence, text of the part `summary`)
    weights: list[float]  # rows that a pair stands for; 0 for one that must run but does not count
    regions: list[int]  # of each sequence
    tokens: list[int]  # of each text


@dataclass(frozen=True, kw_only=True, slots=True)
class _Masked:
    region_S: Tensor  # int64: regions whose features are hidden
    region_M: Tensor  # int64: the same, once for every pair of their sequence
    weight_M: Tensor  # float32
    layout: Layout  # which summary they read


def _pairs(arranged: Arranged, batch: Batch) -> _Pairs:
    """Return the pairs of the rows with images. arranged: on the host."""
    distinct, summary = Distinct(), arranged.encoded["summary"]
    weights: list[float] = []
    for row in _rows_with_images(batch):
        pair = (int(arranged.sequence_B[row]), int(summary.text_B[row]))
        if distinct.number(pair, pair) == len(weights):
            weights.append(0.0)
        weights[distinct.numbers[pair]] += 1.0
    return _Pairs(
        distinct=distinct.first or [(0, 0)],
        weights=weights or [0.0],
        regions=arranged.pool_images.sum(dim=1).int().tolist(),
        tokens=summary.pool.sum(dim=1).int().tolist(),
    )


def _rows_with_images(batch: Batch) -> list[int]:
    return [row for row in real_rows(batch) if batch.image_mask_BI[row].any()]
