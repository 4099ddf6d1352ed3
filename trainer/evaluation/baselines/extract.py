"""Extract summaries from a document without a model: its first words (LEAD), and the oracle.

The oracle is the greedy one of extractive summarization (Nallapati et al. 2017; Liu and Lapata 2019): it adds the unit
of the document that raises ROUGE-1 + ROUGE-2 F1 against the reference most, until none does. Units are sentences, or
words where a document is one sentence, as keywords and titles are.
"""

import statistics
from collections.abc import Sequence

from trainer.evaluation.scoring.pieces import sentences, words
from trainer.evaluation.scoring.tokenizers import Tokenizer, segment
from trainer.recipe.profiles import DEFAULT, Profile


def median_words(language: str, texts: Sequence[str]) -> int:
    """Return the median number of words (the segmenter's) of texts in a language, rounded up, at least 1."""
    counts = [len(segment(text, language)) for text in texts]
    return max(1, int(statistics.median(counts) + 0.5)) if counts else 1


def lead(document: str, language: str, count: int) -> str:
    """Return the beginning of a document with its first `count` words, as they are written there."""
    taken: list[str] = []
    for piece, is_word in words(document, language):
        taken.append(piece)
        count -= is_word
        if not count:
            break
    return "".join(taken).strip()


class _Tokenized:
    """A tokenizer object for `rouge_score` that takes tokens: they are cut once, and not for each candidate."""

    def tokenize(self, tokens: list[str]) -> list[str]:
        return tokens


def oracle(document: str, reference: str, source: str, target: str, profile: Profile = DEFAULT) -> str:
    """Return the units of a document in `source` that come nearest to a reference in `target`, in their order.

    Sentences stand on lines of their own, words between blanks. Empty where no unit shares a word with the reference,
    as is usual across languages.
    """
    from rouge_score.rouge_scorer import RougeScorer  # NLTK and SciPy come with it

    tokenize, scorer = Tokenizer(target, profile).tokenize, RougeScorer(["rouge1", "rouge2"], tokenizer=_Tokenized())
    wanted = tokenize(reference)
    units, between = _units(document, source)
    tokenized = [(unit, tokenize(unit)) for unit in units]
    useful = [(unit, tokens) for unit, tokens in tokenized if not set(wanted).isdisjoint(tokens)]
    chosen: list[int] = []
    best = 0.0
    while True:
        options = []
        for place in range(len(useful)):
            if place not in chosen:
                together = sorted([*chosen, place])
                scores = scorer.score(wanted, [token for number in together for token in useful[number][1]])
                options.append((scores["rouge1"].fmeasure + scores["rouge2"].fmeasure, -place, together))
        score, _, together = max(options, default=(0.0, 0, chosen))
        if score <= best:
            return between.join(useful[place][0] for place in chosen)
        best, chosen = score, together


def _units(document: str, language: str) -> tuple[list[str], str]:
    """Return the units of a document, and the separator to join them by."""
    found = [body.strip() for body, _ in sentences(document)]
    if len(found) > 1:
        return found, "\n"
    return [piece for piece, is_word in words(document, language) if is_word], " "
