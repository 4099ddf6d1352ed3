"""How each language is cut into words: its segmenter and its stemmer, loaded when the first text needs them."""

import functools
import logging
import tempfile
from collections.abc import Callable, Iterable

import regex

from trainer.evaluation.scoring.text import runs, sentences, words, words_of_run

#: From a sentence and its language to its words.
Segmenter = Callable[[str, str], list[str]]

#: A word must be longer to be stemmed.
_UNSTEMMED = 3
#: Snowball's algorithms, of the languages that xl-sum stems.
_STEMMERS = ("arabic", "english", "french", "hindi", "portuguese", "russian", "spanish", "turkish")

#: A Burmese syllable: a character with its dependent signs (unit), and the unit with asat (U+103A) that closes it and
#: has one dependent sign more at most: a longer one is the vowel of ော်. Another closing unit stands alone (`bus`:
#: ဘတ် စ်). U+1039 stacks the next unit below.
_SIGNS = r"[\u102B-\u1032\u1036-\u1038\u103A-\u103E]"
_CLOSING = rf"[\p{{Myanmar}}--[\u102B-\u1032\u1036-\u1039\u103A-\u103E]](?:\u103A{_SIGNS}?|{_SIGNS}\u103A)(?!{_SIGNS})"
_PART = rf"(?:{_CLOSING}|\p{{Myanmar}}{_SIGNS}*(?:{_CLOSING})?)"
_BURMESE = regex.compile(r"\p{Myanmar}")
_SYLLABLE = regex.compile(rf"{_PART}(?:\u1039{_PART})*|(?:(?!\p{{Myanmar}})\S)+", regex.VERSION1)


def tokens_of_sentences(text: str, language: str, *, stem: bool = True) -> list[list[str]]:
    """The words of each sentence of `text` that has any. `language` is a name of shards/languages.py."""
    segment = _segmenter(language)
    stemmed = _stemmer(language) if stem else None
    found = []
    for sentence in sentences(text):
        tokens = segment(sentence, language)
        if stemmed is not None:
            tokens = [stemmed(token) if len(token) > _UNSTEMMED else token for token in tokens]
        if tokens:
            found.append(tokens)
    return found


def segment(text: str, language: str) -> list[str]:
    """The words of a text in order, in lower case and not stemmed."""
    return _segmenter(language)(text, language)


class Tokenizer:
    """The words of a language, for whoever wants a `rouge-score` tokenizer."""

    def __init__(self, language: str, *, stem: bool = True) -> None:
        self._language, self._stem = language, stem

    def tokenize(self, text: str) -> list[str]:
        return [token for tokens in tokens_of_sentences(text, self._language, stem=self._stem) for token in tokens]


@functools.cache
def _segmenter(language: str) -> Segmenter:
    match language:
        case "chinese_simplified" | "chinese_traditional":
            return _chinese()
        case "japanese":
            return _japanese()
        case "thai":
            return _thai()
        case "burmese":
            return burmese_syllables
        case _:
            return words


def _chinese() -> Segmenter:
    import jieba

    jieba.setLogLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as private:
        # It would keep its dictionary in a file of the shared temporary directory, and believe one that lies there.
        jieba.dt.tmp_dir = private
        jieba.dt.initialize()
    return lambda text, language: _without_blanks(jieba.dt.cut(" ".join(runs(text, language))))


def _thai() -> Segmenter:
    from pythainlp.tokenize import word_tokenize

    return lambda text, language: _without_blanks(word_tokenize(" ".join(runs(text, language)), engine="newmm"))


def _japanese() -> Segmenter:
    import unidic_lite
    from fugashi import Tagger

    tagger = Tagger(f'-O wakati -b 50000 -r "{unidic_lite.DICDIR}/mecabrc" -d "{unidic_lite.DICDIR}"')
    return lambda text, language: str(tagger.parse(" ".join(runs(text, language)))).split()


def burmese_syllables(text: str, language: str = "burmese") -> list[str]:
    """The syllables of a Burmese text; whatever else stands in it by words."""
    return [
        token
        for run in runs(text, language)
        for part in _SYLLABLE.findall(run)
        for token in ([part] if _BURMESE.match(part) else words_of_run(part))
    ]


def _without_blanks(tokens: Iterable[str]) -> list[str]:
    return [token for token in tokens if not token.isspace()]


@functools.cache
def _stemmer(language: str) -> Callable[[str], str] | None:
    if language not in _STEMMERS:
        return None
    import Stemmer

    algorithm = Stemmer.Stemmer(language)
    algorithm.maxCacheSize = 0  # ours is the one that counts
    return functools.lru_cache(maxsize=1 << 17)(algorithm.stemWord)
