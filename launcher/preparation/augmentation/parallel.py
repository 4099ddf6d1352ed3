"""Translate sentences by the parallel article of the same story, aligned by position."""

from collections.abc import Sequence
from dataclasses import dataclass

from launcher.preparation.augmentation.selection import Unit, cut
from launcher.preparation.augmentation.translator import Reason
from shards.schema import Article, Story


@dataclass(frozen=True, kw_only=True, slots=True)
class ParallelTranslator:
    """Take the sentence at the same relative position in the story's article in the wanted language.

    lists: documents are lists of keywords.
    """

    lists: bool

    def translate(
        self, story: Story, article: Article, language: str, units: Sequence[Unit], places: Sequence[int]
    ) -> list[str] | Reason:
        """See `Translator`."""
        parallel = next((each for each in story.articles if each.language == language), None)
        if parallel is None:
            return "no parallel article"
        theirs = cut(parallel.text, lists=self.lists)
        taken = [aligned(place, len(units), len(theirs)) for place in places]
        if len(set(taken)) < len(taken):
            return "no counterpart in a shorter parallel article"
        return [theirs[place][0].strip() for place in taken]


def aligned(place: int, count: int, others: int) -> int:
    """Return which of `others` sentences holds the middle of the `place`-th of `count`, both documents of length 1."""
    return (2 * place + 1) * others // (2 * count)
