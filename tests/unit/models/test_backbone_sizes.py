"""Sizes of random backbones: the published shapes, and which keys make which architecture."""

import pytest
import torch

from models.backbones.build import build_backbone
from models.backbones.checkpoint_config import max_length
from models.config import TextConfig

RANDOM = TextConfig(
    architecture="mbart",
    d_model=16,
    d_ff=24,
    num_heads=4,
    num_layers=2,
    num_decoder_layers=3,
    max_position_embeddings=20,
)


def test_the_longest_text() -> None:
    assert max_length(RANDOM) == build_backbone(RANDOM, 50, 1, 2).model.config.max_position_embeddings == 20
    assert max_length(TextConfig(shape="mbart50_large")) == 1024
    assert max_length(TextConfig(shape="mt5_small")) is None


@pytest.mark.parametrize(
    ("shape", "words", "millions"),
    [
        ("mt5_small", 250112, 300),
        ("mt5_base", 250112, 582),
        ("mt5_large", 250112, 1230),
        ("mbart50_large", 250054, 611),
    ],
)
def test_shapes_have_the_published_number_of_parameters(shape: str, words: int, millions: int) -> None:
    with torch.device("meta"):
        backbone = build_backbone(TextConfig(shape=shape), words, 1, 2)
    count = sum(parameter.numel() for parameter in backbone.model.parameters())
    if shape.startswith("mt5"):
        count += backbone.head.weight.numel()  # the published mT5 counts its own head
    assert round(count / 1e6) == millions


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"d_kv": 4}, "d_kv: mBART has no such size"),
        ({"feed_forward_proj": "relu"}, "feed_forward_proj: mBART has no such size"),
        ({"num_heads": 3}, "num_heads 3 does not divide mBART's d_model 16"),
        ({"num_layers": None}, "give either pretrained or the sizes num_layers"),
        ({"architecture": None, "d_kv": 4}, "max_position_embeddings: mT5 has no such size"),
        ({"architecture": "bart"}, "'mt5' or 'mbart'"),
        ({"shape": "mbart50_large"}, "shape mbart50_large sets all of a random backbone"),
        ({"shape": "mbart50"}, "mt5_small"),
        ({"pretrained": "somewhere"}, "a pretrained backbone brings its own"),
    ],
)
def test_sizes_that_make_no_mbart(sizes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TextConfig.model_validate({**RANDOM.model_dump(), **sizes})
    with pytest.raises(ValueError, match="remove architecture"):
        TextConfig(shape="mt5_base", architecture="mbart")


def test_a_shape_is_spelled_out() -> None:
    config = TextConfig(shape="mbart50_large", dropout=0.2)
    assert (config.shape, config.architecture, config.d_ff, config.dropout) == (None, "mbart", 4096, 0.2)
    assert TextConfig.model_validate(config.model_dump()) == config
