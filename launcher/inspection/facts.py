"""Count a corpus and a mixture over it, from the index alone: no shard is read."""

import json

import numpy as np
from numpy.typing import NDArray

from launcher.pages.corpus import (
    CorpusFacts,
    Direction,
    Ints,
    LanguageFacts,
    Lengths,
    MixtureFacts,
    VariantDirection,
    VariantFacts,
)
from shards.format.index import Corpus
from shards.format.labels import label_counts
from shards.format.manifest import SPLITS
from shards.languages import LANGUAGE_CODES
from shards.locations import shown
from shards.stream.mixture import direction_weights
from shards.variant_counts import MADE, VariantCounts
from trainer.recipe import Recipe

#: Articles a language whose characters are counted: more would move the last digits alone.
SAMPLE = 400
#: And the longest by bytes, for the longest by characters is among them, or nearly.
_LONGEST = 16

#: Directions shown of each sort.
SHOWN = 5


def corpus_facts(corpus: Corpus, split: str) -> CorpusFacts:
    """Return the facts of `corpus`, with those of one split in detail. Takes seconds for a million articles."""
    table = np.asarray(corpus.articles)
    of_split = np.array([name.startswith(f"{split}-") for name in corpus.shards])
    rows = np.flatnonzero(of_split[table["shard"]])
    rows = rows[~corpus.is_variant(rows)]
    language = table["language"][rows]
    languages, sampled = [], False
    order = np.argsort(language, kind="stable")
    ends = np.searchsorted(language[order], np.arange(len(corpus.languages) + 1))
    for number, name in enumerate(corpus.languages):
        mine = rows[order[ends[number] : ends[number + 1]]]
        sampled |= len(mine) > SAMPLE
        languages.append(_language_facts(corpus, table, name, mine))
    return CorpusFacts(
        location=shown(corpus.location),
        name=str(corpus.manifest.get("name", "")),
        content_hash=corpus.content_hash,
        totals={each: _totals(corpus, each) for each in SPLITS},
        split=split,
        languages=tuple(languages),
        counts_TS=corpus.direction_counts(split),
        images=np.bincount(table["images"][rows], minlength=1).astype(np.int64),
        sample=SAMPLE if sampled else None,
        pixels=_pixels(corpus, of_split),
        labels=_labels(corpus, split),
        variants=_variants(corpus),
    )


