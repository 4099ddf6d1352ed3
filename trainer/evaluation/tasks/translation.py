"""Evaluate multimodal translation: of a name with its images into the name in another language (RC³, section 3.5)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

from models.sharing import Text
from trainer.evaluation.evaluate import Evaluator
from trainer.evaluation.scoring.measures import Pair
from trainer.evaluation.scoring.score import Scores
from trainer.evaluation.scoring.translation import corpus_scores, sentence_scores
from trainer.evaluation.tasks.summarization import Summarization


class Translation(Summarization):
    """Decode and score as summaries are, from the source's summary, and by BLEU and chrF as well."""

    needs: ClassVar[frozenset[str]] = frozenset({"source_summary"})
    reads: ClassVar[Text] = "source_summary"
    extracts: ClassVar[bool] = False

    def scores(self, evaluator: Evaluator, pairs: Sequence[Pair]) -> Scores:
        """Return every measure of every pair; those of translation come first."""
        others = super().scores(evaluator, pairs)
        return replace(others, columns={**sentence_scores(pairs, evaluator.begin_batch), **others.columns})

    def further(self, pairs: Sequence[Pair]) -> dict[str, Any]:
        """Return the scores of each language's translations together."""
        return {"translation": corpus_scores(pairs)}
