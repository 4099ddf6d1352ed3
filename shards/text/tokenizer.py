"""Turn text into token ids and back, with one start token a target language.

Two kinds of directory are read: a pretrained Hugging Face tokenizer, and a SentencePiece model trained on a corpus'
training split. Their start tokens:

- mT5: its sentinels, by CrossSum's published map (shards/text/start_tokens.py).
- mBART-50: its language codes, and new ones behind its vocabulary where it has none (shards/text/language_codes.py).
- our own: a `<to:LANGUAGE>` token each.

A summary is its tokens and the end token, for every kind: the decoder reads the target's start token and then the
summary (Eq. 1, one start token a row), and learns tokens and end. For mBART-50 this is the form of mBART's
fine-tuning; its 50-language checkpoints were tuned with `</s>` before the code as well, which the equations have no
place for and the first steps of training unlearn. What mBART reads as a text begins with the code of its language.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from shards.errors import InputError
from shards.storage.hub import directory_of
from shards.text.pretrained_tokenizer import PretrainedTokenizer
from shards.text.sentencepiece_tokenizer import MARKER, SentencePieceTokenizer
from shards.text.start_tokens import StartTokens


class Tokenizer(Protocol):
    """Interface of a tokenizer for collation and evaluation."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def pad_id(self) -> int: ...

    @property
    def eos_id(self) -> int: ...

    @property
    def marks_texts(self) -> bool:
        """Return True if what the encoder reads begins with its language's start token."""
        ...

    @property
    def related_ids(self) -> Mapping[int, Sequence[int]]:
        """Return tokens that no pretrained checkpoint has trained, and those whose rows' mean they start from.

        None that the tokenizer's directory holds itself: the checkpoint that was saved with it has their rows.
        """
        ...

    def encode(self, text: str, max_length: int, language: str | None = None) -> list[int]:
        """Return token ids, truncated so that with the end token they are at most `max_length` (2 or more).

        language: of a text that the encoder reads. mBART-50's ids then begin with its code; other kinds ignore it.
        No text can write a control token (end, padding, start tokens): ids that would be one are left out.
        """
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text up to the first end token, without special tokens."""
        ...

    def start_id(self, language: str) -> int:
        """Return the decoder's start token for a target language."""
        ...

    @property
    def langid_map(self) -> Mapping[str, tuple[int, str]] | None:
        """Return mT5's start tokens in the form that CrossSum's config.json has them; None for other kinds."""
        ...

    def save(self, directory: Path) -> None:
        """Write what `open_tokenizer` reads back to the same ids, new language tokens included, into `directory`."""
        ...


def open_tokenizer(directory: Path | str, start_tokens: StartTokens = "published") -> Tokenizer:
    """Return the tokenizer in `directory` (or a hub id): a model this project trained, else a Hugging Face one.

    start_tokens: which of mT5's sentinels are whose; of no other kind.
    """
    path = directory_of(str(directory), f"no tokenizer in {directory}")
    if (path / MARKER).is_file():
        return SentencePieceTokenizer(path)
    if not (path / "tokenizer_config.json").is_file():
        raise InputError(f"no tokenizer in {path}: it holds neither {MARKER} nor tokenizer_config.json")
    return PretrainedTokenizer(path, start_tokens)
