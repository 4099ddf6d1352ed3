"""Prepare the scores of an evaluation's report, of any release, for scores.html.jinja."""

from collections.abc import Mapping, Sequence
from typing import Any

from launcher.pages.dots import Series, dots
from launcher.pages.matrix import DRAWN, Pair, heat_maps
from launcher.pages.tables import Table
from shards.printable import one_line
from trainer.evaluation.baseline_names import LABELS as BASELINES
from trainer.evaluation.baselines.report import baseline_means, has_baselines, losses
from trainer.evaluation.compare.measure_names import SHORT
from trainer.evaluation.describe import (
    BELOW,
    BELOW_BY_CHANCE,
    describe_baselines,
    describe_rouge,
    describe_similarity,
    profile_in,
    without_images,
)
from trainer.evaluation.foreign import describe_counts
from trainer.evaluation.resource_classes import CLASSES, resource_class
from trainer.evaluation.scoring.rouge import TYPES
from trainer.evaluation.scoring.similarity import SIMILARITY
from trainer.runs.words import count, decimals, number

_WORST, _OTHERS = 20, 3

#: measure -> its name on pages. All are in per cent.
LABELS = {
    **SHORT,
    "lase": "LaSE",
    "wrong_language": "wrong language",
    "wrong_language_reference": "of references",
    "length_penalty": "length",
    "novelty1": "new words",
    "novelty2": "new pairs",
    "repetition1": "repeated words",
    "repetition2": "repeated pairs",
}
_BESIDE = ("chrf", "bleu", "bertscore", "lase", SIMILARITY)
_QUALITY = (*TYPES, "rougeLsum", *_BESIDE)
_BEHAVIOUR = tuple(name for name in LABELS if name not in _QUALITY)
_AVERAGED = (*TYPES, *_BESIDE, "wrong_language")
_MAPPED = ("rougeL", "rouge1", "rouge2", *_BESIDE, "wrong_language", "novelty2", "repetition2")

#: The classes as a person reads them.
CLASS_NAMES = dict(zip(CLASSES, ("under 1,000", "1,000 to 5,000", "over 5,000"), strict=True))

#: No score or count of ours reaches it; NaN fails the comparison, too.
_LARGEST = 1e15

Scores = dict[str, dict[str, float]]


