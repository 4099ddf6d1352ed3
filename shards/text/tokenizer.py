"""Text <-> token ids, with one start token a target language.

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

import io
import json
import re
import shutil
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import sentencepiece

from shards.errors import InputError, reason
from shards.files.read import read_regular
from shards.files.write import left_overs, write_atomically
from shards.storage.hub import code_in, directory_of
from shards.text.language_codes import MBART50_CODES
from shards.text.start_tokens import StartTokens, langid_map, sentinel_starts, sentinels_of

PAD_ID, EOS_ID, UNK_ID = 0, 1, 2
_MODEL, _MARKER = "spiece.model", "d2tv_tokenizer.json"
#: Names of the files that `train_sentencepiece` writes.
SENTENCEPIECE_FILES = re.compile("|".join(map(re.escape, (_MODEL, _MARKER))))


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
        """Tokens that no pretrained checkpoint has trained, and those whose rows' mean they start from.

        None that the tokenizer's directory holds itself: the checkpoint that was saved with it has their rows.
        """
        ...

    def encode(self, text: str, max_length: int, language: str | None = None) -> list[int]:
        """Token ids, truncated so that with the end token they are at most `max_length` (2 or more).

        language: of a text that the encoder reads. mBART-50's ids then begin with its code; other kinds ignore it.
        No text can write a control token (end, padding, start tokens): ids that would be one are left out.
        """
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text up to the first end token, without special tokens."""
        ...

    def start_id(self, language: str) -> int:
        """The decoder's start token for a target language."""
        ...

    @property
    def langid_map(self) -> Mapping[str, tuple[int, str]] | None:
        """Return mT5's start tokens in the form that CrossSum's config.json has them; None for other kinds."""
        ...

    def save(self, directory: Path) -> None:
        """Write what `open_tokenizer` reads back to the same ids, new language tokens included, into `directory`."""
        ...


class SentencePieceTokenizer:
    """A SentencePiece model with `<to:LANGUAGE>` control tokens, as `train_sentencepiece` makes."""

    pad_id, eos_id = PAD_ID, EOS_ID
    marks_texts = False
    related_ids: Mapping[int, Sequence[int]] = MappingProxyType({})
    langid_map: Mapping[str, tuple[int, str]] | None = None

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        path = directory / _MODEL
        try:
            # Parsed from memory: the library would wait for a FIFO, and says less of what it cannot parse.
            data = read_regular(path)
            self._model = sentencepiece.SentencePieceProcessor(model_proto=data or b"\0")  # it takes b"" for no model
        except (OSError, RuntimeError) as error:
            raise InputError(f"{path} is no SentencePiece model ({reason(error)}): copy the tokenizer anew") from error

    @property
    def vocab_size(self) -> int:
        return int(self._model.get_piece_size())

    def encode(self, text: str, max_length: int, language: str | None = None) -> list[int]:
        ids: list[int] = self._model.encode(text)
        return [*ids[: max_length - 1], EOS_ID]

    def decode(self, ids: Sequence[int]) -> str:
        kept = list(ids)
        if EOS_ID in kept:
            kept = kept[: kept.index(EOS_ID)]
        return str(self._model.decode([i for i in kept if not self._model.is_control(i)]))

    def start_id(self, language: str) -> int:
        return int(self._model.piece_to_id(_start_piece(language)))

    def save(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        for name in (_MODEL, _MARKER):
            shutil.copyfile(self._directory / name, directory / name)


class PretrainedTokenizer:
    """A Hugging Face tokenizer, mT5's or mBART-50's, from a directory."""

    def __init__(self, directory: Path, start_tokens: StartTokens) -> None:
        from transformers import AutoTokenizer  # seconds of import that the other kind does not pay

        try:
            # Never the code beside it, and no question whether to run it.
            self._model = AutoTokenizer.from_pretrained(str(directory), trust_remote_code=False)
        except Exception as error:  # its tokenizers, which are not Python, raise no narrower one
            why = code_in(directory) or reason(error, 1000)
            raise InputError(
                f"cannot read the tokenizer in {directory} ({why}): copy it anew, or name another directory"
            ) from error
        vocabulary = self._model.get_vocab()  # a new dictionary of all words at every call
        _spell_in_bytes(self._model, vocabulary)
        self.marks_texts = "en_XX" in vocabulary
        self.related_ids: Mapping[int, Sequence[int]] = {}
        if self.marks_texts:
            self._start, self.related_ids = _language_codes(self._model, directory)
        else:
            self._start = sentinel_starts(vocabulary, directory, start_tokens)
        # Unknown words are no control tokens, though transformers counts their id among the special ones.
        sentinels = {vocabulary[token] for token in sentinels_of(vocabulary).values()}
        self._control = {*self._model.all_special_ids, *self._start.values(), *sentinels} - {self._model.unk_token_id}

    @property
    def vocab_size(self) -> int:
        return len(self._model)

    @property
    def pad_id(self) -> int:
        return int(self._model.pad_token_id)

    @property
    def eos_id(self) -> int:
        return int(self._model.eos_token_id)

    def encode(self, text: str, max_length: int, language: str | None = None) -> list[int]:
        # Composed first, as the tokenizer would have it: of a decomposed letter with two marks its library drops one.
        composed = unicodedata.normalize("NFC", text)
        # transformers reads "</s>" or "en_XX" in a text as the token of that name.
        ids = [i for i in self._model.encode(composed, add_special_tokens=False) if i not in self._control]
        prefix = [self._start[language]] if language is not None and self.marks_texts else []
        return [*prefix, *ids[: max_length - 1 - len(prefix)], self.eos_id]

    def decode(self, ids: Sequence[int]) -> str:
        kept = list(ids)
        if self.eos_id in kept:
            kept = kept[: kept.index(self.eos_id)]
        # Published mT5 tokenizers do not call their sentinels special.
        return str(self._model.decode([i for i in kept if i not in self._control], skip_special_tokens=True))

    def start_id(self, language: str) -> int:
        return int(self._start[language])

    @property
    def langid_map(self) -> Mapping[str, tuple[int, str]] | None:
        return None if self.marks_texts else langid_map(self._start, self._model.get_vocab())

    def save(self, directory: Path) -> None:
        self._model.save_pretrained(str(directory))


def _spell_in_bytes(model: Any, vocabulary: Mapping[str, int]) -> None:
    """Let `model` spell unknown characters in bytes where it has pieces for them, as mT5's SentencePiece model does.

    transformers reads the pieces and forgets what they are for: such characters would be unknown, and lost.
    """
    if not {f"<0x{byte:02X}>" for byte in range(256)} <= vocabulary.keys():
        return
    whole = json.loads(model.backend_tokenizer.to_str())
    if whole["model"].get("type") != "Unigram" or whole["model"].get("byte_fallback"):
        return
    whole["model"]["byte_fallback"] = True
    whole["decoder"] = {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, whole["decoder"]]}
    model._tokenizer = type(model.backend_tokenizer).from_str(json.dumps(whole))


