"""Segmenters of languages that are written without blanks between words, loaded when the first text needs them."""

import functools
import logging
import tempfile
from collections.abc import Callable

from shards.errors import InputError
from trainer.evaluation.scoring.burmese import syllables

Segmenter = Callable[[str], list[str]]


class NoSegmenterError(InputError):
    """A language's segmenter is not there. language: a name; why: a line that says how to get it."""

    def __init__(self, language: str, why: str) -> None:
        super().__init__(f"{language}: {why}")
        self.language, self.why = language, why


def segmenter(language: str) -> Segmenter | None:
    """Return what cuts a text of `language` into words, blanks among them; None where blanks divide words.

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
    """The segmenter, or why there is none: nothing is tried twice."""
    load, packages = _LOADERS[language]
    try:
        return load()
    # MeCab says RuntimeError of a dictionary that is not whole.
    except (ImportError, OSError, RuntimeError) as error:
        return f"its segmenter cannot be loaded ({' '.join(str(error).split())[:200]}): pip install {packages}"


def _chinese() -> Segmenter:
    import jieba

    jieba.setLogLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as private:
        # It would keep its dictionary in a file of the shared temporary directory, and believe one that lies there.
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
    return syllables


_LOADERS: dict[str, tuple[Callable[[], Segmenter], str]] = {
    "burmese": (_burmese, "d2tv"),
    "chinese_simplified": (_chinese, "jieba"),
    "chinese_traditional": (_chinese, "jieba"),
    "japanese": (_japanese, "fugashi unidic-lite"),
    "thai": (_thai, "pythainlp"),
}
