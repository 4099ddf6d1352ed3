"""Cut texts into the words and sentences that a reader sees, for baselines and perturbations (ROUGE's: xlsum.py).

Words are in lower case and NFC; invisible characters are dropped; punctuation (category P and every ASCII sign) divides
words. Without a segmenter a Han character is a word, and so is a symbol with its marks; letters and digits stay
together. Turkish and Azerbaijani lower I to ı and İ to i.
"""

import unicodedata
from itertools import pairwise

import regex

#: Line ends and tabs are of category C as well, but divide words.
_INVISIBLE = regex.compile(r"(?!\s)\p{C}|\p{Variation_Selector}|\uFFFD")
_RUN = regex.compile(r"[^\s\p{P}!-/:-@\[-`{-~]+")
#: A text without any of these has only words and blanks, as most do.
_SPECIAL = regex.compile(r"\p{Han}|\p{Variation_Selector}|[^\p{L}\p{M}\p{N}\s]")
_WORD = regex.compile(r"\p{Han}\p{M}*|(?:(?!\p{Han})[\p{L}\p{M}\p{N}])+|\X")
_TURKIC = str.maketrans({"I": "ı", "İ": "i"})
_TURKIC_LANGUAGES = frozenset({"azerbaijani", "turkish"})

#: Unicode's Sentence_Break: STerm ends a sentence, with the quotes and brackets that close behind it; ATerm (the full
#: stop) does where white space follows and the next letter is no small one; so does the end of a line. The Burmese
#: little section is an STerm there, but it is what a comma is elsewhere.
_SENTENCE_END = regex.compile(
    r"(?:(?!\u104A)\p{SB=ST})+\p{SB=CL}*"
    r"|\p{SB=AT}+\p{SB=CL}*\s+(?![^\p{L}\p{SB=ST}\p{SB=AT}\r\n]*\p{Ll})"
    r"|[\r\n\x85\u2028\u2029]+"
)


def runs(text: str, language: str) -> list[str]:
    """Return the text between blanks and punctuation, in lower case and NFC, without invisible characters."""
    if not _SPECIAL.search(text):
        return _lower(text, language).split()
    found: list[str] = _RUN.findall(_lower(_INVISIBLE.sub("", text), language))
    return found


def words(text: str, language: str) -> list[str]:
    """Return the words of a text in a language that needs no segmenter."""
    if not _SPECIAL.search(text):
        return _lower(text, language).split()
    return [word for run in runs(text, language) for word in words_of_run(run)]


def words_of_run(run: str) -> list[str]:
    """Return the words of one of `runs`."""
    found: list[str] = _WORD.findall(run) if _SPECIAL.search(run) else [run]
    return found


def _lower(text: str, language: str) -> str:
    """Lower a text, in NFC."""
    composed = unicodedata.normalize("NFC", text)
    if language in _TURKIC_LANGUAGES:
        composed = composed.translate(_TURKIC)
    lowered = composed.lower()
    # Lowering may produce combining marks.
    return lowered if lowered == composed else unicodedata.normalize("NFC", lowered)


def sentences(text: str) -> list[str]:
    """Return the sentences of a text that are not blank.

    By script: `.` `!` `?` in Latin, Cyrillic and Hangul; `؟` `۔` `!` and `.` in Arabic script; `।` and `॥` in Indic
    scripts; `።` `፧` `፨` in Ethiopic; `。` `！` `？` in Chinese and Japanese, with or without a space; `။` in Burmese.
    Thai has no sign but those it borrows, and its spaces divide phrases as well: a line without them is one sentence.
    `3.5` and `e.g. a` are not divided, `Mr. Smith` is.
    """
    return [part for part in _SENTENCE_END.split(text) if part.strip()]


def sentence_pieces(text: str) -> list[str]:
    """Return a text cut behind the signs that end its sentences; joined, the pieces are the text."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    pieces = [text[begin:end] for begin, end in pairwise([0, *ends, len(text)])]
    return [piece for piece in pieces if piece]
