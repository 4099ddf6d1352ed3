"""Checkpoints as transformers saves them, and runs of ACROSS that read one."""

from pathlib import Path
from typing import Any

import torch
from transformers import MBartConfig, MBartForConditionalGeneration, MT5Config, MT5ForConditionalGeneration

from shards.format.index import Corpus
from shards.text.tokenizer import open_tokenizer
from tests.support.tiny import tiny_overrides
from trainer.recipe import Recipe, load_recipe


def save_model(directory: Path, tokenizer_directory: Path, kind: str, seed: int = 0, **more: Any) -> Path:
    """A checkpoint that transformers saved, with a row for each word of the tokenizer."""
    tokenizer = open_tokenizer(tokenizer_directory)
    special = {"pad_token_id": tokenizer.pad_id, "eos_token_id": tokenizer.eos_id, "vocab_size": tokenizer.vocab_size}
    torch.manual_seed(seed)
    if kind == "mt5":
        sizes = {"d_model": 32, "d_ff": 24, "d_kv": 4, "num_heads": 4, "num_layers": 1}
        model = MT5ForConditionalGeneration(MT5Config(**(sizes | special | more)))
    else:
        sizes = {f"{part}_{key}": n for part in ("encoder", "decoder") for key, n in (("layers", 1), ("ffn_dim", 24))}
        sizes |= {"d_model": 16, "encoder_attention_heads": 4, "decoder_attention_heads": 4}
        model = MBartForConditionalGeneration(MBartConfig(**(sizes | special | more)))
    model.save_pretrained(directory)
    return directory


def across(folder: Path, corpus: Corpus, mls: Path, *more: str) -> Recipe:
    words = [word for word in tiny_overrides(corpus.directory, folder / "run") if "alpha_steps" not in word]
    words += [f"references.mls.model={mls}", "references.mls.initialises=false", "objective.negatives=24"]
    return load_recipe("across", [*words, "mixture.directions=*-en,*-fr", "training.steps=2", *more])
