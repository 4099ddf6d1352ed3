"""Add variants to the stories of the training split: documents of which some sentences are translated (ACROSS, 3.3).

Of an article in language B with its summary, and a language A, the chosen sentences are replaced by their translation
into A. The pseudo document is one more source of the article, in direction A -> B.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from launcher.preparation.augmentation.model import ModelTranslator, open_model
from launcher.preparation.augmentation.parallel import ParallelTranslator
from launcher.preparation.augmentation.selection import NoTokensError, Unit, choose, cut, rebuild, rouge_1
from launcher.preparation.augmentation.settings import Augmentation, augmented_directions
from launcher.preparation.augmentation.translator import Reason, Translator
from shards.schema import Article, Story, Variant
from shards.text.lines import has_text
from shards.variant_counts import MADE, VariantCounts


@dataclass(frozen=True, kw_only=True, slots=True)
class Augmenter:
    """Makes the variants of a story, which follow from the story and the settings alone.

    directions: target language -> source languages.  lists: documents are lists of keywords.
    """

    settings: Augmentation
    directions: Mapping[str, Sequence[str]]
    translator: Translator
    lists: bool

    def stories(self, stories: Iterable[Story], counts: VariantCounts) -> Iterator[Story]:
        """Yield the stories with their variants; count in `counts` those that are made, and why others are not."""
        for story in stories:
            yield self.augment(story, counts)

    def augment(self, story: Story, counts: VariantCounts) -> Story:
        """Return one story with its variants, as `stories`."""
        variants: list[Variant] = []
        for article in story.articles:
            sources = self.directions.get(article.language, ())
            if not sources:
                continue
            units = cut(article.text, lists=self.lists)
            chosen = self._choose(story, article, units)
            for source in sources:
                found = self._document(story, article, source, units, chosen)
                if isinstance(found, Variant):
                    variants.append(found)
                counts.count(source, article.language, MADE if isinstance(found, Variant) else found)
        return replace(story, variants=tuple(variants))

    def _choose(self, story: Story, article: Article, units: Sequence[Unit]) -> list[int] | Reason:
        try:
            places = choose(self.settings, units, article.summary, story=story.key, language=article.language)
        except NoTokensError:
            return "a summary without a word"
        return places or "a document of one sentence"

    def _document(
        self, story: Story, article: Article, source: str, units: Sequence[Unit], chosen: list[int] | Reason
    ) -> Variant | Reason:
        if isinstance(chosen, str):
            return chosen
        translated = self.translator.translate(story, article, source, units, chosen)
        if isinstance(translated, str):
            return translated
        if not all(map(has_text, translated)):
            return "an empty translation"
        text = rebuild(units, dict(zip(chosen, translated, strict=True)))
        if text == article.text:
            return "a translation that changes nothing"
        return Variant(language=source, target=article.language, text=text)

    def unknown_languages(self) -> list[str]:
        """Return the languages of the directions that the model does not know."""
        if not isinstance(self.translator, ModelTranslator):
            return []
        asked = {language for target, sources in self.directions.items() for language in (target, *sources)}
        return sorted(asked - self.translator.codes.keys())

    def provenance(self, counts: VariantCounts, model: str | None) -> dict[str, Any]:
        """Return what the manifest keeps beside the settings. model: the fingerprint of its directory."""
        by_model = {"model": model, "unknown_languages": self.unknown_languages()} if model is not None else {}
        return {**by_model, "directions": counts.counts}


def open_augmenter(settings: Augmentation, languages: Sequence[str], *, lists: bool) -> Augmenter:
    """Return the augmenter of a corpus with these languages.

    Raises: InputError for directions that name none, for what is no translation model, and where ROUGE wants the
        segmenter of a language that is not installed.
    """
    directions = augmented_directions(settings, languages)
    if settings.choice in ("informative", "uninformative"):
        for target in directions:
            rouge_1(target)
    model = settings.model
    translator = ParallelTranslator(lists=lists) if model is None else open_model(model, lists=lists)
    return Augmenter(settings=settings, directions=directions, translator=translator, lists=lists)
