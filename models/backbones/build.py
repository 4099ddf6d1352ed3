"""Build the backbone that a recipe describes."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from models.backbones.base import Backbone
from models.backbones.checkpoint_config import architecture, check_tokenizer
from models.backbones.mbart import MBartBackbone
from models.backbones.mt5 import MT5Backbone
from models.config import TextConfig


def build_backbone(
    config: TextConfig,
    vocab_size: int,
    pad_id: int,
    eos_id: int,
    related_ids: Mapping[int, Sequence[int]] = MappingProxyType({}),
    start_ids: Sequence[int] = (),
) -> Backbone:
    """Return mT5 or mBART, pretrained or random. vocab_size, pad_id, eos_id, related_ids, start_ids: the tokenizer's.

    Raises `InputError` for a checkpoint that is not there, not whole, of another architecture, or another tokenizer's.
    """
    kind = architecture(config)
    check_tokenizer(config, vocab_size, pad_id, eos_id, related_ids)
    if kind == "mbart":
        return MBartBackbone(config, vocab_size, pad_id, eos_id, related_ids)
    return MT5Backbone(config, vocab_size, pad_id, eos_id, start_ids)
