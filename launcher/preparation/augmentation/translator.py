"""Define what translates the chosen sentences of an article."""

from collections.abc import Sequence
from typing import Literal, Protocol

from launcher.preparation.augmentation.selection import Unit
from shards.schema import Article, Story

#: Why an article has no variant in a language.
Reason = Literal[
    "no parallel article",
    "no counterpart in a shorter parallel article",
    "a language that the model does not know",
    "a sentence too long for the model",
    "an empty translation",
    "a translation without an end",
    "a document of one sentence",
    "a summary without a word",
    "a translation that changes nothing",
]


class Translator(Protocol):
    """Translates sentences. It can be pickled: every worker process gets a copy."""

    def translate(
        self, story: Story, article: Article, language: str, units: Sequence[Unit], places: Sequence[int]
    ) -> list[str] | Reason:
        """Return the translation into `language` of the units at `places` of an article of the story, or why not."""
