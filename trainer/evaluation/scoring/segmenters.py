"""Segment languages that are written without blanks between words. A segmenter is loaded with the first text."""

import functools
import logging
import tempfile
from collections.abc import Callable

from shards.errors import InputError

Segmenter = Callable[[str], list[str]]

_ASAT, _DOT_BELOW, _STACKED = "\u103a", "\u1037", "\u1039"
#: Burmese signs that belong to the character before them.
_DEPENDENT = frozenset(map(chr, (*range(0x102B, 0x1033), *range(0x1036, 0x1039), *range(0x103A, 0x103F))))


class NoSegmenterError(InputError):
    """Say that a language's segmenter is not installed. language: a name; why: a line that says how to get it."""

    def __init__(self, language: str, why: str) -> None:
        super().__init__(f"{language}: {why}")
        self.language, self.why = language, why


def segmenter(language: str) -> Segmenter | None:
    """Return the function that cuts a text of `language` into words, blanks included; None where blanks divide words.

    Raises: NoSegmenterError where its package or dictionary is missing or cannot be loaded.
    """
    loader = _LOADERS.get(language)
    if loader is None:
        return None
    found = _loaded(language)
    if isinstance(found, str):
        raise NoSegmenterError(language, found)
    return found


@functools.cache
def _loaded(language: str) -> Segmenter | str:
    """Return the segmenter, or the reason why there is none; neither is tried twice."""
    load, packages = _LOADERS[language]
    try:
        return load()
    # MeCab raises RuntimeError for an incomplete dictionary.
    except (ImportError, OSError, RuntimeError) as error:
        return f"its segmenter cannot be loaded ({' '.join(str(error).split())[:200]}): pip install {packages}"


def _chinese() -> Segmenter:
    import jieba

    jieba.setLogLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as private:
        # By default it caches its dictionary in the shared temporary directory, and trusts a file that lies there.
        jieba.dt.tmp_dir = private
        jieba.dt.initialize()
    return lambda text: list(jieba.dt.cut(text))


def _thai() -> Segmenter:
    from pythainlp.tokenize import word_tokenize

    return lambda text: list(word_tokenize(text, engine="newmm"))


def _japanese() -> Segmenter:
    import unidic_lite
    from fugashi import Tagger

    tagger = Tagger(f'-O wakati -b 50000 -r "{unidic_lite.DICDIR}/mecabrc" -d "{unidic_lite.DICDIR}"')
    return lambda text: str(tagger.parse(text)).split()


def _burmese() -> Segmenter:
    return burmese_syllables


def burmese_syllables(text: str) -> list[str]:
    """Return a Burmese text's syllables as xl-sum cuts them; blanks are dropped, other scripts fall into letters.

    After Ding et al. 2019, https://dl.acm.org/doi/10.1145/3325885.
    """
    text = "".join(text.replace(_DOT_BELOW + _ASAT, _ASAT + _DOT_BELOW).split())
    units: list[str] = []
    for character in text:
        if units and character in _DEPENDENT:
            units[-1] += character
        else:
            units.append(character)
    # A unit that asat closes joins the one before; a longer one has the vowel of ော်. Behind another such unit it
    # finds an empty place, and stays alone.
    for place in range(1, len(units)):
        if _ASAT in units[place] and len(units[place]) < 4:
            units[place - 1] += units[place]
            units[place] = ""
    spaced = " ".join(unit for unit in units if unit)
    return spaced.replace(f" {_STACKED} ", _STACKED).split()


_LOADERS: dict[str, tuple[Callable[[], Segmenter], str]] = {
    "burmese": (_burmese, "d2tv"),
    "chinese_simplified": (_chinese, "jieba"),
    "chinese_traditional": (_chinese, "jieba"),
    "japanese": (_japanese, "fugashi unidic-lite"),
    "thai": (_thai, "pythainlp"),
}
