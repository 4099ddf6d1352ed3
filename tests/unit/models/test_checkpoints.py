"""Checkpoints that are damaged, or whose parts do not belong together, are refused in one line; hub ids load."""

import json
import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import MBartConfig, MBartForConditionalGeneration, MT5Config, MT5ForConditionalGeneration

from models.backbones.base import Backbone
from models.backbones.build import build_backbone
from models.config import TextConfig
from shards.errors import InputError
from shards.text.tokenizer import open_tokenizer
from tests.support.pretrained import hub_repository, hub_without_network, save_mt5

WORDS, WIDTH = 50, 16
SPECIAL = {"mt5": (0, 1), "mbart": (1, 2)}
WEIGHTS = "model.safetensors"


def save_model(directory: Path, kind: str, words: int = WORDS) -> None:
    if kind == "mt5":
        sizes = {"d_ff": 24, "d_kv": 4, "num_heads": 4, "num_layers": 1}
        model = MT5ForConditionalGeneration(MT5Config(vocab_size=words, d_model=WIDTH, **sizes))
    else:
        sizes = {f"{part}_{key}": n for part in ("encoder", "decoder") for key, n in (("layers", 1), ("ffn_dim", 24))}
        heads = {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "max_position_embeddings": 20}
        model = MBartForConditionalGeneration(MBartConfig(vocab_size=words, d_model=WIDTH, **sizes, **heads))
    model.save_pretrained(directory)


def load(where: Path | str, kind: str = "mt5") -> Backbone:
    return build_backbone(TextConfig(pretrained=str(where)), WORDS, *SPECIAL[kind])


@pytest.fixture(params=["mt5", "mbart"])
def checkpoint(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    save_model(tmp_path, request.param)
    return tmp_path, request.param


def refusal(where: Path, kind: str) -> str:
    """The one line, and no table of transformers' beside it."""
    said: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = said.append
    logging.getLogger("transformers").addHandler(handler)
    try:
        with pytest.raises(InputError, match=r"^network\.text\.pretrained: ") as error:
            load(where, kind)
    finally:
        logging.getLogger("transformers").removeHandler(handler)
    assert "\n" not in str(error.value)
    assert [record.getMessage() for record in said] == []
    assert str(where) in str(error.value)
    return str(error.value)


def truncate(share: float) -> Callable[[bytes], bytes]:
    return lambda content: content[: int(len(content) * share)]


@pytest.mark.parametrize("spoil", [truncate(0.9), truncate(0.001), truncate(0), lambda content: b"no weights" * 99])
@pytest.mark.parametrize("form", [WEIGHTS, "zip", "legacy"])
def test_a_damaged_file(tmp_path: Path, form: str, spoil: Callable[[bytes], bytes]) -> None:
    save_model(tmp_path, "mt5")
    file = tmp_path / WEIGHTS
    if form != WEIGHTS:
        state = load_file(file)
        file.unlink()
        file = tmp_path / "pytorch_model.bin"
        torch.save(state, file, _use_new_zipfile_serialization=form == "zip")
    file.write_bytes(spoil(file.read_bytes()))
    found = refusal(tmp_path, "mt5")
    assert found.startswith(f"network.text.pretrained: {file} cannot be read (")
    assert "weights_only" not in found, "torch's advice, to run what the file says"


def test_a_file_that_holds_something_else(tmp_path: Path) -> None:
    save_model(tmp_path, "mt5")
    (tmp_path / WEIGHTS).unlink()
    torch.save([1, 2], tmp_path / "pytorch_model.bin")
    assert "a list, not a mapping of tensors" in refusal(tmp_path, "mt5")


def in_parts(where: Path) -> dict[str, Path]:
    """Split the weights of a checkpoint in two; tensor -> its part."""
    state = load_file(where / WEIGHTS)
    (where / WEIGHTS).unlink()
    part_of = {name: f"part-{i % 2}.safetensors" for i, name in enumerate(sorted(state))}
    for part in set(part_of.values()):
        save_file({name: state[name] for name in state if part_of[name] == part}, where / part, {"format": "pt"})
    (where / f"{WEIGHTS}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": part_of}))
    return {name: where / part for name, part in part_of.items()}


