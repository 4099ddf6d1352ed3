"""Encode images as the paper's section 2.2: region features with positions, then N_v Transformer layers.

    v_ij = o_ij + E^box_ij + E^img_i + E^reg_j
    S = SelfAttn(H) + H,  H' = FFN(S) + S,  each followed by a LayerNorm ("layer normalization: postnorm", Table 5)

Shape suffixes as in models/ragged.py; X images, R regions of each, S regions of all of them; V is the encoder's
width (d_v, or `hidden_size`) and F that of the stored features.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.arranged import Arranged
from models.attention import attend
from models.config import VisionConfig
from models.dropout import dropout
from models.layers import LayerRunner
from models.norms import layer_norm
from models.ragged import Layout
from shards.batch.types import Batch
from shards.errors import InputError


class RegionEmbedding(nn.Module):
    """Embed region features with their positions, `width` wide (None: as wide as they are)."""

    def __init__(self, config: VisionConfig, width: int | None) -> None:
        super().__init__()
        self.config = config
        self.project = None if width is None else nn.Linear(config.feature_size, width)
        width = width or config.feature_size
        if self.project is not None and config.feature_scale != 1:
            with torch.no_grad():
                self.project.weight.div_(config.feature_scale)
        self.box = nn.Linear(4, width)
        self.image = nn.Embedding(config.max_images, width)
        self.region = nn.Embedding(config.regions, width)
        # torch's default of N(0, 1) would drown region features, which are mostly well below 1.
        nn.init.normal_(self.image.weight, std=0.02)
        nn.init.normal_(self.region.weight, std=0.02)

    def embed(self, roi_XRF: Tensor, boxes_XR4: Tensor, place_X: Tensor) -> Tensor:
        """Return v_ij (X, R, V) of images that are number `place_X` of their sequence, in the parameters' dtype.

        Features are stored as float16.
        """
        _, regions, features = roi_XRF.shape
        config = self.config
        if regions > config.regions or features != config.feature_size:
            raise InputError(
                f"image features of {regions} regions x {features} do not fit network.vision "
                f"(regions {config.regions}, feature_size {config.feature_size})"
            )
        dtype = self.box.weight.dtype
        o_XRV = roi_XRF.to(dtype)
        if self.project is not None:
            o_XRV = self.project(o_XRV if config.feature_scale == 1 else o_XRV * config.feature_scale)
        box_XRV = self.box(boxes_XR4.to(dtype))
        embedded: Tensor = o_XRV + box_XRV + self.image(place_X)[:, None] + self.region.weight[:regions]
        return embedded


class VisualEncoder(RegionEmbedding):
    """Embed and encode region features."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__(config, config.hidden_size)
        self.runner, width = LayerRunner(), config.width
        layer = nn.TransformerEncoderLayer(
            width, config.num_heads, config.ffn_size, config.dropout, batch_first=True, norm_first=False
        )
        # torch's modules hold the parameters; `_layer` runs them on flat states.
        self.layers = nn.TransformerEncoder(layer, config.num_layers, enable_nested_tensor=False)
        for parameter in self.layers.parameters():
            # TransformerEncoder copies one layer; without this all N_v layers start equal.
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(self, roi_XRF: Tensor, boxes_XR4: Tensor, place_X: Tensor, layout: Layout) -> Tensor:
        """Return H_V^{N_v} (S, V) of the regions of all images, sequence by sequence; `layout` keeps sequences apart.

        roi_XRF any float dtype, boxes_XR4 in [0, 1].
        """
        states_SV = self.embed(roi_XRF, boxes_XR4, place_X).flatten(0, 1)
        for layer in self.layers.layers:
            states_SV = self.runner(_layer, layer, states_SV, layout)
        return states_SV


def _layer(layer: nn.TransformerEncoderLayer, x_SV: Tensor, layout: Layout) -> Tensor:
    """Compute what nn.TransformerEncoderLayer does, on flat states."""
    attention, training = layer.self_attn, layer.training
    query_SV, key_SV, value_SV = F.linear(x_SV, attention.in_proj_weight, attention.in_proj_bias).chunk(3, dim=-1)
    mixed_SV = attend(
        query_SV,
        key_SV,
        value_SV,
        layout,
        heads=attention.num_heads,
        scale=attention.head_dim**-0.5,
        dropout=attention.dropout if training else 0.0,
    )
    x_SV = layer_norm(x_SV + dropout(attention.out_proj(mixed_SV), layer.dropout1.p, training), layer.norm1)
    inner = dropout(F.relu(layer.linear1(x_SV)), layer.dropout.p, training)
    return layer_norm(x_SV + dropout(layer.linear2(inner), layer.dropout2.p, training), layer.norm2)


def region_features(batch: Batch, arranged: Arranged) -> Tensor:
    """Features (S, F) of the regions of the image sequences, as the batch has them."""
    return images(batch.roi_BIRV, arranged.image_X).flatten(0, 1)


def images(of_BI: Tensor, image_X: Tensor) -> Tensor:
    """Return what belongs to the images `image_X`, flat indices, (X, ...) on their device, out of (B, I, ...)."""
    return of_BI.to(image_X.device, non_blocking=True).flatten(0, 1).index_select(0, image_X)
