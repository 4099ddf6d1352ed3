"""A network that goes on from a checkpoint of CrossSum's training starts every summary as that was trained to."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import MT5Config, MT5ForConditionalGeneration

from models.backbones.build import build_backbone
from models.config import Decoding, NetworkConfig, TextConfig, VisionConfig
from models.network import Network
from models.synthetic import random_batch
from shards.errors import InputError
from shards.languages import LANGUAGE_CODES
from shards.text.start_tokens import CROSSSUM_SENTINELS
from shards.text.tokenizer import open_tokenizer
from tests.support.pretrained import save_mt5

WIDTH = 64


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int]]:
    """A directory as CrossSum publishes them, whose model writes a word of its own for every language, by the token
    that CrossSum gave it; language -> that word."""
    where = save_mt5(tmp_path_factory.mktemp("crosssum"))
    vocabulary = json.loads((where / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    number = {piece: place for place, (piece, _) in enumerate(vocabulary)}
    torch.manual_seed(0)
    sizes = {"d_model": WIDTH, "d_ff": 8, "d_kv": 4, "num_heads": 2, "num_layers": 1}
    model = MT5ForConditionalGeneration(MT5Config(vocab_size=len(vocabulary), **sizes))
    model.lm_head.weight = torch.nn.Parameter(torch.zeros(len(vocabulary), WIDTH))
    directions = torch.linalg.qr(torch.randn(WIDTH, WIDTH)).Q
    words: dict[str, int] = {}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith((".o.weight", ".wo.weight")):
                parameter.zero_()  # so that the decoder's state is the embedding of what it reads
        for place, (language, sentinel) in enumerate(CROSSSUM_SENTINELS.items()):
            words[language] = 110 + place
            model.shared.weight[number[f"▁<extra_id_{sentinel}>"]] = directions[place]
            model.lm_head.weight[words[language]] = directions[place]
    model.config.task_specific_params = {
        "langid_map": {
            language: [place, f"▁<extra_id_{sentinel}>"]
            for place, (language, sentinel) in enumerate(CROSSSUM_SENTINELS.items())
        }
    }
    model.save_pretrained(where)
    return where, words


def written(where: Path, starts: list[int], vocab_size: int) -> list[int]:
    config = NetworkConfig(text=TextConfig(pretrained=str(where)), vision=VisionConfig(enabled=False))
    network = Network(config, vocab_size, 0, 1).eval()
    batch = random_batch(rows=len(starts), vocab_size=vocab_size)
    batch = dataclasses.replace(batch, start_B=torch.tensor(starts))
    words: list[int] = network.generate(batch, Decoding(num_beams=1, max_new_tokens=1))[:, 0].tolist()
    return words


def test_every_language_begins_with_its_own_word(checkpoint: tuple[Path, dict[str, int]]) -> None:
    where, words = checkpoint
    tokenizer = open_tokenizer(where)
    starts = [tokenizer.start_id(language) for language in LANGUAGE_CODES]
    assert written(where, starts, tokenizer.vocab_size) == [words[language] for language in LANGUAGE_CODES]
    former = open_tokenizer(where, "alphabetical")
    starts = [former.start_id(language) for language in LANGUAGE_CODES]
    found = written(where, starts, tokenizer.vocab_size)
    assert sum(word == words[language] for word, language in zip(found, LANGUAGE_CODES, strict=True)) <= 1


@pytest.mark.parametrize("to", ["pad", "random"])
def test_resetting_sets_the_start_tokens_embeddings_and_nothing_else(
    checkpoint: tuple[Path, dict[str, int]], to: str
) -> None:
    where, _ = checkpoint
    tokenizer = open_tokenizer(where)
    starts = [tokenizer.start_id(language) for language in LANGUAGE_CODES]

    def tensors(**settings: str) -> dict[str, Tensor]:
        torch.manual_seed(7)
        config = TextConfig(pretrained=str(where), **settings)
        return build_backbone(config, tokenizer.vocab_size, 0, 1, start_ids=starts).stored_tensors()

    before, after = tensors(), tensors(reset_start_tokens=to)
    assert {name for name in before if not torch.equal(before[name], after[name])} == {"shared.weight"}
    rows, was = after["shared.weight"], before["shared.weight"]
    others = [row for row in range(len(rows)) if row not in starts]
    assert torch.equal(rows[others], was[others])
    if to == "pad":
        assert (rows[starts] == rows[0]).all()
    else:
        assert len({tuple(row) for row in rows[starts].tolist()}) == 45
        assert rows[starts].std().item() == pytest.approx(1, rel=0.1)
        assert torch.equal(rows, tensors(reset_start_tokens=to)["shared.weight"])  # by torch's seed


def test_there_is_nothing_to_reset_without_a_checkpoint_or_in_mbart(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="random weights have nothing to reset"):
        TextConfig(d_model=16, d_ff=24, d_kv=4, num_heads=4, num_layers=2, reset_start_tokens="pad")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mbart", "vocab_size": 60}))
    with pytest.raises(InputError, match=r"network\.text\.reset_start_tokens is for mT5"):
        build_backbone(TextConfig(pretrained=str(tmp_path), reset_start_tokens="pad"), 60, 1, 2)
