"""Report the baselines of an evaluation, and compare the model with LEAD."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shards.directions import direction_kind
from trainer.evaluation.averages import Named, summarise
from trainer.evaluation.baseline_names import LABELS
from trainer.evaluation.baselines.compute import Baselines
from trainer.evaluation.bootstrap import paired_bootstrap
from trainer.evaluation.predictions import Prediction
from trainer.evaluation.scoring.rouge import ROUGE, TYPES
from trainer.evaluation.scoring.similarity import SIMILARITY

#: Measures of models that are reported of a baseline where they were scored.
_WITH_MODELS = ("meaning_similarity", "lase", "bertscore", SIMILARITY)
_LEAST = 1e-12


def baselines_report(
    predictions: Sequence[Prediction], found: Baselines, train_pairs: Mapping[Named, int]
) -> dict[str, Any]:
    """Return `baselines` (name -> its means as the model's are, by kind, language, class and direction) and
    `against_lead` (kind -> measure -> the model's difference from LEAD, by paired bootstrap over stories)."""
    measures = [name for name in (*ROUGE, *_WITH_MODELS) if name in found.measures]
    parts: dict[str, dict[str, Any]] = {}
    for name, rows in found.rows.items():
        parts[name] = summarise(rows, measures, train_pairs)
        del parts[name]["directions"]  # as the model's
    if "lead" in parts:
        parts["lead"] |= {"words": found.words, "uncut": found.uncut}
    if "nearest" in parts:
        parts["nearest"] |= {
            "without_story": found.without_story,
            "training_documents": found.compared,
            "of": found.of,
            "unreadable": found.unreadable,
        }
    return {"baselines": parts, "against_lead": against_lead(predictions, found.rows.get("lead", []))}


def against_lead(predictions: Sequence[Prediction], lead: Sequence[Prediction]) -> dict[str, dict[str, Any]]:
    """Return kind -> measure -> difference of the means, its 95% interval and p, over the examples that have ROUGE."""
    lead_of = {row.key: row for row in lead if row.scores[TYPES[0]] is not None}
    found: dict[str, dict[str, Any]] = {}
    of_kind: dict[str, list[Prediction]] = {}
    for row in predictions:
        if row.key in lead_of:
            of_kind.setdefault(direction_kind(row.source, row.target), []).append(row)
    for kind, rows in sorted(of_kind.items()):
        number = {story: place for place, story in enumerate(sorted({row.story for row in rows}))}
        for measure in TYPES:
            d = paired_bootstrap(
                [lead_of[row.key].scores[measure] or 0.0 for row in rows],
                [row.scores[measure] or 0.0 for row in rows],
                [number[row.story] for row in rows],
            )
            found.setdefault(kind, {})[measure] = {"difference": d.mean, "low": d.low, "high": d.high, "p": float(d.p)}
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Loss:
    """A model's mean below LEAD's. by_chance: True if the difference may be chance (p >= 0.05, or not known)."""

    measure: str
    model: float
    lead: float
    by_chance: bool


def baseline_means(report: Mapping[str, Any], name: str, by: str = "by_kind") -> dict[str, dict[str, float]]:
    """Return group -> measure -> a baseline's mean; empty for a report of an earlier release, or a damaged one."""
    found: dict[str, dict[str, float]] = {}
    for group, scores in _table(_table(_table(report.get("baselines")).get(name)).get(by)).items():
        found[group] = {
            measure: float(value) for measure, value in _table(scores).items() if type(value) in (int, float)
        }
    return found


def has_baselines(report: Mapping[str, Any]) -> bool:
    """Return True if a report has a baseline's means."""
    return any(baseline_means(report, name) for name in LABELS)


def losses(report: Mapping[str, Any]) -> dict[str, list[Loss]]:
    """Return by kind the measures of `TYPES` in which the model is below LEAD on the same examples."""
    found: dict[str, list[Loss]] = {}
    of_model = _table(report.get("by_kind"))
    for kind, of_lead in baseline_means(report, "lead").items():
        for measure in TYPES:
            model = _table(of_model.get(kind)).get(measure)
            if not isinstance(model, float | int) or measure not in of_lead:
                continue
            if model < of_lead[measure] - _LEAST:
                p = _table(_table(_table(report.get("against_lead")).get(kind)).get(measure)).get("p")
                chance = not isinstance(p, float | int) or p >= 0.05
                loss = Loss(measure=measure, model=float(model), lead=of_lead[measure], by_chance=chance)
                found.setdefault(kind, []).append(loss)
    return found


def lead_words(report: Mapping[str, Any]) -> dict[str, int]:
    """Return LEAD's k by target language."""
    words = _table(_table(_table(report.get("baselines")).get("lead")).get("words"))
    return {name: count for name, count in words.items() if type(count) is int}


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
