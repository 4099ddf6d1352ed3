"""Translate sentences by a model of the NLLB or M2M100 kind from a local directory. Nothing is downloaded.

Decoding is ACROSS' (appendix, Data Augmentation Settings): beam 4, length penalty 1.0, at least 10 tokens.
"""

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.preparation.augmentation.nllb_codes import NLLB_CODES
from launcher.preparation.augmentation.selection import Unit
from launcher.preparation.augmentation.translator import Reason
from shards.errors import InputError, reason
from shards.files.read import read_json
from shards.languages import LANGUAGE_CODES
from shards.schema import Article, Story
from shards.storage.hub import code_in

_KINDS = ("m2m_100", "nllb-moe")  # what transformers calls them: NLLB's dense models are of M2M100's kind
_BATCH = 16
_LEAST_TOKENS = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelTranslator:
    """Translate by the model in `directory`, which each process loads with its first sentence.

    codes: language -> the model's name of it, for the languages that it knows.
    lists: units are keywords, which need not have ten tokens.
    """

    directory: Path
    codes: dict[str, str]
    lists: bool

    def translate(
        self, story: Story, article: Article, language: str, units: Sequence[Unit], places: Sequence[int]
    ) -> list[str] | Reason:
        """See `Translator`."""
        if language not in self.codes or article.language not in self.codes:
            return "a language that the model does not know"
        translated: list[str] = []
        for begin in range(0, len(places), _BATCH):
            texts = [units[place][0].strip() for place in places[begin : begin + _BATCH]]
            found = self._batch(texts, article.language, language)
            if isinstance(found, str):
                return found
            translated += found
        return translated

    def _batch(self, texts: list[str], source: str, target: str) -> list[str] | Reason:
        import torch

        tokenizer, model = _load(self.directory)
        tokenizer.src_lang = self.codes[source].strip("_")
        inputs = tokenizer(texts, padding=True, return_tensors="pt").to(model.device)
        longest, positions = inputs["input_ids"].shape[1], int(model.config.max_position_embeddings)
        if longest > positions:
            return "a sentence too long for the model"
        with torch.inference_mode():
            ids_BN = model.generate(
                **inputs,
                generation_config=self._generation(model.config, target, min(positions, 2 * longest + 50)),
            )
        if not (ids_BN[:, 1:] == model.config.eos_token_id).any(dim=1).all():
            return "a translation without an end"
        # Behind the start token and the language, which transformers' tokenizer of M2M100 does not call special.
        return [text.strip() for text in tokenizer.batch_decode(ids_BN[:, 2:], skip_special_tokens=True)]

    def _generation(self, config: Any, target: str, longest: int) -> Any:
        """Return the settings of decoding, in place of those that lie beside the model."""
        from transformers import GenerationConfig

        return GenerationConfig(
            num_beams=4,
            length_penalty=1.0,
            min_length=0 if self.lists else _LEAST_TOKENS,
            max_length=longest,
            do_sample=False,
            forced_bos_token_id=_load(self.directory)[0].convert_tokens_to_ids(self.codes[target]),
            decoder_start_token_id=config.decoder_start_token_id,
            bos_token_id=config.bos_token_id,
            eos_token_id=config.eos_token_id,
            pad_token_id=config.pad_token_id,
        )


def check_model(directory: Path) -> None:
    """Raise `InputError` where `directory` holds no model of the kind; its weights are not read."""
    if not (directory / "config.json").is_file():
        raise InputError(
            f"--translator {directory} has no config.json: name the directory of an NLLB or M2M100 model, or 'parallel'"
        )
    try:
        config = read_json(directory / "config.json")
    except (OSError, ValueError) as error:
        raise InputError(f"--translator {directory}: config.json cannot be read ({error}): copy it anew") from error
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind not in _KINDS:
        raise InputError(
            f"--translator {directory} holds a model of the kind {kind!r}: it must be {' or '.join(_KINDS)}"
        )


def open_model(directory: Path, *, lists: bool) -> ModelTranslator:
    """Return the translator of the model in `directory`, which is checked, with the languages of its tokenizer.

    Raises: InputError for a tokenizer of another kind, before the weights are read.
    """
    tokenizer = _tokenizer(directory)
    codes = NLLB_CODES if _knows(tokenizer, NLLB_CODES["english"]) else _m2m_codes()
    known = {language: code for language, code in codes.items() if _knows(tokenizer, code)}
    if not known:
        raise InputError(
            f"--translator {directory}: its tokenizer knows no language as NLLB (eng_Latn) or M2M100 (__en__) do: copy "
            "it anew"
        )
    return ModelTranslator(directory=directory, codes=known, lists=lists)


def fingerprint(directory: Path) -> str:
    """Return a SHA-256 over names and contents of the files in `directory`, hidden ones and folders left out."""
    total = hashlib.sha256()
    for path in sorted(directory.iterdir()):
        if path.is_file() and not path.name.startswith("."):
            with open(path, "rb") as file:
                total.update(f"{path.name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


def _m2m_codes() -> dict[str, str]:
    """Return M2M100's tokens, which are of ISO codes; of the languages with two scripts it has the first alone."""
    return {language: f"__{code}__" for language, code in LANGUAGE_CODES.items()}


def _knows(tokenizer: Any, code: str) -> bool:
    return tokenizer.convert_tokens_to_ids(code) not in (None, tokenizer.unk_token_id)


@functools.cache
def _tokenizer(directory: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(directory), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # its tokenizers, which are not Python, raise no narrower one
        why = code_in(directory) or reason(error, 1000)
        raise InputError(f"--translator {directory}: its tokenizer cannot be loaded ({why}): copy it anew") from error


@functools.cache
def _load(directory: Path) -> tuple[Any, Any]:
    """Return tokenizer and model, in float32 on the first GPU where there is one.

    Raises: InputError for files that are no whole model.
    """
    import torch
    from transformers import AutoModelForSeq2SeqLM
    from transformers.utils import logging

    logging.disable_progress_bar()  # the stage of the shards has one
    device: torch.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        model, report = AutoModelForSeq2SeqLM.from_pretrained(
            str(directory),
            local_files_only=True,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        why = code_in(directory) or reason(error, 1000)
        raise InputError(f"--translator {directory} cannot be loaded ({why}): copy it anew") from error
    if missing := sorted(report["missing_keys"]):
        raise InputError(f"--translator {directory} lacks {len(missing)} tensors, {missing[0]} first: copy it anew")
    return _tokenizer(directory), model.eval().to(device)
