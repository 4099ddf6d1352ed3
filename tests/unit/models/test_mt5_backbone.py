"""The head is the network's own: the checkpoint's where it stores one, the embeddings' otherwise."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import MT5Config, MT5ForConditionalGeneration

from models.backbones.build import build_backbone
from models.backbones.checkpoint_config import SPARE_ROWS
from models.backbones.mt5 import MT5Backbone
from models.config import TextConfig
from models.network import Network
from models.synthetic import EOS_ID, PAD_ID, random_batch, tiny_config
from shards.errors import InputError

SIZES = {"d_model": 16, "d_ff": 24, "d_kv": 4, "num_heads": 4, "num_layers": 2}


@pytest.fixture
def checkpoint(tmp_path: Path) -> tuple[Path, dict[str, torch.Tensor]]:
    """A tiny mT5 directory whose head differs from its embeddings, as the published ones do."""
    torch.manual_seed(0)
    MT5ForConditionalGeneration(MT5Config(vocab_size=50, **SIZES)).save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    state = load_file(file)
    state["lm_head.weight"] = torch.randn(50, 16) * 3
    save_file(state, file, metadata={"format": "pt"})
    return tmp_path, state


def load(where: Path, vocab_size: int = 50) -> MT5Backbone:
    backbone = build_backbone(TextConfig(pretrained=str(where)), vocab_size, PAD_ID, EOS_ID)
    assert isinstance(backbone, MT5Backbone)
    return backbone


def assert_loaded(backbone: MT5Backbone, state: dict[str, torch.Tensor], head: str) -> None:
    torch.testing.assert_close(backbone.head.weight.detach(), state[head])
    assert not backbone.head.bias.any()
    torch.testing.assert_close(backbone.model.shared.weight.detach(), state["shared.weight"])
    name = "decoder.block.1.layer.1.EncDecAttention.k.weight"
    torch.testing.assert_close(backbone.model.state_dict()[name], state[name])
    assert backbone.model.encoder.embed_tokens.weight is backbone.model.shared.weight
    assert backbone.head.weight is not backbone.model.shared.weight


def test_head_of_the_checkpoint(checkpoint: tuple[Path, dict[str, torch.Tensor]]) -> None:
    where, state = checkpoint
    assert_loaded(load(where), state, "lm_head.weight")


@pytest.mark.parametrize("is_zip", [True, False])
def test_head_of_a_torch_checkpoint(checkpoint: tuple[Path, dict[str, torch.Tensor]], is_zip: bool) -> None:
    """torch wrote its own form before 1.6, zip archives since: the older published files have the former."""
    where, state = checkpoint
    (where / "model.safetensors").unlink()
    torch.save(state, where / "pytorch_model.bin", _use_new_zipfile_serialization=is_zip)
    assert_loaded(load(where), state, "lm_head.weight")


def test_head_of_a_sharded_checkpoint(checkpoint: tuple[Path, dict[str, torch.Tensor]]) -> None:
    where, state = checkpoint
    (where / "model.safetensors").unlink()
    parts = {"a.safetensors": {}, "b.safetensors": {}}
    for i, (name, tensor) in enumerate(sorted(state.items())):
        parts[("a.safetensors", "b.safetensors")[i % 2]][name] = tensor
    for file, tensors in parts.items():
        save_file(tensors, where / file, metadata={"format": "pt"})
    weight_map = {name: file for file, tensors in parts.items() for name in tensors}
    (where / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    assert_loaded(load(where), state, "lm_head.weight")


def test_a_tied_checkpoint_gives_its_embeddings(checkpoint: tuple[Path, dict[str, torch.Tensor]]) -> None:
    where, state = checkpoint
    del state["lm_head.weight"]
    save_file(state, where / "model.safetensors", metadata={"format": "pt"})
    assert_loaded(load(where), state, "shared.weight")


def test_vocabulary_of_checkpoint_and_tokenizer(checkpoint: tuple[Path, dict[str, torch.Tensor]]) -> None:
    where, _ = checkpoint
    assert load(where, vocab_size=47).vocab_size == 50, "the checkpoint's spare rows stay"
    with pytest.raises(InputError, match=f"has 50 words, the tokenizer 51: set corpus.tokenizer={where}"):
        load(where, vocab_size=51)


def test_a_smaller_tokenizer_is_anothers(tmp_path: Path) -> None:
    """The corpus' own, say: it has mT5's padding and end tokens. Padding to a round number is no other tokenizer."""
    words = SPARE_ROWS + 300
    MT5ForConditionalGeneration(MT5Config(vocab_size=words, **SIZES)).save_pretrained(tmp_path)
    assert load(tmp_path, vocab_size=300).vocab_size == words
    with pytest.raises(InputError, match=f"has {words} words, the tokenizer 299: set corpus.tokenizer=") as error:
        load(tmp_path, vocab_size=299)
    assert "\n" not in str(error.value)


def test_a_missing_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"network\.text\.pretrained=.*absent: there is no such directory") as error:
        load(tmp_path / "absent")
    assert "\n" not in str(error.value)


def test_an_incomplete_checkpoint(checkpoint: tuple[Path, dict[str, torch.Tensor]]) -> None:
    """transformers would start the missing tensors at random."""
    where, state = checkpoint
    del state["decoder.block.1.layer.1.EncDecAttention.k.weight"]
    save_file(state, where / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"lacks 1 tensors of mT5, decoder\.block\.1\.layer\.1"):
        load(where)


def test_a_random_network_starts_at_log_w() -> None:
    """transformers' own tied random head starts near 100."""
    torch.manual_seed(0)
    network = Network(tiny_config(), 1000, PAD_ID, EOS_ID).eval()
    batch = random_batch(rows=32, summary=20, vocab_size=1000)
    nll_B, tokens_B = network.row_nll(batch)
    assert nll_B.sum().item() / tokens_B.sum().item() == pytest.approx(math.log(1000), abs=0.8)


def test_attention_is_torchs_fused_one() -> None:
    backbone = MT5Backbone(TextConfig(**SIZES), 50, PAD_ID, EOS_ID)
    assert backbone.model.encoder.config._attn_implementation == "sdpa"
    assert backbone.model.decoder.config._attn_implementation == "sdpa"
