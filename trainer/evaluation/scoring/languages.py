"""How a text of each language is counted, by profile; and the words of a text as a person tells them apart."""

from collections.abc import Callable

import regex

from trainer.evaluation.scoring import xlsum
from trainer.evaluation.scoring.normal import normalize
from trainer.evaluation.scoring.rouge import Counted
from trainer.evaluation.scoring.segmenters import segmenter
from trainer.evaluation.scoring.text import runs, sentences, words, words_of_run
from trainer.recipe.profiles import DEFAULT, Profile

#: A Burmese syllable: a character with its dependent signs (unit), and the unit with asat (U+103A) that closes it and
#: has one dependent sign more at most: a longer one is the vowel of ော်. Another closing unit stands alone (`bus`:
#: ဘတ် စ်). U+1039 stacks the next unit below.
_SIGNS = r"[\u102B-\u1032\u1036-\u1038\u103A-\u103E]"
_CLOSING = rf"[\p{{Myanmar}}--[\u102B-\u1032\u1036-\u1039\u103A-\u103E]](?:\u103A{_SIGNS}?|{_SIGNS}\u103A)(?!{_SIGNS})"
_PART = rf"(?:{_CLOSING}|\p{{Myanmar}}{_SIGNS}*(?:{_CLOSING})?)"
_BURMESE = regex.compile(r"\p{Myanmar}")
_SYLLABLE = regex.compile(rf"{_PART}(?:\u1039{_PART})*|(?:(?!\p{{Myanmar}})\S)+", regex.VERSION1)


def counted(text: str, language: str, profile: Profile) -> Counted:
    """Return the tokens of a text, counted. `language` is a name of shards/languages.py.

    Raises: NoSegmenterError where the language's segmenter is not there.
    """
    tokenizer = Tokenizer(language, profile)
    return Counted(tokenizer.tokenize(text), tokenizer.sentences(text))


class Tokenizer:
    """The tokens of a language; also a tokenizer for `rouge-score`, of all measures but ROUGE-Lsum."""

    def __init__(self, language: str, profile: Profile = DEFAULT, *, stem: bool = True) -> None:
        self._language, self._stem = language, stem
        self._form: Callable[[str], str] = normalize if profile == "normalized" else str
        self._is_normalized = profile == "normalized"

    def tokenize(self, text: str) -> list[str]:
        return xlsum.tokens(self._form(text), self._language, stem=self._stem)

    def sentences(self, text: str) -> list[list[str]]:
        """Return the tokens of what ROUGE-Lsum takes for sentences: xl-sum's lines, which no segmenter cuts; in
        profile `normalized`, which has no lines, sentences by their signs, and the tokens of the other measures."""
        if not self._is_normalized:
            return xlsum.lines(text, self._language)
        parts = (xlsum.tokens(part, self._language, stem=self._stem) for part in sentences(self._form(text)))
        return [tokens for tokens in parts if tokens]


def segment(text: str, language: str) -> list[str]:
    """Return the words of a text in order, in lower case: no blanks, and nothing cut that a person reads as one word.

    Raises: NoSegmenterError where the language's segmenter is not there.
    """
    if language == "burmese":
        return burmese_syllables(text)
    cut = segmenter(language)
    if cut is None:
        return words(text, language)
    return [token for token in cut(" ".join(runs(text, language))) if not token.isspace()]


def burmese_syllables(text: str, language: str = "burmese") -> list[str]:
    """Return the syllables of a Burmese text; whatever else stands in it by words."""
    return [
        token
        for run in runs(text, language)
        for part in _SYLLABLE.findall(run)
        for token in ([part] if _BURMESE.match(part) else words_of_run(part))
    ]