def test_damaged_parts(checkpoint: tuple[Path, str]) -> None:
    where, kind = checkpoint
    part, index = where / "part-1.safetensors", where / f"{WEIGHTS}.index.json"
    assert part in in_parts(where).values()
    load(where, kind)
    content = part.read_bytes()
    part.write_bytes(content[:-9])
    assert str(part) in refusal(where, kind)
    part.unlink()
    assert "lists part-1.safetensors in model.safetensors.index.json but lacks it" in refusal(where, kind)
    for text in ("{", "[]", "{}", '{"weight_map": {"a": 1}}'):
        index.write_text(text)
        assert str(index) in refusal(where, kind)
    index.unlink()
    assert "holds no model.safetensors or pytorch_model.bin" in refusal(where, kind)


def change_config(where: Path, **values: object) -> None:
    file = where / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_a_configuration_of_another_width(checkpoint: tuple[Path, str]) -> None:
    where, kind = checkpoint
    change_config(where, d_model=32)
    found = refusal(where, kind)
    assert f"of {where / WEIGHTS} has shape (" in found
    assert "by the config.json beside it" in found


@pytest.mark.parametrize("values", [{"d_model": "wide"}, {"d_model": None}, {"d_model": -4}])
def test_a_configuration_that_makes_no_model(checkpoint: tuple[Path, str], values: dict[str, object]) -> None:
    where, kind = checkpoint
    change_config(where, **values)
    assert "cannot load m" in refusal(where, kind)


def test_a_configuration_without_a_number_of_words(checkpoint: tuple[Path, str]) -> None:
    where, kind = checkpoint
    change_config(where, vocab_size=None)
    assert "has no number vocab_size" in refusal(where, kind)


@pytest.mark.parametrize("rows", [WORDS - 1, WORDS + 14])
@pytest.mark.parametrize("name", ["weight", "bias"])
def test_a_head_of_another_row_count(checkpoint: tuple[Path, str], name: str, rows: int) -> None:
    where, kind = checkpoint
    bias = ("lm_head.bias", (rows,)) if kind == "mt5" else ("final_logits_bias", (1, rows))
    name, shape = bias if name == "bias" else ("lm_head.weight", (rows, WIDTH))
    state: dict[str, Tensor] = load_file(where / WEIGHTS) | {name: torch.zeros(shape)}
    save_file(state, where / WEIGHTS, metadata={"format": "pt"})
    assert f"{name} of {where / WEIGHTS} has shape {shape}, but " in refusal(where, kind)


def test_tensors_without_a_place_are_told_of(checkpoint: tuple[Path, str]) -> None:
    where, kind = checkpoint
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(where, kind)
    save_file(load_file(where / WEIGHTS) | {"adapter.weight": torch.zeros(2)}, where / WEIGHTS, {"format": "pt"})
    with pytest.warns(UserWarning, match=r"has 1 tensors that its mB?A?R?T5? has no place for, adapter\.weight first"):
        load(where, kind)


def test_weights_are_those_that_transformers_would_take(checkpoint: tuple[Path, str]) -> None:
    """safetensors before torch's, whatever else lies beside it."""
    where, kind = checkpoint
    before = load(where, kind).state_dict()
    (where / "pytorch_model.bin").write_bytes(b"")
    (where / "pytorch_model.bin.index.json").write_text("{")
    after = load(where, kind).state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_weights_and_tokenizer_of_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    directory = save_mt5(hub_repository(tmp_path, "someone/tiny-mt5"))
    words = open_tokenizer(directory).vocab_size
    save_model(directory, "mt5", words)
    hub_without_network(monkeypatch, tmp_path)
    monkeypatch.chdir(tmp_path)
    tokenizer = open_tokenizer("someone/tiny-mt5")
    facts = tokenizer.vocab_size, tokenizer.pad_id, tokenizer.eos_id
    by_id = build_backbone(TextConfig(pretrained="someone/tiny-mt5"), *facts).state_dict()
    by_path = build_backbone(TextConfig(pretrained=str(directory)), *facts).state_dict()
    assert all(torch.equal(by_id[name], by_path[name]) for name in by_path)
    with pytest.raises(InputError, match=r"^network\.text\.pretrained=someone/else: there is no such directory, and "):
        build_backbone(TextConfig(pretrained="someone/else"), *facts)
