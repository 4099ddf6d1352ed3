"""Score the predictions of one kind of perturbation at all severities, for the report and the table."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shards.draws import seeded
from shards.errors import InputError
from shards.format.index import Corpus
from shards.stream.sampler import Groups
from trainer.evaluation.evaluate import Evaluator
from trainer.evaluation.heldout import take_groups
from trainer.evaluation.predictions import Prediction
from trainer.evaluation.robustness.impact import Scores, impact, lost_shares, mean_impacts
from trainer.evaluation.robustness.perturb import TextPerturbation
from trainer.evaluation.robustness.plan import Part, source_languages
from trainer.evaluation.scoring.pieces import clusters
from trainer.evaluation.scoring.rouge import ROUGE
from trainer.evaluation.scoring.score import mean_scores, score_rouge
from trainer.recipe.profiles import Profile

#: Characters of the report's samples of documents.
_SAMPLE = 160


def score_kind(
    parts: Sequence[Part],
    written: Sequence[Mapping[int, str]],
    groups: Groups,
    clean: Mapping[int, Prediction],
    corpus: Corpus,
    profile: Profile,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return a kind's rows of the table, and its part of the report.

    parts: the kind at each severity.  written: of each part, example -> prediction.  clean: by example.
    """
    kind, numbers = parts[0].kind, groups.number.tolist()
    # Examples that could not be read at one severity are left out of all, so that all are of the same examples.
    unreadable = {
        numbers[place]
        for part, of_part in zip(parts, written, strict=True)
        for place in np.flatnonzero(part.changed).tolist()
        if numbers[place] not in of_part
    }
    covered = [numbers[place] for place in np.flatnonzero(parts[0].covered).tolist()]
    covered = [number for number in covered if number not in unreadable]
    if not covered:
        raise InputError(f"{kind.name}: no example could be read any more: `d2tv verify` the corpus")
    asked = [(place, number) for place, of in enumerate(written) for number in covered if number in of]
    scored = score_rouge(
        [(clean[number].target, clean[number].reference, written[place][number]) for place, number in asked],
        profile=profile,
    )
    of_asked = {
        key: {name: 100 * value for name, value in zip(ROUGE, values, strict=True)}
        for key, values in zip(asked, scored, strict=True)
        if values is not None  # as all are: the clean ones have references with words, and segmenters
    }
    of_clean: dict[int, Scores] = {
        number: {name: clean[number].scores[name] or 0.0 for name in ROUGE} for number in covered
    }
    clean_means = mean_scores([of_clean[number] for number in covered])
    severities: dict[str, Any] = {}
    whole: dict[str, Any] | None = None
    for place, part in enumerate(parts):
        rows = [of_asked.get((place, number), of_clean[number]) for number in covered]
        scores = mean_scores(rows)
        if kind.takes_all(part.severity):
            whole = lost_shares([of_clean[n] for n in covered], rows, [clean[n].story for n in covered])
        severities[str(part.severity)] = {
            "strength": kind.strength(part.severity),
            "changed": sum(number in written[place] for number in covered) / len(covered),
            "scores": scores,
            "mmi": {measure: impact(mean, scores[measure]) for measure, mean in clean_means.items()},
        }
    languages = source_languages(corpus, take_groups(groups, np.flatnonzero(parts[0].covered)))
    entry = {
        "family": kind.family,
        "what": kind.what,
        "unit": kind.unit,
        "examples": len(covered),
        "passed_over": len(numbers) - len(covered) - len(unreadable),
        "unreadable": len(unreadable),
        "languages": languages,
        "languages_passed_over": sorted(set(source_languages(corpus, groups)) - set(languages)),
        "clean": clean_means,
        "severities": severities,
        "mean_mmi": mean_impacts([of["mmi"] for of in severities.values()]),
        "whole": whole,
    }
    table = [
        {
            "kind": kind.name,
            "severity": parts[place].severity,
            "number": number,
            **{name: getattr(clean[number], name) for name in ("story", "source", "target")},
            "prediction": written[place][number],
            **of_asked[place, number],
        }
        for place, number in asked
    ]
    return table, entry


def sample(parts: Sequence[Part], groups: Groups, evaluator: Evaluator) -> dict[str, str] | None:
    """Return the beginning of a document before and after the middle severity; None where no text changes."""
    part = parts[len(parts) // 2]
    changed = np.flatnonzero(part.changed)
    if not isinstance(part.transform, TextPerturbation) or not len(changed):
        return None
    place = seeded(0, part.kind.name).choice(changed.tolist())  # another language of each kind
    article = evaluator.reader.article(int(groups.source[place, 0]))
    perturbed = part.transform.perturbed(article, int(groups.story[place, 0]))
    return {
        "language": article.language,
        "severity": str(part.severity),
        "before": _beginning(article.text),
        "after": _beginning(perturbed.text),
    }


def _beginning(text: str) -> str:
    parts = clusters(text)
    return "".join(parts[:_SAMPLE]) + ("…" if len(parts) > _SAMPLE else "")
