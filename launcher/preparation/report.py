"""Say what a prepared corpus holds, and what of its input it does not."""

import json
from collections.abc import Mapping

from shards.format.index import Corpus
from shards.format.manifest import SPLITS
from shards.problems import Problems
from shards.variant_counts import MADE, VariantCounts, describe
from trainer.terminal.log import log

#: Directions of variants that are printed, of up to 1,892.
_SHOWN = 50


def report_problems(problems: Problems) -> None:
    """Log how many problems the input had, and a line a kind; nothing where there were none."""
    if problems.counts:
        allowed = "" if problems.limit is None else f", of which --max-problems allows {problems.limit:,}"
        log.info(f"{problems.total:,} problems in the input{allowed}")
        for line in problems.lines():
            log.info(line)


def report_variants(corpus: Corpus) -> None:
    """Log a line for all variants, and one a direction; nothing for a corpus that was made without."""
    kept = corpus.manifest["provenance"].get("augmentation")
    if kept is None:
        return
    counts = VariantCounts.from_json(json.dumps(kept["directions"]))
    log.info(f"variants of the training split: {_line(counts.total(), 0)}")
    directions = counts.directions()
    for source, target, of_direction in directions[:_SHOWN]:
        log.info(f"  {source + ' -> ' + target:<40} {_line(of_direction, 9)}")
    if len(directions) > _SHOWN:
        log.info(f"  and {len(directions) - _SHOWN:,} directions more: `d2tv inspect --html` has all")


def summary(corpus: Corpus) -> str:
    """Return the counts of a corpus in one line."""
    splits = corpus.manifest["splits"]
    stories = ", ".join(f"{splits[s]['stories']:,} {s}" for s in SPLITS)
    directions = int((corpus.direction_counts("train") > 0).sum())
    articles = f"{sum(splits[s]['articles'] for s in SPLITS):,} articles"
    if corpus.variants is not None:
        articles += f", {len(corpus.variants):,} variants"
    return f"{stories} stories, {articles}, {directions:,} directions, {len(corpus.languages)} languages"


def _line(counts: Mapping[str, int], width: int) -> str:
    left_out = describe(counts)
    return f"{counts.get(MADE, 0):>{width},}" + (f"; left out: {left_out}" if left_out else "")
