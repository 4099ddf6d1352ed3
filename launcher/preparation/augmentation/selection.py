"""Choose the sentences of a document that are translated (ACROSS, section 3.3 and Table 3)."""

import functools
from collections.abc import Callable, Sequence

from launcher.preparation.augmentation.settings import Augmentation
from shards.draws import seeded
from shards.text.lists import LIST_COMMA
from trainer.evaluation.robustness.draw import in_random_order
from trainer.evaluation.scoring.pieces import sentences
from trainer.evaluation.scoring.tokenizers import Tokenizer

#: (sentence or keyword, what stands between it and the next one): joined, they are the document.
Unit = tuple[str, str]


def cut(document: str, *, lists: bool) -> list[Unit]:
    """Return the sentences of a document (Unicode's, in all scripts); its keywords where documents are `lists`."""
    if not lists:
        return sentences(document)
    units, begin = [], 0
    for comma in LIST_COMMA.finditer(document):
        units.append((document[begin : comma.start()], comma.group()))
        begin = comma.end()
    return [*units, (document[begin:], "")]


def rebuild(units: Sequence[Unit], translations: dict[int, str]) -> str:
    """Return the document with some of its units translated, by place."""
    return "".join(translations.get(place, body) + between for place, (body, between) in enumerate(units))


def choose(settings: Augmentation, units: Sequence[Unit], summary: str, *, story: str, language: str) -> list[int]:
    """Return the places of the units to translate, in ascending order.

    The share is rounded, one unit at least; below 100 percent one at least stays, so a document of one unit has none.
    Of equal ROUGE the earlier unit is the more informative one; the uninformative ones are the last of that order.

    Raises: NoTokensError where ROUGE is asked for and the summary has no token.
    """
    count = len(units)
    wanted = min(max(1, int(settings.share / 100 * count + 0.5)), count if settings.share == 100 else count - 1)
    if not wanted:
        return []
    match settings.choice:
        case "truncation":
            order = list(range(count))
        case "random":
            order = in_random_order(count, seeded(settings.seed, "augment", story, language))
        case _:
            score = rouge_1(language)
            scores = [score(summary, body) for body, _ in units]
            order = sorted(range(count), key=lambda place: (-scores[place], place))
            if settings.choice == "uninformative":
                order.reverse()
    return sorted(order[:wanted])


class NoTokensError(Exception):
    """Say that a summary has no token, so that nothing has a ROUGE against it."""


@functools.cache
def rouge_1(language: str) -> Callable[[str, str], float]:
    """Return the ROUGE-1 F1 of (reference, text) in a language, by the tokens of evaluations.

    Raises: NoSegmenterError where the language's segmenter is not installed.
    """
    from rouge_score.rouge_scorer import RougeScorer  # NLTK and SciPy come with it

    tokenizer = Tokenizer(language)
    tokenizer.tokenize("")  # loads the segmenter
    scorer = RougeScorer(["rouge1"], tokenizer=tokenizer)

    def score(reference: str, text: str) -> float:
        if not tokenizer.tokenize(reference):
            raise NoTokensError
        return float(scorer.score(reference, text)["rouge1"].fmeasure)

    return score
