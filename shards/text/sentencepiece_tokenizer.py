"""Train a SentencePiece tokenizer on a corpus, and read it: `<to:LANGUAGE>` control tokens start summaries."""

import io
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import sentencepiece

from shards.errors import InputError, reason
from shards.files.read import read_regular
from shards.files.write import left_overs, write_atomically

PAD_ID, EOS_ID, UNK_ID = 0, 1, 2
_MODEL, MARKER = "spiece.model", "d2tv_tokenizer.json"
#: Names of the files that `train_sentencepiece` writes.
SENTENCEPIECE_FILES = re.compile("|".join(map(re.escape, (_MODEL, MARKER))))


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
        found = int(self._model.piece_to_id(_start_piece(language)))
        if found == UNK_ID:
            raise InputError(
                f"the tokenizer in {self._directory} was trained without {language}, which the corpus has: set "
                "corpus.tokenizer to one that knows it"
            )
        return found

    def save(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        for name in (_MODEL, MARKER):
            shutil.copyfile(self._directory / name, directory / name)


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
    write_atomically(directory / MARKER, (json.dumps(marker, indent=1) + "\n").encode())
    return SentencePieceTokenizer(directory)


def _start_piece(language: str) -> str:
    return f"<to:{language}>"
