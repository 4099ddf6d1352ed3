"""Score translations by BLEU and chrF as sacrebleu computes them (Post 2018; Popović 2015). Imports it when it scores.

chrF compares characters, so it needs no tokenizer and serves every language. BLEU wants words: those of sacrebleu's
`intl`, by Unicode's punctuation and blanks, and in a language that is written without blanks those of `zh` (Chinese),
or characters. All of them work offline; `flores200` and `ja-mecab` would want a download or a further package. Names
are short, so BLEU is of the orders of n-grams that the texts have (`eff:yes`).
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from shards.directions import direction_kind
from trainer.evaluation.scoring.measures import Pair

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

BLEU_NAME, CHRF_NAME = "bleu", "chrf"
#: Tokenizers of languages that are written without blanks.
TOKENIZERS: Mapping[str, str] = {
    "chinese_simplified": "zh",
    "chinese_traditional": "zh",
    "japanese": "char",
    "thai": "char",
    "burmese": "char",
}
_EVERY = 1000


def sentence_scores(pairs: Sequence[Pair], after_each: Callable[[], None]) -> dict[str, list[float | None]]:
    """Return both measures of each pair, between 0 and 100; None where the reference is empty.

    after_each: called now and then, for a watchdog.
    """
    columns: dict[str, list[float | None]] = {BLEU_NAME: [], CHRF_NAME: []}
    for number, pair in enumerate(pairs):
        for name, metric in _metrics(pair.target).items():
            told = bool(pair.reference.strip())
            score = metric.sentence_score(pair.prediction, [pair.reference]).score if told else None
            columns[name].append(score)
        if number % _EVERY == 0:
            after_each()
    return columns


def corpus_scores(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Return what is published: the scores of all translations into a language together, by kind of direction.

    kind -> `by_target`, language -> bleu, chrf, examples; and the means of bleu and chrf over the languages.
    signatures: of sacrebleu, chrF's and BLEU's by tokenizer.
    """
    groups: dict[str, dict[str, list[Pair]]] = defaultdict(lambda: defaultdict(list))
    for pair in pairs:
        if pair.reference.strip():
            groups[direction_kind(pair.source, pair.target)][pair.target].append(pair)
    report: dict[str, Any] = {}
    signatures: dict[str, str] = {}
    for kind, of_kind in sorted(groups.items()):
        by_target: dict[str, dict[str, float]] = {}
        for target, of_target in sorted(of_kind.items()):
            texts = [pair.prediction for pair in of_target], [[pair.reference for pair in of_target]]
            metrics = _metrics(target)
            scores = {name: float(metric.corpus_score(*texts).score) for name, metric in metrics.items()}
            by_target[target] = {**scores, "examples": len(of_target)}
            signatures[CHRF_NAME] = str(metrics[CHRF_NAME].get_signature())
            signatures[f"{BLEU_NAME} {_tokenizer(target)}"] = str(metrics[BLEU_NAME].get_signature())
        means = {name: sum(of[name] for of in by_target.values()) / len(by_target) for name in (BLEU_NAME, CHRF_NAME)}
        report[kind] = {**means, "by_target": by_target}
    return {**report, "signatures": dict(sorted(signatures.items()))}


def _tokenizer(language: str) -> str:
    return TOKENIZERS.get(language, "intl")


def _metrics(language: str) -> "dict[str, BLEU | CHRF]":
    return _of_tokenizer(_tokenizer(language))


@cache
def _of_tokenizer(tokenizer: str) -> "dict[str, BLEU | CHRF]":
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    return {BLEU_NAME: BLEU(tokenize=tokenizer, effective_order=True), CHRF_NAME: CHRF()}
