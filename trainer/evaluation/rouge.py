"""ROUGE-1/2/L for all 44 languages, through `rouge-score` with a tokenizer of our own.

`rouge-score`'s default keeps [a-z0-9] only, which leaves nothing of most of our languages.
"""

import unicodedata
from collections.abc import Sequence

import regex
from rouge_score.rouge_scorer import RougeScorer

TYPES = ("rouge1", "rouge2", "rougeL")

#: Scripts written without spaces between words: each character with its marks is a token. Kana and Hangul
#: differ: Korean is spaced, Japanese is not.
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_TOKEN = regex.compile(
    rf"[{_UNSPACED}][\p{{M}}\u200c\u200d]*|(?:(?![{_UNSPACED}])[\p{{L}}\p{{N}}\p{{M}}\p{{So}}\U0001f3fb-\U0001f3ff])+"
)
#: Line ends and tabs are of category C too, but they divide words.
_INVISIBLE = regex.compile(r"(?!\s)\p{C}")


class MultilingualTokenizer:
    """Lower case, NFC, no control or format characters, no punctuation; words, or characters where no space
    divides words. Stemmers and word segmenters are not used."""

    def tokenize(self, text: str) -> list[str]:
        normal = _INVISIBLE.sub("", unicodedata.normalize("NFC", text).lower())
        tokens: list[str] = _TOKEN.findall(normal)
        return tokens


class Rouge:
    """F1 of ROUGE-1, ROUGE-2 and ROUGE-L in per cent, the scale of the paper's tables."""

    def __init__(self) -> None:
        self._scorer = RougeScorer(list(TYPES), tokenizer=MultilingualTokenizer())

    def __call__(self, reference: str, prediction: str) -> dict[str, float]:
        scores = self._scorer.score(reference, prediction)
        return {name: 100 * float(scores[name].fmeasure) for name in TYPES}


def mean_scores(scores: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of each measure; empty for no scores."""
    return {name: sum(s[name] for s in scores) / len(scores) for name in TYPES} if scores else {}
