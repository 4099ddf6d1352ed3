"""The mT5 backbone: transformers' own encoder and decoder, with a head that the network owns.

Shape suffixes as in shards/schema.py. transformers 5 ties mT5's head to its embeddings whatever the
configuration says, and does not scale the tied logits, while the published checkpoints hold a head of their
own (up to 113 away from the embeddings). The head is therefore ours: a Linear with a bias (the paper's W_o,
b_o), its weight read from the checkpoint's file rather than from the tied model.
"""

import json
from pathlib import Path
from typing import ClassVar

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import MT5Config, MT5Model
from transformers.utils.hub import cached_file

from models.config import TextConfig
from shards.errors import InputError

_HEAD = "lm_head.weight"


class MT5Backbone(nn.Module):
    """Encoder, decoder and head. `encoder` and `decoder` are transformers' MT5Stack, sharing embeddings.

    vocab_size: words of the tokenizer. A checkpoint may have more rows (mT5 has 250,112 for 250,100 words)
    and keeps them all; fewer is an InputError.
    """

    def __init__(self, config: TextConfig, vocab_size: int, pad_id: int, eos_id: int) -> None:
        super().__init__()
        self.model = (
            _random_model(config, vocab_size, pad_id, eos_id)
            if config.pretrained is None
            else _pretrained_model(config, vocab_size)
        )
        # Beam search and the causal mask read these from the configuration.
        self.model.config.pad_token_id, self.model.config.eos_token_id = pad_id, eos_id
        self.hidden_size: int = self.model.config.d_model
        self.vocab_size: int = self.model.config.vocab_size
        self.head = nn.Linear(self.hidden_size, self.vocab_size, bias=True)
        with torch.no_grad():
            self.head.bias.zero_()
            if config.pretrained is None:
                # Decoder states have unit RMS, so this makes logits of unit variance: a loss near log W.
                self.head.weight.normal_(std=self.hidden_size**-0.5)
                # mT5 draws embeddings with variance 1, for Adafactor, whose steps scale with a tensor's size.
                # AdamW's do not, and would take thousands of steps to move them.
                self.model.shared.weight.normal_(std=self.hidden_size**-0.5)
            else:
                stored_WD = _stored_head(config.pretrained)
                self.head.weight.copy_(self.model.shared.weight if stored_WD is None else stored_WD)

    @property
    def encoder(self) -> nn.Module:
        """transformers' MT5Stack without causal mask."""
        encoder: nn.Module = self.model.encoder
        return encoder

    @property
    def decoder(self) -> nn.Module:
        """transformers' MT5Stack with causal mask and cross-attention."""
        decoder: nn.Module = self.model.decoder
        return decoder

    def encode(self, ids_BM: Tensor, mask: Tensor) -> Tensor:
        """H_T^{N_e} (B, M, D). mask: (B, M) bool of real tokens, or (B, 1, M, M) bool of allowed pairs."""
        states_BMD: Tensor = self.encoder(input_ids=ids_BM, attention_mask=mask).last_hidden_state
        return states_BMD

    def decode(self, ids_BN: Tensor, memory_BMD: Tensor, memory_mask_BM: Tensor) -> Tensor:
        """H_dec^{N_d} (B, N, D), Eq. 1. Padding sits on the right, so the causal mask is mask enough."""
        states_BND: Tensor = self.decoder(
            input_ids=ids_BN,
            encoder_hidden_states=memory_BMD,
            encoder_attention_mask=memory_mask_BM,
            use_cache=False,
        ).last_hidden_state
        return states_BND


class _MT5Model(MT5Model):  # type: ignore[misc]
    """transformers' MT5Model, which does not warn of the head: that is read by `_stored_head`."""

    _keys_to_ignore_on_load_unexpected: ClassVar[list[str]] = [
        *MT5Model._keys_to_ignore_on_load_unexpected,
        r"lm_head\.weight",
    ]


def _random_model(config: TextConfig, vocab_size: int, pad_id: int, eos_id: int) -> MT5Model:
    optional = {
        "relative_attention_num_buckets": config.relative_attention_num_buckets,
        "relative_attention_max_distance": config.relative_attention_max_distance,
        "feed_forward_proj": config.feed_forward_proj,
        "num_decoder_layers": config.num_decoder_layers,
    }
    hf_config = MT5Config(
        vocab_size=vocab_size,
        d_model=config.d_model,
        d_ff=config.d_ff,
        d_kv=config.d_kv,
        num_heads=config.num_heads,
        num_layers=config.num_layers,
        dropout_rate=config.dropout,
        pad_token_id=pad_id,
        eos_token_id=eos_id,
        decoder_start_token_id=pad_id,
        **{name: value for name, value in optional.items() if value is not None},
    )
    hf_config._attn_implementation = "sdpa"
    return MT5Model(hf_config)


def _pretrained_model(config: TextConfig, vocab_size: int) -> MT5Model:
    where = config.pretrained
    try:
        model, report = _MT5Model.from_pretrained(
            where,
            dropout_rate=config.dropout,
            attn_implementation="sdpa",
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"network.text.pretrained: cannot load mT5 from {where!r}: {reason}") from error
    if report["missing_keys"]:
        # transformers would leave these at random values with no more than a warning.
        missing = sorted(report["missing_keys"])
        raise InputError(
            f"network.text.pretrained: {where!r} lacks {len(missing)} tensors of mT5, {missing[0]} first; "
            "give the directory of a complete mT5 checkpoint"
        )
    if model.config.vocab_size < vocab_size:
        raise InputError(
            f"network.text.pretrained: {where!r} has {model.config.vocab_size} words, the tokenizer "
            f"{vocab_size}; use the checkpoint's own tokenizer"
        )
    return model


def _stored_head(where: str) -> Tensor | None:
    """The checkpoint's own `lm_head.weight` (W, D), or None where it stores none (a tied head)."""
    found = (_find(where, name) for name in ("model.safetensors.index.json", "pytorch_model.bin.index.json"))
    for index in filter(None, found):
        shard = json.loads(index.read_text())["weight_map"].get(_HEAD)
        if shard is None:
            return None
        file = _find(where, shard)
        if file is None:
            raise InputError(f"network.text.pretrained: {where!r} lists {shard} in {index.name} but lacks it")
        return _read_head(file)
    for name in ("model.safetensors", "pytorch_model.bin"):
        file = _find(where, name)
        if file is not None:
            return _read_head(file)
    raise InputError(f"network.text.pretrained: {where!r} holds no model.safetensors or pytorch_model.bin")


def _find(where: str, name: str) -> Path | None:
    file = cached_file(where, name, _raise_exceptions_for_missing_entries=False)
    return None if file is None else Path(file)


def _read_head(file: Path) -> Tensor | None:
    if file.suffix == ".safetensors":
        with safe_open(file, framework="pt") as tensors:
            return tensors.get_tensor(_HEAD) if _HEAD in tensors.keys() else None  # noqa: SIM118
    state: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    return state.get(_HEAD)
