"""Tokenize as xl-sum's `multilingual_rouge_scoring` does, which CrossSum and D2TV score with.

Texts are lowered; Unicode category C is dropped; punctuation (category P and every ASCII sign) divides words and is
dropped. The language's segmenter cuts, and its blanks are tokens; without one, OpenNMT's mode "aggressive" does:
letters from digits, every symbol alone, and each CJK ideograph is a token. Words of more than three characters are
stemmed (`stemmers.py`). Written again, as xl-sum's package is not on PyPI.

Two things differ from xl-sum's code: stop words are stemmed as well, and NLTK's Arabic stemmer forgets the words
before. Characters have the categories of the running Python's Unicode, as in xl-sum's code.
"""

import unicodedata
from collections.abc import Callable

import regex

from trainer.evaluation.scoring.segmenters import segmenter
from trainer.evaluation.scoring.stemmers import UNSTEMMED, stemmer

#: A character and its marks stay together. Marks behind a blank belong to it, which OpenNMT's tokenizer then writes by
#: its number.
_PIECE = regex.compile(r"\p{L}[\p{L}\p{M}]*|\p{N}[\p{N}\p{M}]*| \p{M}+|\S\p{M}*")
_MARKED_BLANK = "％0020"
#: A text without any of these has only letters with their marks and blanks: its words stay whole.
_CUT = regex.compile(r"[^\p{L}\p{M}\s]|(?<!\S)\p{M}")
#: Characters that OpenNMT's tokenizer reserves, and their replacements.
_RESERVED = str.maketrans("\u2581\uffe8\uffed", "_│■")
#: BERT's blocks of ideographs.
_IDEOGRAPH = regex.compile(
    "([\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002a6df\U0002a700-\U0002ceaf\U0002f800-\U0002fa1f])"
)


class _Sanitized(dict[int, str | None]):
    """Map each code point to nothing, a blank or itself, on demand."""

    def __missing__(self, code: int) -> str | None:
        self[code] = found = _sanitized(chr(code))
        return found


def _sanitized(character: str) -> str | None:
    if character in "\t\n\r":
        return " "
    category = unicodedata.category(character)
    if category.startswith("C") or character == "\ufffd":
        return None
    is_sign = character.isascii() and not character.isalnum()
    return " " if is_sign or category.startswith("P") or category == "Zs" else character


_TABLE = _Sanitized()


def tokens(text: str, language: str, *, stem: bool = True) -> list[str]:
    """Return the tokens of a text; `language` is a name of shards/languages.py.

    Raises: NoSegmenterError where the language's segmenter is not installed.
    """
    cleaned = _clean(text)
    if not cleaned:
        return []
    cut = segmenter(language)
    found = cut(cleaned) if cut is not None else []
    return _stemmed(found or pieces(cleaned), language if stem else None)


def line_tokens(line: str, language: str) -> list[str]:
    """Return the tokens of a line as xl-sum's ROUGE-Lsum has them: cut at blanks and punctuation in every language."""
    return _stemmed(_clean(line).split(), language)


def pieces(cleaned: str) -> list[str]:
    """Cut a text without punctuation as OpenNMT's tokenizer does, and ideographs from one another."""
    if not _CUT.search(cleaned):
        spaced = cleaned
    else:
        found = (_MARKED_BLANK + piece[1:] if piece.startswith(" ") else piece for piece in _PIECE.findall(cleaned))
        spaced = " ".join(found).translate(_RESERVED)
    return str(_IDEOGRAPH.sub(r" \1 ", spaced)).split()


def _clean(text: str) -> str:
    return " ".join(text.lower().translate(_TABLE).split())


def _stemmed(found: list[str], language: str | None) -> list[str]:
    stem: Callable[[str], str] | None = None if language is None else stemmer(language)
    if stem is None:
        return found
    return [stemmed for token in found if (stemmed := stem(token) if len(token) > UNSTEMMED else token)]
