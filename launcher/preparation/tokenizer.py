"""Train the tokenizer of a corpus on a sample of its training shards, bounded in every language."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from launcher.preparation.directory import tokenizer_note
from shards.errors import InputError
from shards.files.read import read_json
from shards.files.write import write_atomically
from shards.format.part_index import parse_texts, read_part
from shards.text.sentencepiece_tokenizer import train_sentencepiece

#: Bytes of JSON a language to train on; of more, every second article is taken, or every third, and so on.
#: SentencePiece holds its texts in memory, some 25 bytes a character: 44 languages at the limit cost half a gigabyte.
LANGUAGE_BYTES = 500_000

#: SentencePiece leaves out lines of more than 4,192 bytes.
_LINE_CHARACTERS = 1000


def train_tokenizer(work: Path, languages: Sequence[str], *, vocab_size: int, character_coverage: float) -> None:
    """Train `work`/tokenizer, unless that was done with the same settings. `InputError` when there is nothing to learn.

    The memory does not grow with the corpus.
    """
    wanted = {"vocab_size": vocab_size, "character_coverage": character_coverage}
    note = tokenizer_note(work)
    if _noted(note) == wanted:
        return
    if not any(work.glob("train-*.index.npz")):
        raise InputError("no story is in the training split, so there is nothing to train a tokenizer on: add data")
    note.unlink(missing_ok=True)  # until it is written again, what lies there is no tokenizer to trust
    train_sentencepiece(
        work / "tokenizer",
        training_texts(work, len(languages)),
        languages=languages,
        vocab_size=vocab_size,
        character_coverage=character_coverage,
    )
    write_atomically(note, json.dumps(wanted).encode())


def _noted(note: Path) -> Any:
    """Return the settings that the tokenizer was trained with; None where there is no such note, or none to be read."""
    try:
        return read_json(note)
    except (OSError, ValueError):
        return None


def training_texts(work: Path, languages: int, limit: int = LANGUAGE_BYTES) -> Iterator[str]:
    """Yield documents and summaries of the training shards, in lines of at most 1,000 characters.

    Of each language at most `limit` bytes, evenly from all of it: the same articles whatever the division into parts.
    Variants are left out, so that a corpus has the same tokenizer with and without.
    """
    parts = sorted(work.glob("train-*.index.npz"))
    sizes = np.zeros(languages, np.int64)
    for part in parts:
        articles = _articles(part)
        np.add.at(sizes, articles["language"], articles["json_length"].astype(np.int64))
    strides = -(-sizes // limit)
    seen = np.zeros(languages, np.int64)
    for part in parts:
        articles = _articles(part)
        handle = os.open(part.with_name(part.name.removesuffix(".index.npz") + ".tar"), os.O_RDONLY)
        try:
            for language, offset, length in articles[["language", "json_offset", "json_length"]].tolist():
                seen[language] += 1
                if (seen[language] - 1) % strides[language] == 0:
                    pieces, problem = parse_texts(os.pread(handle, length, offset))
                    if pieces is None:
                        raise InputError(f"{part}: the article at byte {offset} of its tar {problem}: prepare it again")
                    for text in pieces[1:]:
                        yield from _lines(text.decode())
        finally:
            os.close(handle)


def _articles(part: Path) -> NDArray[np.void]:
    saved = read_part(part)
    articles: NDArray[np.void] = saved["articles"]
    return np.delete(articles, saved["variants"]["row"]) if "variants" in saved else articles


def _lines(text: str) -> Iterator[str]:
    """Yield the lines of a text, long ones cut at a space where there is one."""
    for line in text.split("\n"):
        while len(line) > _LINE_CHARACTERS:
            cut = line.rfind(" ", 0, _LINE_CHARACTERS) + 1 or _LINE_CHARACTERS
            yield line[:cut].rstrip()
            line = line[cut:]
        if line:
            yield line