def _language_codes(model: Any, directory: Path) -> tuple[dict[str, int], dict[int, tuple[int, ...]]]:
    """language -> the id of its mBART-50 code, and the new ids -> the ids of their related codes.

    Adds the new codes to `model`. Those that it was saved with are not new.
    """
    stored = set(model.get_vocab())
    own = [code for code, related in MBART50_CODES.values() if not related]
    wanted = {*own, *(code for _, related in MBART50_CODES.values() for code in related)}
    missing = sorted(wanted - stored)
    if missing:
        raise InputError(
            f"the tokenizer in {directory} lacks {len(missing)} of mBART-50's language codes, {missing[0]} first: use "
            "mBART-50's, not that of the mBART of 25 languages"
        )
    new = [code for code, related in MBART50_CODES.values() if related]
    model.add_special_tokens({"extra_special_tokens": new}, replace_extra_special_tokens=False)
    number = {code: int(model.convert_tokens_to_ids(code)) for code in (*wanted, *new)}
    start = {language: number[code] for language, (code, _) in MBART50_CODES.items()}
    related_ids = {
        number[code]: tuple(number[name] for name in related)
        for code, related in MBART50_CODES.values()
        if related and code not in stored
    }
    return start, related_ids


def open_tokenizer(directory: Path | str, start_tokens: StartTokens = "published") -> Tokenizer:
    """The tokenizer in `directory` (or a hub id): a model this project trained, else a Hugging Face one.

    start_tokens: which of mT5's sentinels are whose; of no other kind.
    """
    path = directory_of(str(directory), f"no tokenizer in {directory}")
    if (path / _MARKER).is_file():
        return SentencePieceTokenizer(path)
    if not (path / "tokenizer_config.json").is_file():
        raise InputError(f"no tokenizer in {path}: it holds neither {_MARKER} nor tokenizer_config.json")
    return PretrainedTokenizer(path, start_tokens)


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

    Raises: InputError where SentencePiece cannot, and what reading `texts` raises.
    """
    directory.mkdir(parents=True, exist_ok=True)
    # Through memory: given a file name, SentencePiece would store that path in the model and change its hash.
    model = io.BytesIO()
    raised: list[BaseException] = []

    def lines() -> Iterator[str]:
        try:
            yield from texts
        except BaseException as error:  # SentencePiece would make a RuntimeError of it, also of Ctrl-C
            raised.append(error)
            raise

    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=lines(),
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
        if raised:
            raise raised[0] from None
        raise InputError(f"SentencePiece could not train {vocab_size} pieces: {str(error).splitlines()[-1]}") from error
    for left_over in left_overs(directory, SENTENCEPIECE_FILES):  # of a call that was killed
        left_over.unlink()
    write_atomically(directory / _MODEL, model.getvalue())
    marker = {"kind": "sentencepiece", "languages": list(languages)}
    write_atomically(directory / _MARKER, (json.dumps(marker, indent=1) + "\n").encode())
    return SentencePieceTokenizer(directory)


def _start_piece(language: str) -> str:
    return f"<to:{language}>"
