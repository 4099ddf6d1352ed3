"""Count the matrix-product FLOPs of one training step from the unpadded lengths.

A product of (a, b) and (b, c) is 2abc operations. Padding, whoever computes it, counts for nothing, and neither
does what is no matrix product. With D the width of the text, H that of all heads, F and m the width and the
number (3 where gated, else 2) of the feed-forward matrices, W the words, V the visual width, Y its feed-forward
width, C the common width of the fusion, per layer where the part has layers:

    text encoder  L (8DH + 2mDF) + 4H L^2                                       L tokens of a document or another text
    decoder       N (8DH + 4DH + 2mDF) + 4H (N (N + 1) / 2 + N L) + 4DH L       N of the summary, L of the document
    head          2DW N
    vision        K (8V^2 + 4VY) + 4V K^2,  and once 8V K + 2 d_v V K           K regions; d_v where it is projected
    early fusion  K (2 d_v D + 8D) + 2 d_p D P, and the K regions, the P patches of d_p values and some marks are tokens
                  of what the text encoder reads
    fusion        L (2DC + 2(D + C)C + 2(D + C)D) + 4C L K,  and once 4VC K     keys and values once an image sequence

Layers of an objective's own are its own to count. A causal attention counts the pairs it allows. mT5-base with 512 and
84 tokens and 180 regions: 200.8 GF one direction, 364 both, 379 D2TV. Training is three times the forward pass.

Integers on the CPU: nothing here waits for a device. Shape suffixes as in shards/schema.py.
"""

from dataclasses import dataclass, fields
from typing import Any

from models.arrangement import Lengths
from models.config import NetworkConfig
from models.shapes import PATCH_SIZE, PATCHES


@dataclass(frozen=True, kw_only=True, slots=True)
class BackboneSizes:
    """Sizes that a text backbone's products depend on."""

    hidden: int  # D
    heads: int  # H: width of all heads together
    encoder_ffn: int  # F
    decoder_ffn: int
    ffn_matrices: int  # 3 where gated
    encoder_layers: int
    decoder_layers: int
    words: int  # W, rows of the head

    @classmethod
    def of(cls, config: Any) -> "BackboneSizes":
        """From the `transformers` configuration of an mT5 or an mBART."""
        if config.model_type in ("t5", "mt5"):
            return cls(
                hidden=config.d_model,
                heads=config.num_heads * config.d_kv,
                encoder_ffn=config.d_ff,
                decoder_ffn=config.d_ff,
                ffn_matrices=3 if config.is_gated_act else 2,
                encoder_layers=config.num_layers,
                decoder_layers=config.num_decoder_layers,
                words=config.vocab_size,
            )
        assert config.model_type == "mbart", f"no sizes known of {config.model_type}"
        return cls(
            hidden=config.d_model,
            heads=config.d_model,
            encoder_ffn=config.encoder_ffn_dim,
            decoder_ffn=config.decoder_ffn_dim,
            ffn_matrices=2,
            encoder_layers=config.encoder_layers,
            decoder_layers=config.decoder_layers,
            words=config.vocab_size,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Flops:
    """Operations of a forward pass by part."""

    vision: int
    documents: int  # that summaries are written from, through the text encoder
    texts: int  # other texts, likewise
    fusion: int
    decoder: int
    head: int
    own: int = 0  # layers of the objective

    @property
    def forward(self) -> int:
        return sum(int(getattr(self, part.name)) for part in fields(self))

    @property
    def training(self) -> int:
        """Forward and backward: each product has two more, one for either factor's gradient."""
        return 3 * self.forward


def forward_flops(lengths: Lengths, network: NetworkConfig, backbone: BackboneSizes, own: int = 0) -> Flops:
    """Count a forward pass over what was arranged. own: of the objective's own layers."""
    images = lengths.images if network.vision.enabled else []
    common, regions = network.fusion.hidden_size, network.vision.regions
    vision = sum(vision_flops(count, network) for count in images)
    memories = lengths.memories
    if network.joint is not None:
        # The encoder reads the images: what is left is their way to its width.
        values = {"regions": (network.vision.feature_size + 4) * regions, "patches": PATCHES * PATCH_SIZE}
        vision = 2 * backbone.hidden * sum(values[kind] * count for kind, count in lengths.embedded.items())
        images, memories = [], []
    return Flops(
        vision=vision,
        documents=sum(encoder_flops(length, backbone) for length in lengths.documents),
        texts=sum(encoder_flops(length, backbone) for length in lengths.texts),
        fusion=sum(fusion_flops(document, count, network, backbone) for document, count in memories)
        + 4 * network.vision.width * common * regions * sum(images),
        decoder=sum(decoder_flops(document, summary, backbone) for document, summary in lengths.decoded),
        head=2 * backbone.hidden * backbone.words * sum(summary for _, summary in lengths.decoded),
        own=own,
    )


def encoder_flops(length: int, backbone: BackboneSizes) -> int:
    """A text of `length` tokens through all layers of the text encoder."""
    token = 8 * backbone.hidden * backbone.heads + 2 * backbone.ffn_matrices * backbone.hidden * backbone.encoder_ffn
    return backbone.encoder_layers * (length * token + 4 * backbone.heads * length**2)


def decoder_flops(document: int, summary: int, backbone: BackboneSizes) -> int:
    """A summary through all layers of the decoder, keys and values of its document included."""
    square = backbone.hidden * backbone.heads
    token = 12 * square + 2 * backbone.ffn_matrices * backbone.hidden * backbone.decoder_ffn
    pairs = summary * (summary + 1) // 2 + summary * document
    return backbone.decoder_layers * (summary * token + 4 * square * document + 4 * backbone.heads * pairs)


def vision_flops(images: int, network: NetworkConfig) -> int:
    """An image sequence through the visual encoder."""
    vision = network.vision
    width, keys = vision.width, images * vision.regions
    once = 8 * width + (0 if vision.hidden_size is None else 2 * vision.feature_size * width)
    layer = keys * (8 * width**2 + 4 * width * vision.ffn_size) + 4 * width * keys**2
    return keys * once + vision.num_layers * layer


def fusion_flops(document: int, images: int, network: NetworkConfig, backbone: BackboneSizes) -> int:
    """A document's states fused with an image sequence, whose keys and values are there already."""
    if not network.vision.enabled:
        return 0
    hidden, common = backbone.hidden, network.fusion.hidden_size
    token = 2 * hidden * common + 2 * (hidden + common) * (common + hidden)
    return document * token + 4 * common * document * images * network.vision.regions
