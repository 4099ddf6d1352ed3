"""Tokenize texts for ROUGE by language and profile, and cut them into the words that a reader sees."""

import functools
import unicodedata

import regex

from trainer.evaluation.scoring import xlsum
from trainer.evaluation.scoring.segmenters import segmenter
from trainer.evaluation.scoring.text import runs, sentences, words, words_of_run
from trainer.recipe.profiles import DEFAULT, Profile

#: Texts whose tokens a tokenizer remembers: a document is followed by its summaries in all languages.
_REMEMBERED = 16

#: SentencePiece's `nmt_nfkc` replaces these by a blank: white space, joiners, marks of direction, U+2581, U+FFFD.
_BLANK = regex.compile(r"[\s\u061C\u200B-\u200F\u2581\uFEFF\uFFFD]+")
#: It drops these.
_DROPPED = regex.compile(r"[\x00-\x08\x0B\x0E-\x1F\x7F\x8F\x9F]")
#: NFKC decomposes Sara Am, and a tone mark may come between the parts. Dictionaries have it composed.
_SARA_AM = (
    (regex.compile(r"\u0E4D([\u0E48-\u0E4B]?)\u0E32|([\u0E48-\u0E4B])\u0E4D\u0E32"), "\u0e33"),
    (regex.compile(r"\u0ECD([\u0EC8-\u0ECB]?)\u0EB2|([\u0EC8-\u0ECB])\u0ECD\u0EB2"), "\u0eb3"),
)

#: A Burmese syllable: a character with its dependent signs (unit), and the unit with asat (U+103A) that closes it and
#: has at most one dependent sign more: a longer one is the vowel of ော်. Another closing unit stands alone (`bus`:
#: ဘတ် စ်). U+1039 stacks the next unit below.
_SIGNS = r"[\u102B-\u1032\u1036-\u1038\u103A-\u103E]"
_CLOSING = rf"[\p{{Myanmar}}--[\u102B-\u1032\u1036-\u1039\u103A-\u103E]](?:\u103A{_SIGNS}?|{_SIGNS}\u103A)(?!{_SIGNS})"
_PART = rf"(?:{_CLOSING}|\p{{Myanmar}}{_SIGNS}*(?:{_CLOSING})?)"
_BURMESE = regex.compile(r"\p{Myanmar}")
_SYLLABLE = regex.compile(rf"{_PART}(?:\u1039{_PART})*|(?:(?!\p{{Myanmar}})\S)+", regex.VERSION1)


def normalize(text: str) -> str:
    """Return `text` in NFKC with Sara Am composed, blanks and zero-width signs as single blanks, none at its ends.

    Texts that `nmt_nfkc` (mT5's normalization and ours) has changed get the same form as their originals:
    normalize(decode(encode(x))) == normalize(x) for a tokenizer that knows every character or its bytes. Compared by
    code points, a perfect summary would lose Thai's Sara Am, Persian's joiners and full-width letters.
    """
    folded = unicodedata.normalize("NFKC", _BLANK.sub(" ", _DROPPED.sub("", text)))
    for decomposed, composed in _SARA_AM:
        folded = decomposed.sub(rf"\1\2{composed}", folded)
    return " ".join(folded.split())


class Tokenizer:
    """Make the tokens of ROUGE-1, -2 and -L: a tokenizer object for `rouge_score`."""

    def __init__(self, language: str, profile: Profile = DEFAULT, *, stem: bool = True) -> None:
        form = normalize if profile == "normalized" else str

        @functools.lru_cache(maxsize=_REMEMBERED)
        def tokenize(text: str) -> list[str]:
            return xlsum.tokens(form(text), language, stem=stem)

        self.tokenize = tokenize


class LineTokenizer:
    """Make the tokens of ROUGE-Lsum, a line at a time: a tokenizer object for `rouge_score`."""

    def __init__(self, language: str, profile: Profile = DEFAULT) -> None:
        self._language, self._profile = language, profile

    def split(self, text: str) -> str:
        """Return a text with its sentences on lines of their own.

        Profile `xlsum` takes the text's own lines for sentences; `normalized`, which has no lines, cuts at the signs
        that end sentences.
        """
        return text if self._profile == "xlsum" else "\n".join(sentences(normalize(text)))

    def tokenize(self, line: str) -> list[str]:
        """Return a line's tokens: xl-sum segments none, `normalized` takes those of the other measures."""
        if self._profile == "xlsum":
            return xlsum.line_tokens(line, self._language)
        return xlsum.tokens(line, self._language)


def segment(text: str, language: str) -> list[str]:
    """Return the words of a text in order, in lower case, without blanks; no word of a reader's is divided.

    Raises: NoSegmenterError where the language's segmenter is not installed.
    """
    if language == "burmese":
        return burmese_syllables(text)
    cut = segmenter(language)
    if cut is None:
        return words(text, language)
    return [token for token in cut(" ".join(runs(text, language))) if not token.isspace()]


def burmese_syllables(text: str, language: str = "burmese") -> list[str]:
    """Return the syllables of a Burmese text; other scripts in it by words."""
    return [
        token
        for run in runs(text, language)
        for part in _SYLLABLE.findall(run)
        for token in ([part] if _BURMESE.match(part) else words_of_run(part))
    ]