def read_scores(report: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return what the macros of scores.html.jinja show of a report; None for a part that it does not have.

    key: of its heat map among those of the page.
    """
    return {
        "words": _describe(report),
        "notes": describe_rouge(report),
        **_kinds(report),
        "similarity": describe_similarity(report),
        "baselines": _baselines(report),
        "classes": _classes(report),
        "languages": _languages(report),
        "directions": _directions(report, key),
        "wrong": _wrong_language(report),
    }


def _describe(report: Mapping[str, Any]) -> str:
    written = report.get("by_kind") or report.get("nll") or "system" in report  # else a task judged examples
    decoded = "summaries decoded" if written else "examples judged, whose figures `d2tv evaluate` prints"
    words = [f"step {report.get('step', '–')}", f"{report.get('examples', '–')} {decoded}"]
    if isinstance(system := report.get("system"), dict):
        words = [f"predictions of {system.get('file')}", f"{report.get('examples', '–')} scored"]
        words += describe_counts(system.get("lines"))
    if report.get("unreadable"):
        words.append(f"{report['unreadable']} examples unreadable")
    if without := without_images(report):
        words.append(without)
    if isinstance(settings := report.get("settings"), dict):
        shown = ("task", "directions", *(("num_beams", "length_penalty", "no_repeat_ngram_size") if written else ()))
        words += [f"{key} {settings[key]}" for key in shown if key in settings]
    return ", ".join([*words, *([f"ROUGE as {profile_in(report)}"] if written else [])])


def _kinds(report: Mapping[str, Any]) -> dict[str, Table | None]:
    """Tabulate NLL, ROUGE and what was scored beside it, by kind; beside it how the summaries are written."""
    scores, nll = _scores_of(report, "by_kind"), _scores_of(report, "nll")
    quality, behaviour = _present(scores, _QUALITY) or TYPES, _present(scores, _BEHAVIOUR)
    rows, beside = [], []
    for kind in sorted({*scores, *nll}):
        of_kind = nll.get(kind, {})
        better = of_kind.get("better_by")
        found = [decimals(of_kind.get(key), 3) for key in ("model", "unigram")]
        found.append("–" if better is None else f"{better:.1%}")
        rows.append([kind.upper(), *found, *_cells(scores.get(kind, {}), quality)])
        beside.append([kind.upper(), *_cells(scores.get(kind, {}), behaviour)])
    rouge = sum(name.startswith("rouge") for name in quality)
    groups = [("", 1), ("NLL a token", 3), ("ROUGE F1, per cent", rouge)]
    if len(quality) > rouge:
        groups.append(("beside ROUGE", len(quality) - rouge))
    return {
        "kinds": Table(["kind", "model", "unigram", "better by", *_labels(quality)], rows, groups),
        "behaviour": Table(["kind", *_labels(behaviour)], beside) if behaviour else None,
    }


def _baselines(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """Tabulate the model and the baselines on the same examples, by kind and target language."""
    if not has_baselines(report):
        return None
    system = report.get("system")
    model = one_line(str(system.get("name"))) if isinstance(system, dict) else "model"
    lost, rows = losses(report), []
    for kind, scores in _scores_of(report, "by_kind").items():
        below = {loss.measure: BELOW_BY_CHANCE if loss.by_chance else BELOW for loss in lost.get(kind, ())}
        marked = [
            f"{below.get(name, '')} {cell}".strip() for name, cell in zip(TYPES, _cells(scores, TYPES), strict=True)
        ]
        rows.append([kind.upper(), model, *marked])
        for name, label in BASELINES.items():
            if of_kind := baseline_means(report, name).get(kind):
                rows.append(["", label, *_cells(of_kind, TYPES)])
    of_model = _scores_of(report, "by_target")
    by_target = {label: baseline_means(report, name, "by_target") for name, label in BASELINES.items()}
    by_target = {label: found for label, found in by_target.items() if found}
    targets = [
        [target, *(_two(of.get(target, {}).get("rouge1")) for of in (of_model, *by_target.values()))]
        for target in of_model
    ]
    notes = describe_baselines(report)
    return {
        "lost": [line for line in notes if line.startswith(BELOW)],
        "table": Table(["kind", "system", *_labels(TYPES)], rows),
        "marks": (BELOW, BELOW_BY_CHANCE),
        "notes": "; ".join(one_line(line) for line in notes if not line.startswith(BELOW)),
        "targets": Table(["target", model, *by_target], targets),
    }


def _classes(report: Mapping[str, Any]) -> Table | None:
    """Tabulate ACROSS' classes of directions."""
    scores = _averages(report, "by_class")
    if not scores:
        return None
    counts: dict[str, list[float]] = {name: [0, 0] for name in scores}
    for direction in _scores_of(report, "directions").values():
        name = resource_class(round(direction.get("train_pairs", 0)))
        if name in counts:
            counts[name][0] += 1
            counts[name][1] += direction.get("examples", 0)
    measures = _present(scores, _AVERAGED)
    rows = [
        [CLASS_NAMES[name], *map(count, counts[name]), *_cells(scores[name], measures)]
        for name in CLASSES
        if name in scores
    ]
    return Table(["training pairs of a direction", "directions", "examples", *_labels(measures)], rows)


def _languages(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """Draw and tabulate averages by target and by source language."""
    sides = {"as target": _averages(report, "by_target"), "as source": _averages(report, "by_source")}
    targets = sides["as target"]
    if not targets:
        return None
    names = sorted(
        dict.fromkeys(name for of in sides.values() for name in of),
        key=lambda name: -targets.get(name, {}).get("rougeL", -1.0),
    )
    measures = _present(targets, _AVERAGED)
    series = [
        Series(
            label=f"ROUGE-L {label}",
            values={name: of[name]["rougeL"] for name in of if "rougeL" in of[name]},
            colour=index,
        )
        for index, (label, of) in enumerate(sides.items())
    ]
    shown = {label: of for label, of in sides.items() if of}
    return {
        "averaged": "macro" in report,
        "dots": dots(names, series, "ROUGE-L by language", _two) if len(names) <= DRAWN else None,
        "table": Table(
            ["language", *_labels(measures) * len(shown)],
            [[name, *(cell for of in shown.values() for cell in _cells(of.get(name, {}), measures))] for name in names],
            [("", 1), *((label, len(measures)) for label in shown)],
        ),
    }


def _directions(report: Mapping[str, Any], key: str) -> dict[str, Any] | None:
    """Draw the heat map with a choice of measures; None where there is one language alone."""
    scores = {pair: of for name, of in _scores_of(report, "by_direction").items() if (pair := _pair(name)) is not None}
    names = sorted({side for pair in scores for side in pair})
    if len(names) < 2:
        return None
    if len(names) > DRAWN:
        return {"languages": len(names), "map": None}
    counts = {_pair(name): of for name, of in _scores_of(report, "directions").items()}
    measures = {
        LABELS[name]: values
        for name in _MAPPED
        if (values := {pair: of[name] for pair, of in scores.items() if name in of})
    }

    def tip(source: str, target: str) -> str:
        pair = (source, target)
        parts = [f"{label} {values[pair]:.2f}" for label, values in measures.items() if pair in values]
        if of := counts.get(pair):
            parts.append(f"{of.get('examples', 0):,.0f} examples, {of.get('train_pairs', 0):,.0f} training pairs")
        return f"{source} → {target}: {', '.join(parts) or 'none'}"

    return {"languages": len(names), "map": heat_maps(key, names, measures, tip, "scores by direction")}


def _wrong_language(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """Tabulate the directions and targets with most summaries in another language; None where none was looked at."""
    counts = _scores_of(report, "directions")
    worst = sorted(
        (
            (of["wrong_language"], name, of)
            for name, of in _scores_of(report, "by_direction").items()
            if of.get("wrong_language", 0) > 0
        ),
        key=lambda one: (-one[0], one[2].get("wrong_language_reference", 0.0), one[1]),
    )
    if not worst and not any("wrong_language" in of for of in _scores_of(report, "by_kind").values()):
        return None
    rows = [
        [
            name.replace(">", " → "),
            *_cells(of, ("wrong_language", "wrong_language_reference")),
            count(counts[name]["examples"]) if "examples" in counts.get(name, {}) else "–",
        ]
        for _, name, of in worst[:_WORST]
    ]
    return {
        "directions": len(worst),
        "shown": len(rows),
        "table": Table(["direction", "% wrong", "of references", "examples"], rows),
        "found": Table(["target", "% in it", "found instead"], _found(report)),
    }


def _found(report: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for target, of in _scores_of(report, "languages_found").items():
        total = sum(of.values())
        others = sorted(((found, name) for name, found in of.items() if name != target), reverse=True)
        if others and total:
            instead = ", ".join(f"{name} {found:,.0f}" for found, name in others[:_OTHERS])
            rest = len(others) - _OTHERS
            share = of.get(target, 0) / total
            rows.append((share, [target, f"{share:.1%}", instead + (f" and {rest} more" if rest > 0 else "")]))
    return [row for _, row in sorted(rows)]


def _scores_of(report: Mapping[str, Any], key: str) -> Scores:
    """Return name -> measure -> number of what a report has under `key`, without what is no number or no score."""
    found: Scores = {}
    value = report.get(key)
    for name, scores in value.items() if isinstance(value, dict) else ():
        if isinstance(scores, dict):
            numbers = {key: number(one) for key, one in scores.items()}
            found[name] = {key: one for key, one in numbers.items() if one is not None and abs(one) < _LARGEST}
    return found


def _averages(report: Mapping[str, Any], by: str) -> Scores:
    """Return means over directions; of earlier releases means over examples, which is what they had."""
    macro = report.get("macro")
    return _scores_of(macro if isinstance(macro, dict) else report, by)


def _pair(name: str) -> Pair | None:
    source, arrow, target = name.partition(">")
    return (source, target) if arrow else None


def _present(scores: Scores, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in names if any(name in of for of in scores.values()))


def _labels(names: Sequence[str]) -> list[str]:
    return [LABELS[name] for name in names]


def _cells(scores: Mapping[str, float], names: Sequence[str]) -> list[str]:
    return [_two(scores.get(name)) for name in names]


def _two(value: float | None) -> str:
    return decimals(value, 2)