def mixture_facts(facts: CorpusFacts, recipe: Recipe, name: str) -> MixtureFacts | None:
    """Return the stream that `recipe` draws from the split; None where that has no examples.

    Raises `InputError` as `direction_weights`.
    """
    counts_TS = facts.counts_TS
    epoch = int(counts_TS.sum())
    if not epoch:
        return None
    batch = recipe.batch
    # Of a story-batched group the mixture decides the anchors (shards/stream/bundles.py).
    anchors = recipe.training.steps * batch.groups_per_step * batch.group_size // batch.sources_per_target
    shares_TS = direction_weights(counts_TS, facts.names, recipe.mixture, slots=anchors)
    passes_TS = np.divide(shares_TS * epoch, counts_TS, out=np.zeros_like(shares_TS), where=counts_TS > 0)
    # Ties in the order of (target, source), so that the same corpus shows the same.
    used = np.flatnonzero(shares_TS)
    orders = {"the rarest": counts_TS, "the commonest": -counts_TS, "the most passes": -passes_TS}

    def direction(index: int) -> Direction:
        return Direction(
            source=facts.names[index % len(facts.names)],
            target=facts.names[index // len(facts.names)],
            examples=int(counts_TS.flat[index]),
            share=float(shares_TS.flat[index]),
            passes=float(passes_TS.flat[index]),
        )

    return MixtureFacts(
        lines=_describe(facts, recipe, name, shares_TS, anchors * batch.sources_per_target / epoch),
        shares_TS=shares_TS,
        passes_TS=passes_TS,
        directions={
            title: tuple(map(direction, used[np.argsort(order_TS.flat[used], kind="stable")][:SHOWN].tolist()))
            for title, order_TS in orders.items()
        },
    )


def _describe(
    facts: CorpusFacts, recipe: Recipe, name: str, shares_TS: NDArray[np.float64], run: float
) -> tuple[str, ...]:
    """Describe a mixture in a few sentences. run: the whole run in epoch-equivalents."""
    settings = recipe.mixture.model_dump(mode="json", exclude={"changes"}, exclude_none=True)
    words = [
        f"{key} {' and '.join(map(str, value)) if isinstance(value, list) else value}"
        for key, value in settings.items()
    ]
    mms = float(np.trace(shares_TS))
    lines = [
        f"mixture of recipe {name}: {', '.join(words)}",
        f"mms {mms:.1%}, mxls {float(shares_TS.sum()) - mms:.1%} of the slots",
        f"an epoch-equivalent is {facts.counts_TS.sum():,} slots, the examples of {facts.split}; the recipe's run is "
        f"{run:.3g} of them",
    ]
    if left_out := int((facts.counts_TS > 0).sum()) - np.count_nonzero(shares_TS):
        lines.append(f"{left_out:,} directions that have examples get no share")
    if changes := len(recipe.mixture.changes):
        lines.append(f"this is how the run begins: the mixture changes {changes} times on the way")
    return tuple(lines)


def _pixels(corpus: Corpus, of_split: NDArray[np.bool_]) -> str:
    if corpus.pixels is None:
        return "pixels are not stored: the corpus has the images' features alone"
    table = np.asarray(corpus.pixels)
    lengths = table["length"][of_split[table["shard"]]]
    size = int(lengths.sum(dtype=np.int64)) / 1e6
    return f"pixels are stored: {len(lengths):,} image files of {size:,.1f} MB, one copy of images that articles share"


def _labels(corpus: Corpus, split: str) -> str | None:
    if corpus.labels is None:
        return None
    counts = label_counts(corpus, split)
    most = [number for number in np.argsort(-counts, kind="stable")[:SHOWN].tolist() if counts[number]]
    shares = ", ".join(f"{corpus.label_names[number]} {counts[number] / counts.sum():.1%}" for number in most)
    without = int(corpus.manifest["splits"][split]["articles"] - counts.sum())
    return (
        f"labels of {split}: {np.count_nonzero(counts):,} of the corpus' {len(counts):,}, most often {shares or 'none'}"
        + (f"; {without:,} articles have none" if without else "")
    )


def _variants(corpus: Corpus) -> VariantFacts | None:
    """Return the variants by the index, and by the manifest what they were made with and why others were not."""
    provenance = corpus.manifest["provenance"]
    asked = (provenance.get("settings") or {}).get("augment")
    counts_TS, languages = corpus.variant_counts(), corpus.languages
    if asked is None and not counts_TS.any():
        return None
    kept = VariantCounts.from_json(json.dumps((provenance.get("augmentation") or {}).get("directions", {})))
    reasons = {
        (source, target): {what: number for what, number in counts.items() if what != MADE}
        for source, target, counts in kept.directions()
    }
    made = {
        (languages[source], languages[target]): int(counts_TS[target, source])
        for target, source in np.argwhere(counts_TS).tolist()
    }
    pairs = sorted(made.keys() | reasons.keys(), key=lambda pair: (pair[1], pair[0]))
    return VariantFacts(
        how=" ".join(f"{name} {value}" for name, value in (asked or {}).items()),
        directions=tuple(
            VariantDirection(
                source=source,
                target=target,
                made=made.get((source, target), 0),
                left_out=reasons.get((source, target), {}),
            )
            for source, target in pairs
        ),
    )


def _totals(corpus: Corpus, split: str) -> tuple[int, int, int, int]:
    counts = corpus.manifest["splits"][split]
    return counts["stories"], counts["articles"], counts["edges"], int((corpus.direction_counts(split) > 0).sum())


def _language_facts(corpus: Corpus, table: NDArray[np.void], name: str, rows: Ints) -> LanguageFacts:
    begin = table["text_offset"][rows].astype(np.int64) + table["url_length"][rows]
    document, summary = (table[f"{what}_length"][rows].astype(np.int64) for what in ("text", "summary"))
    return LanguageFacts(
        name=name,
        code=LANGUAGE_CODES.get(name, name),
        articles=len(rows),
        document=_lengths(corpus.text, begin, document),
        summary=_lengths(corpus.text, begin + document, summary),
    )


def _lengths(text: NDArray[np.uint8], begin: Ints, length: Ints) -> Lengths:
    """Measure texts of `length` bytes at `begin`, all or a sample of them."""
    count = len(begin)
    if not count:
        return Lengths(median=0, most=0, longest=0)
    # The same sample every time. Drawn apart from the longest, which would shift the percentiles.
    chosen = np.sort(np.random.default_rng(0).choice(count, SAMPLE, replace=False)) if count > SAMPLE else range(count)
    characters = [_characters(text, int(begin[index]), int(length[index])) for index in chosen]
    longest = max(characters)
    if count > SAMPLE:
        for index in np.argpartition(length, -_LONGEST)[-_LONGEST:]:
            longest = max(longest, _characters(text, int(begin[index]), int(length[index])))
    median, most = np.percentile(characters, [50, 95])
    return Lengths(median=round(median), most=round(most), longest=longest)


def _characters(text: NDArray[np.uint8], begin: int, length: int) -> int:
    """Count the code points of UTF-8: all bytes but those that continue one."""
    part = np.frombuffer(text[begin : begin + length], np.uint8)
    return length - int(np.count_nonzero((part & 0xC0) == 0x80))
