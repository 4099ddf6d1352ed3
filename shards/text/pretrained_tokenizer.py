"""Read a pretrained Hugging Face tokenizer, mT5's or mBART-50's, with one start token a target language."""

import json
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shards.errors import InputError, reason
from shards.storage.hub import code_in
from shards.text.language_codes import MBART50_CODES
from shards.text.start_tokens import StartTokens, langid_map, sentinel_starts, sentinels_of


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
    """Return language -> the id of its mBART-50 code, and the new ids -> the ids of their related codes.

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
