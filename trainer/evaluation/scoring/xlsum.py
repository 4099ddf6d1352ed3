"""The tokens that xl-sum's `multilingual_rouge_scoring` makes of a text, which CrossSum and D2TV score with.

In lower case; Unicode category C dropped; punctuation (category P and every ASCII sign) divides words and is dropped.
Then by the language's segmenter, whose blanks are tokens, or, where it has none, as OpenNMT's tokenizer cuts in its
mode "aggressive": letters from digits, every symbol alone; a CJK ideograph is a token of its own. Words of more than
three characters are stemmed (`stemmers.py`).

Two things differ from what xl-sum's code does when it is run: stop words are stemmed as well, and NLTK's Arabic stemmer
forgets the words before. Characters have the categories of the running Python's Unicode, as in xl-sum's code.
"""

import unicodedata
from collections.abc import Callable

import regex

from trainer.evaluation.scoring.segmenters import segmenter
from trainer.evaluation.scoring.stemmers import UNSTEMMED, stemmer

#: A character with its marks is one with them. Marks that a blank stands before are that blank's, which OpenNMT's
#: tokenizer then writes by its number.
_PIECE = regex.compile(r"\p{L}[\p{L}\p{M}]*|\p{N}[\p{N}\p{M}]*| \p{M}+|\S\p{M}*")
_MARKED_BLANK = "％0020"
#: Without any of these a text is letters with their marks and blanks, whose words stay whole.
_CUT = regex.compile(r"[^\p{L}\p{M}\s]|(?<!\S)\p{M}")
#: What OpenNMT's tokenizer keeps for itself, and writes instead.
_RESERVED = str.maketrans("\u2581\uffe8\uffed", "_│■")
#: BERT's blocks of ideographs.
_IDEOGRAPH = regex.compile(
    "([\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002a6df\U0002a700-\U0002ceaf\U0002f800-\U0002fa1f])"
)


class _Sanitized(dict[int, str | None]):
    """What each character becomes, by code point: nothing, a blank or itself."""

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

    Raises: NoSegmenterError where the language's segmenter is not there.
    """
    cleaned = _clean(text)
    if not cleaned:
        return []
    cut = segmenter(language)
    found = cut(cleaned) if cut is not None else []
    return _stemmed(found or pieces(cleaned), language if stem else None)


def lines(text: str, language: str) -> list[list[str]]:
    """Return the tokens of each line that has any, as xl-sum's ROUGE-Lsum takes them: cut at blanks and punctuation
    alone, in every language."""
    found = (_stemmed(_clean(line).split(), language) for line in text.split("\n"))
    return [of_line for of_line in found if of_line]


def pieces(cleaned: str) -> list[str]:
    """Cut what has no punctuation as OpenNMT's tokenizer does, and ideographs from one another."""
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
