"""Show one corpus, one split of it, and a mixture: the page of `d2tv inspect`."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from launcher.pages.matrix import heat_map
from launcher.pages.tables import Table
from launcher.pages.templates import render
from shards.variant_counts import describe
from trainer.runs.words import count, percent

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Lengths:
    """Characters (Unicode code points) of a language's documents or summaries; all 0 where it has none."""

    median: int
    most: int  # the 95th percentile
    longest: int


@dataclass(frozen=True, kw_only=True, slots=True)
class LanguageFacts:
    """One language in one split. A story has at most one article in it, so articles are stories too."""

    name: str
    code: str  # BCP 47, or the name itself where none is known
    articles: int
    document: Lengths
    summary: Lengths


@dataclass(frozen=True, kw_only=True, slots=True)
class VariantDirection:
    """Variants in one direction. left_out: reason -> examples of which there is none."""

    source: str
    target: str
    made: int
    left_out: Mapping[str, int]

    @property
    def reasons(self) -> str:
        return describe(self.left_out)


@dataclass(frozen=True, kw_only=True, slots=True)
class VariantFacts:
    """The variants of a corpus, all of its training split. how: the settings that they were made with."""

    how: str
    directions: tuple[VariantDirection, ...]

    @property
    def made(self) -> int:
        return sum(direction.made for direction in self.directions)

    @property
    def left_out(self) -> int:
        return sum(sum(direction.left_out.values()) for direction in self.directions)


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusFacts:
    """Facts of a corpus, and of one split of it.

    totals: split -> (stories, articles, edges, directions that have an example).
    counts_TS: (L, L) examples by [target, source].  images: how many articles have 0, 1, 2, .. images.
    sample: articles a language whose lengths were measured; None where all were.
    pixels, labels: sentences on those of the split; None of a corpus without labels.
    variants: None where the corpus was made without.
    """

    location: str
    name: str
    content_hash: str
    totals: dict[str, tuple[int, int, int, int]]
    split: str
    languages: tuple[LanguageFacts, ...]
    counts_TS: Ints
    images: Ints
    sample: int | None
    pixels: str
    labels: str | None = None
    variants: VariantFacts | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(language.name for language in self.languages)


@dataclass(frozen=True, kw_only=True, slots=True)
class Direction:
    """One direction in a mixture. passes: how often its examples come in an epoch-equivalent."""

    source: str
    target: str
    examples: int
    share: float
    passes: float


@dataclass(frozen=True, kw_only=True, slots=True)
class MixtureFacts:
    """The stream that a recipe's mixture draws from a split, by direction.

    lines: sentences on it.  shares_TS: of slots; passes_TS: in an epoch-equivalent, which is as many slots as the split
    has examples; (L, L) by [target, source].  directions: title -> some of them.
    """

    lines: tuple[str, ...]
    shares_TS: NDArray[np.float64]
    passes_TS: NDArray[np.float64]
    directions: dict[str, tuple[Direction, ...]]


def corpus_page(facts: CorpusFacts, mixture: MixtureFacts | None) -> str:
    """Return the page of a corpus. mixture: None where the split has no examples."""
    maps = None
    if mixture is not None:

        def tip(target: int, source: int) -> str:
            share, passes = percent(mixture.shares_TS[target, source]), mixture.passes_TS[target, source]
            return (
                f"{facts.names[source]} → {facts.names[target]}: {facts.counts_TS[target, source]:,} examples, share "
                f"{share}, {passes:.3g} passes"
            )

        label = "passes over each direction's examples in an epoch-equivalent"
        maps = (
            heat_map(facts.names, facts.counts_TS, tip, f"examples of {facts.split} by direction", count),
            heat_map(facts.names, mixture.passes_TS, tip, label, lambda value: f"{value:.3g}"),
        )
    return render(
        "corpus.html.jinja",
        title=f"d2tv inspect {facts.name or facts.location}: {facts.split}",
        facts=facts,
        mixture=mixture,
        maps=maps,
        totals=[[split, *map(count, numbers)] for split, numbers in facts.totals.items()],
        languages=_languages(facts, mixture),
        images=facts.images.tolist(),
    )


def _languages(facts: CorpusFacts, mixture: MixtureFacts | None) -> Table:
    rows = []
    for index, one in enumerate(facts.languages):
        sums = facts.counts_TS[:, index].sum(), facts.counts_TS[index].sum()
        row = [one.name, one.code, count(one.articles), *map(count, sums)]
        if mixture is not None:
            row.append(f"{mixture.shares_TS[index].sum():.2%}")
        for of in (one.document, one.summary):
            row += map(count, (of.median, of.most, of.longest))
        rows.append(row)
    share = mixture is not None
    return Table(
        ["language", "code", "articles", "as source", "as target", *["as target"] * share]
        + ["median", "95%", "longest"] * 2,
        rows,
        [("", 3), ("examples", 2), *[("share", 1)] * share, ("document", 3), ("summary", 3)],
    )
