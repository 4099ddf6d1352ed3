"""Tokenizer directories as mT5 and mBART-50 have them, of a few hundred pieces: no package carries the real ones."""

import io
import json
from pathlib import Path

import pytest
import sentencepiece
from transformers import MBart50Tokenizer, T5Tokenizer

from tests.support.tiny import WORDS


def train(**settings: object) -> bytes:
    """A SentencePiece model of the tiny corpus' words."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*WORDS.values()] * 5),
        model_writer=model,
        vocab_size=600 if "byte_fallback" in settings else 300,
        hard_vocab_limit=False,
        model_type="unigram",
        character_coverage=1.0,
        num_threads=1,
        minloglevel=2,
        **settings,
    )
    return model.getvalue()


def train_mt5(**settings: object) -> bytes:
    """mT5's order of special pieces, its hundred sentinels among the pieces (stored backwards, and not special)."""
    sentinels = [f"▁<extra_id_{number}>" for number in reversed(range(100))]
    return train(pad_id=0, eos_id=1, unk_id=2, bos_id=-1, user_defined_symbols=sentinels, **settings)


def train_mbart() -> bytes:
    """mBART's order of special pieces; its language codes are not among them."""
    return train(unk_id=0, bos_id=1, eos_id=2, pad_id=-1)


def save_mt5(directory: Path) -> Path:
    """A tokenizer like google/mt5-base's, saved by transformers."""
    tokenizer = T5Tokenizer(vocab=_pieces(train_mt5()), extra_ids=0, additional_special_tokens=None)
    tokenizer.save_pretrained(directory)
    return directory


def save_mbart50(directory: Path) -> Path:
    """A tokenizer like facebook/mbart-large-50's, saved by transformers."""
    MBart50Tokenizer(vocab=_pieces(train_mbart())).save_pretrained(directory)
    return directory


def save_published(directory: Path, name: str, **settings: object) -> Path:
    """The files that the published directories have: a SentencePiece model and a configuration.

    settings: of the training of mT5's.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if name == "mt5":
        (directory / "spiece.model").write_bytes(train_mt5(**settings))
        config = {"tokenizer_class": "T5Tokenizer", "extra_ids": 0, "additional_special_tokens": None}
        config |= {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    else:
        (directory / "sentencepiece.bpe.model").write_bytes(train_mbart())
        config = {"tokenizer_class": "MBart50Tokenizer", "src_lang": None, "tgt_lang": None}
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    (directory / "config.json").write_text(json.dumps({"model_type": "mt5" if name == "mt5" else "mbart"}))
    return directory


def hub_without_network(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """The hub's library as with HF_HUB_CACHE=`cache` and HF_HUB_OFFLINE=1, which it reads when it is imported."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def hub_repository(cache: Path, name: str) -> Path:
    """A new directory in `cache`, to be filled as a download of hub id `name` would."""
    repository, revision = cache / f"models--{name.replace('/', '--')}", "0123456789abcdef" * 2 + "01234567"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(revision)
    (repository / "snapshots" / revision).mkdir(parents=True)
    return repository / "snapshots" / revision


def _pieces(model: bytes) -> list[tuple[str, float]]:
    read = sentencepiece.SentencePieceProcessor(model_proto=model)
    return [(read.id_to_piece(i), read.get_score(i)) for i in range(read.get_piece_size())]
