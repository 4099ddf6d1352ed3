"""Average an evaluation's scores by kind, language, direction and amount of training data."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from shards.directions import direction_kind
from shards.format.index import Corpus
from trainer.evaluation.predictions import Prediction
from trainer.evaluation.resource_classes import resource_class
from trainer.evaluation.scoring.score import mean_scores

#: A direction: (source, target) by name.
Named = tuple[str, str]


def training_pairs(corpus: Corpus) -> dict[Named, int]:
    """Return the train split's number of examples of every direction, in the mixture or not."""
    counts_TS, names = corpus.direction_counts("train"), corpus.languages
    return {(s, t): int(counts_TS[j, i]) for j, t in enumerate(names) for i, s in enumerate(names)}


def summarise(
    predictions: Sequence[Prediction], measures: Sequence[str], train_pairs: Mapping[Named, int]
) -> dict[str, Any]:
    """Return the means of the measures, as the report has them. A group without a measure's score lacks the measure.

    by_kind, by_source, by_target, by_class, by_direction: means over examples.
    macro: the same (but by direction) as means over directions, each counting once, as in the paper's Table 1.
    directions: each one's number of examples here and in the train split.
    """
    of_direction: dict[Named, list[Mapping[str, float | None]]] = defaultdict(list)
    for row in predictions:
        of_direction[row.source, row.target].append(row.scores)
    means = {pair: mean_scores(rows, measures) for pair, rows in of_direction.items()}
    names: dict[str, Callable[[Named], str]] = {
        "by_kind": lambda pair: direction_kind(*pair),
        "by_source": lambda pair: pair[0],
        "by_target": lambda pair: pair[1],
        "by_class": lambda pair: resource_class(train_pairs[pair]),
    }
    micro: dict[str, dict[str, dict[str, float]]] = {}
    macro: dict[str, dict[str, dict[str, float]]] = {}
    for by, name_of in names.items():
        groups: dict[str, list[Named]] = defaultdict(list)
        for pair in sorted(of_direction):
            groups[name_of(pair)].append(pair)
        rows = {name: [row for pair in pairs for row in of_direction[pair]] for name, pairs in sorted(groups.items())}
        micro[by] = {name: mean_scores(of, measures) for name, of in rows.items()}
        macro[by] = {name: mean_scores([means[pair] for pair in groups[name]], measures) for name in rows}
    return {
        **micro,
        "by_direction": {direction_name(pair): means[pair] for pair in sorted(means)},
        "macro": macro,
        "directions": {
            direction_name(pair): {"examples": len(of_direction[pair]), "train_pairs": train_pairs[pair]}
            for pair in sorted(means)
        },
    }


def direction_name(pair: Named) -> str:
    """Return a direction as the report's keys have it: `english>french`."""
    return f"{pair[0]}>{pair[1]}"


def languages_found(predictions: Sequence[Prediction]) -> dict[str, dict[str, int]]:
    """Return target language -> identified language (or "unknown") -> number of predictions."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for row in predictions:
        found[row.target][row.language or "unknown"] += 1
    return {target: dict(counts.most_common()) for target, counts in sorted(found.items())}
