"""ROUGE F1 of a language's texts by Google's `rouge_score`, given our tokenizers."""

import functools

from trainer.evaluation.scoring.segmenters import NoSegmenterError
from trainer.evaluation.scoring.tokenizers import LineTokenizer, Tokenizer
from trainer.recipe.profiles import DEFAULT, Profile

#: The measures of the paper's tables; ROUGE-Lsum is reported beside them.
TYPES = ("rouge1", "rouge2", "rougeL")
ROUGE = (*TYPES, "rougeLsum")
NAMES = {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L", "rougeLsum": "ROUGE-Lsum"}

#: F1 of each of `ROUGE`, between 0 and 1.
F1 = tuple[float, float, float, float]


class Rouge:
    """Score texts of one language by a profile's tokens."""

    def __init__(self, language: str, profile: Profile = DEFAULT) -> None:
        from rouge_score.rouge_scorer import RougeScorer  # NLTK and SciPy come with it

        self.tokenize = Tokenizer(language, profile).tokenize
        self._lines = LineTokenizer(language, profile)
        self._scorer = RougeScorer(list(TYPES), tokenizer=self)
        self._line_scorer = RougeScorer(["rougeLsum"], tokenizer=self._lines)

    def score(self, reference: str, prediction: str) -> F1 | None:
        """Return F1 of each of `ROUGE`; None where the reference has no token.

        Raises: NoSegmenterError where the language's segmenter is not installed.
        """
        if not self.tokenize(reference):
            return None
        if not self.tokenize(prediction):
            return 0.0, 0.0, 0.0, 0.0
        scores = self._scorer.score(reference, prediction)
        scores |= self._line_scorer.score(self._lines.split(reference), self._lines.split(prediction))
        one, two, longest, by_line = (float(scores[name].fmeasure) for name in ROUGE)
        return one, two, longest, by_line


@functools.cache
def rouge_in(language: str, profile: Profile) -> Rouge:
    """Return the process's scorer of a language and profile."""
    return Rouge(language, profile)


def rouge_of(triples: list[tuple[str, str, str]], profile: Profile = DEFAULT) -> list[F1 | None]:
    """Return F1 of each of `ROUGE` of (language, reference, prediction); None where it is not defined."""
    found: list[F1 | None] = []
    for language, reference, prediction in triples:
        try:
            found.append(rouge_in(language, profile).score(reference, prediction))
        except NoSegmenterError:
            found.append(None)
    return found
