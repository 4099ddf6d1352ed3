"""Text <-> token ids, with one start token a target language.

Two kinds of directory are read: a pretrained Hugging Face tokenizer (mT5's, say), whose start tokens are
its sentinels in the languages' order, as CrossSum gives them; or a SentencePiece model trained on a
corpus' training split, which has a `<to:LANGUAGE>` token for each.
"""

import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import sentencepiece

from shards.errors import InputError
from shards.languages import LANGUAGE_CODES

PAD_ID, EOS_ID, UNK_ID = 0, 1, 2


class Tokenizer(Protocol):
    """What the collation and the evaluation need of a tokenizer."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def pad_id(self) -> int: ...

    @property
    def eos_id(self) -> int: ...

    def encode(self, text: str, max_length: int) -> list[int]:
        """Token ids, truncated so that with the end token they are at most `max_length`."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text up to the first end token, without special tokens."""
        ...

    def start_id(self, language: str) -> int:
        """The decoder's start token for a target language."""
        ...


class SentencePieceTokenizer:
    """A SentencePiece model with `<to:LANGUAGE>` control tokens, as `train_sentencepiece` makes."""

    pad_id, eos_id = PAD_ID, EOS_ID

    def __init__(self, directory: Path) -> None:
        self._model = sentencepiece.SentencePieceProcessor(model_file=str(directory / "spiece.model"))

    @property
    def vocab_size(self) -> int:
        return int(self._model.get_piece_size())

    def encode(self, text: str, max_length: int) -> list[int]:
        ids: list[int] = self._model.encode(text)
        return [*ids[: max_length - 1], EOS_ID]

    def decode(self, ids: Sequence[int]) -> str:
        kept = list(ids)
        if EOS_ID in kept:
            kept = kept[: kept.index(EOS_ID)]
        return str(self._model.decode([i for i in kept if not self._model.is_control(i)]))

    def start_id(self, language: str) -> int:
        return int(self._model.piece_to_id(_start_piece(language)))


class PretrainedTokenizer:
    """A Hugging Face tokenizer from a directory or a hub id; start tokens are its sentinels."""

    def __init__(self, directory: Path | str) -> None:
        from transformers import AutoTokenizer  # seconds of import that the other kind does not pay

        try:
            self._model = AutoTokenizer.from_pretrained(str(directory))
        except (OSError, ValueError) as error:
            why = " ".join(str(error).split())
            raise InputError(
                f"no tokenizer at {directory}, and none of that name to be had from the hub ({why}): "
                "name a directory that holds one"
            ) from error
        sentinels = sorted(
            (token for token in self._model.get_vocab() if "extra_id_" in token),
            key=lambda token: int("".join(c for c in token if c.isdigit())),
        )
        if len(sentinels) < len(LANGUAGE_CODES):
            raise InputError(
                f"the tokenizer in {directory} has {len(sentinels)} <extra_id_*> tokens, but each of "
                f"{len(LANGUAGE_CODES)} languages needs one to start with: use mT5's or one that `d2tv prepare` trains"
            )
        ids = self._model.convert_tokens_to_ids(sentinels)
        self._start = dict(zip(LANGUAGE_CODES, ids, strict=False))

    @property
    def vocab_size(self) -> int:
        return len(self._model)

    @property
    def pad_id(self) -> int:
        return int(self._model.pad_token_id)

    @property
    def eos_id(self) -> int:
        return int(self._model.eos_token_id)

    def encode(self, text: str, max_length: int) -> list[int]:
        ids: list[int] = self._model.encode(text, add_special_tokens=False)
        return [*ids[: max_length - 1], self.eos_id]

    def decode(self, ids: Sequence[int]) -> str:
        kept = list(ids)
        if self.eos_id in kept:
            kept = kept[: kept.index(self.eos_id)]
        return str(self._model.decode(kept, skip_special_tokens=True))

    def start_id(self, language: str) -> int:
        return int(self._start[language])


def open_tokenizer(directory: Path | str) -> Tokenizer:
    """The tokenizer in `directory`: a model this project trained, else a Hugging Face one (or a hub id)."""
    path = Path(directory)
    if (path / "d2tv_tokenizer.json").is_file():
        return SentencePieceTokenizer(path)
    # A path that is written as one is never looked for on the hub.
    if (path.exists() or path.is_absolute()) and not (path / "tokenizer_config.json").is_file():
        raise InputError(f"no tokenizer in {path}: it holds neither d2tv_tokenizer.json nor tokenizer_config.json")
    return PretrainedTokenizer(directory)


def train_sentencepiece(
    directory: Path,
    texts: Iterable[str],
    *,
    languages: Sequence[str],
    vocab_size: int,
    character_coverage: float,
) -> SentencePieceTokenizer:
    """Train a unigram model of at most `vocab_size` pieces, with byte fallback, into `directory`.

    The file that `open_tokenizer` looks for is written last, so that half a tokenizer is none.
    """
    directory.mkdir(parents=True, exist_ok=True)
    # Through memory: given a file name, SentencePiece would store that path in the model and change its hash.
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            vocab_size=vocab_size,
            hard_vocab_limit=False,  # a small corpus has fewer pieces to offer
            model_type="unigram",
            character_coverage=character_coverage,
            byte_fallback=True,
            normalization_rule_name="nmt_nfkc",
            pad_id=PAD_ID,
            eos_id=EOS_ID,
            unk_id=UNK_ID,
            bos_id=-1,
            control_symbols=[_start_piece(language) for language in languages],
            num_threads=1,  # the trained pieces depend on it, and a corpus should not depend on a machine
            minloglevel=2,
        )
    except RuntimeError as error:
        raise InputError(f"SentencePiece could not train {vocab_size} pieces: {str(error).splitlines()[-1]}") from error
    (directory / "spiece.model").write_bytes(model.getvalue())
    marker = {"kind": "sentencepiece", "languages": list(languages)}
    (directory / "d2tv_tokenizer.json").write_text(json.dumps(marker, indent=1) + "\n", encoding="utf-8")
    return SentencePieceTokenizer(directory)


def _start_piece(language: str) -> str:
    return f"<to:{language}>"
