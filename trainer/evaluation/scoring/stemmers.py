"""Stem words by language with xl-sum's stemmers, loaded with the first word.

NLTK's Snowball without stop words (which NLTK downloads); PyStemmer's Turkish; for Hindi the suffixes of Ramanathan and
Rao (2003). Bengali is not stemmed: xl-sum's stemmer for it is not on PyPI.
"""

import functools
from collections.abc import Callable

Stem = Callable[[str], str]

#: The longest words that are not stemmed, in characters.
UNSTEMMED = 3
_NLTK = frozenset({"arabic", "english", "french", "portuguese", "russian", "spanish"})
#: By length. The longest suffix that fits is removed, where two characters or more are left.
_HINDI = (
    "ाएंगी ाएंगे ाऊंगी ाऊंगा ाइयाँ ाइयों ाइयां",
    "ाएगी ाएगा ाओगी ाओगे एंगी ेंगी एंगे ेंगे ूंगी ूंगा ातीं नाओं नाएं ताओं ताएं ियाँ ियों ियां",
    "ाकर ाइए ाईं ाया ेगी ेगा ोगी ोगे ाने ाना ाते ाती ाता तीं ाओं ाएं ुओं ुएं ुआं",
    "कर ाओ िए ाई ाए ने नी ना ते ीं ती ता ाँ ां ों ें",
    "ो े ू ु ी ि ा",
)
_HINDI_SUFFIXES = tuple((len(row.split()[0]), frozenset(row.split())) for row in _HINDI)


@functools.cache
def stemmer(language: str) -> Stem | None:
    """Return the language's stemmer, which remembers words; None for a language that is not stemmed."""
    stem = _loaded(language)
    return None if stem is None else functools.lru_cache(maxsize=1 << 17)(stem)


def _loaded(language: str) -> Stem | None:
    if language == "arabic":
        return _arabic()
    if language == "hindi":
        return _hindi
    if language == "turkish":
        import Stemmer

        return Stemmer.Stemmer("turkish", 0).stemWord  # type: ignore[no-any-return]
    if language in _NLTK:
        from nltk.stem.snowball import SnowballStemmer

        return SnowballStemmer(language, ignore_stopwords=False).stem  # type: ignore[no-any-return]
    return None


def _arabic() -> Stem:
    """Return NLTK's with its state reset for each word: after one with a verb's suffix it would stem all others
    differently."""
    from nltk.stem.snowball import ArabicStemmer

    stemmer = ArabicStemmer()

    def stem(word: str) -> str:
        stemmer.suffixes_verb_step1_success = False
        return str(stemmer.stem(word))

    return stem


def _hindi(word: str) -> str:
    for length, suffixes in _HINDI_SUFFIXES:
        if len(word) > length + 1 and word[-length:] in suffixes:
            return word[:-length]
    return word
