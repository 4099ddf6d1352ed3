"""The scores of an evaluation as parts of a page, by kind, class, language and direction; of reports of any release."""

from collections.abc import Mapping, Sequence
from typing import Any

from launcher.pages.choice import Pair, heat_maps
from launcher.pages.dots import Dots, dots
from launcher.pages.page import escape, table
from shards.printable import one_line
from trainer.evaluation.baseline_names import LABELS as BASELINES
from trainer.evaluation.baselines.report import baseline_means, has_baselines, losses
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
from trainer.evaluation.scoring.similarity import SIMILARITY
from trainer.runs.words import number

#: More languages than this are not drawn, only listed.
DRAWN = 100
_WORST, _OTHERS = 20, 3

#: measure -> what pages call it. All are per cent.
LABELS = {
    "rouge1": "R-1",
    "rouge2": "R-2",
    "rougeL": "R-L",
    "rougeLsum": "R-Lsum",
    "bertscore": "BERTScore",
    "lase": "LaSE",
    SIMILARITY: "USE",
    "wrong_language": "wrong language",
    "wrong_language_reference": "of references",
    "length_penalty": "length",
    "novelty1": "new words",
    "novelty2": "new pairs",
    "repetition1": "repeated words",
    "repetition2": "repeated pairs",
}
_QUALITY = ("rouge1", "rouge2", "rougeL", "rougeLsum", "bertscore", "lase", SIMILARITY)
_BEHAVIOUR = (
    "wrong_language",
    "wrong_language_reference",
    "length_penalty",
    "novelty1",
    "novelty2",
    "repetition1",
    "repetition2",
)
_AVERAGED = ("rouge1", "rouge2", "rougeL", "bertscore", "lase", SIMILARITY, "wrong_language")
_MAPPED = ("rougeL", "rouge1", "rouge2", "bertscore", "lase", SIMILARITY, "wrong_language", "novelty2", "repetition2")

#: The classes as a person reads them.
CLASS_NAMES = dict(zip(CLASSES, ("under 1,000", "1,000 to 5,000", "over 5,000"), strict=True))
_MACRO = "Means of the directions' means, each direction once."

#: No score or count of ours reaches it; NaN fails the comparison, too.
_LARGEST = 1e15

Scores = Mapping[str, Mapping[str, float]]


def described(report: Mapping[str, Any]) -> str:
    """Describe in a line what was evaluated."""
    words = [f"step {report.get('step', '–')}", f"{report.get('examples', '–')} summaries decoded"]
    if isinstance(system := report.get("system"), dict):
        words = [f"predictions of {system.get('file')}", f"{report.get('examples', '–')} scored"]
        words += describe_counts(system.get("lines"))
    if report.get("unreadable"):
        words.append(f"{report['unreadable']} examples unreadable")
    if without := without_images(report):
        words.append(without)
    settings = report.get("settings")
    if isinstance(settings, dict):
        shown = ("directions", "num_beams", "length_penalty", "no_repeat_ngram_size")
        words += [f"{key} {settings[key]}" for key in shown if key in settings]
    words.append(f"ROUGE as {profile_in(report)}")
    html = f'<p class="soft">{escape(one_line(", ".join(words)))}</p>'
    return html + "".join(f"<p>{escape(one_line(line))}</p>" for line in describe_rouge(report))


def by_kind(report: Mapping[str, Any]) -> str:
    """NLL, ROUGE and what was scored with models; below it what else there is of the summaries."""
    scores, nll = scores_of(report, "by_kind"), scores_of(report, "nll")
    kinds = sorted({*scores, *nll})
    quality = _there(scores, _QUALITY) or ("rouge1", "rouge2", "rougeL")
    rows = []
    for kind in kinds:
        of_kind = nll.get(kind, {})
        better = of_kind.get("better_by")
        losses = ["–" if (value := of_kind.get(key)) is None else f"{value:.3f}" for key in ("model", "unigram")]
        losses.append(f"{better:.1%}" if better is not None else "–")
        rows.append([kind.upper(), *losses, *_cells(scores.get(kind, {}), quality)])
    heading = ["kind", "model", "unigram", "better by", *(LABELS[name] for name in quality)]
    rouge = sum(name.startswith("rouge") for name in quality)
    groups = [("", 1), ("NLL a token", 3), ("ROUGE F1, per cent", rouge)]
    if len(quality) > rouge:
        groups.append(("with models", len(quality) - rouge))
    html = table(heading, rows, groups)
    if told := describe_similarity(report):
        html += f'<p class="soft">{escape(one_line(told))}.</p>'
    behaviour = _there(scores, _BEHAVIOUR)
    if behaviour:
        rows = [[kind.upper(), *_cells(scores.get(kind, {}), behaviour)] for kind in kinds]
        html += (
            '<p class="soft">Beside them, in per cent: summaries (and references) in another language than the one '
            "asked for; LaSE's length penalty, 100 where none is too long; words and pairs of words that the document "
            f"lacks, and that are said again.</p>{table(['kind', *(LABELS[name] for name in behaviour)], rows)}"
        )
    return html


def beside_baselines(report: Mapping[str, Any]) -> str:
    """The model and the baselines on the same examples, by kind and target language; empty for earlier reports."""
    if not has_baselines(report):
        return ""
    lost = losses(report)
    measures = ("rouge1", "rouge2", "rougeL")
    rows = []
    for kind, of_model in scores_of(report, "by_kind").items():
        below = {loss.measure: BELOW_BY_CHANCE if loss.by_chance else BELOW for loss in lost.get(kind, ())}
        marked = [
            f"{below[name]} {cell}" if name in below else cell
            for name, cell in zip(measures, _cells(of_model, measures), strict=True)
        ]
        rows.append([kind.upper(), _system(report), *marked])
        for name, label in BASELINES.items():
            of_kind = baseline_means(report, name).get(kind)
            if of_kind:
                rows.append(["", label, *_cells(of_kind, measures)])
    said = describe_baselines(report)
    html = "".join(f'<p class="wrong">{escape(line)}</p>' for line in said if line.startswith(BELOW))
    html += table(["kind", "system", *(LABELS[name] for name in measures)], rows)
    notes = "; ".join(one_line(line) for line in said if not line.startswith(BELOW))
    html += (
        f'<p class="soft">{BELOW} below LEAD on the same examples, {BELOW_BY_CHANCE} so, but it may be chance. '
        f"{escape(notes)}. Oracle: the document's sentences (words, where it is one sentence) that come nearest to the "
        "reference. Nearest story: the summary of the training story whose document has most words and pairs of words "
        "in common.</p>"
    )
    return html + _baselines_by_target(report)


def _baselines_by_target(report: Mapping[str, Any]) -> str:
    of_model = scores_of(report, "by_target")
    of_baselines = {label: baseline_means(report, name, "by_target") for name, label in BASELINES.items()}
    of_baselines = {label: found for label, found in of_baselines.items() if found}
    rows = []
    for target, means in of_model.items():
        row = [target, *_cells(means, ("rouge1",))]
        row += [_cells(found.get(target, {}), ("rouge1",))[0] for found in of_baselines.values()]
        rows.append(row)
    heading = ["target", _system(report), *of_baselines]
    return f"<details><summary>ROUGE-1 by target language</summary>{table(heading, rows)}</details>"


def _system(report: Mapping[str, Any]) -> str:
    system = report.get("system")
    return one_line(str(system.get("name"))) if isinstance(system, dict) else "model"


def by_class(report: Mapping[str, Any]) -> str:
    """ACROSS' classes of directions; empty for reports that have none."""
    scores = _averages(report, "by_class")
    if not scores:
        return ""
    counts: dict[str, list[float]] = {name: [0, 0] for name in scores}
    for direction in scores_of(report, "directions").values():
        name = resource_class(round(direction.get("train_pairs", 0)))
        if name in counts:
            counts[name][0] += 1
            counts[name][1] += direction.get("examples", 0)
    measures = _there(scores, _AVERAGED)
    rows = [
        [CLASS_NAMES[name], *(f"{count:,.0f}" for count in counts[name]), *_cells(scores[name], measures)]
        for name in CLASSES
        if name in scores
    ]
    heading = ["training pairs of a direction", "directions", "examples", *(LABELS[name] for name in measures)]
    return f'<p class="soft">{_MACRO}</p>{table(heading, rows)}'


def by_language(report: Mapping[str, Any]) -> str:
    """Averages by target and by source language, drawn and as numbers."""
    targets, sources = _averages(report, "by_target"), _averages(report, "by_source")
    if not targets:
        return ""
    names = sorted({*targets, *sources}, key=lambda name: -targets.get(name, {}).get("rougeL", -1.0))
    measures = _there(targets, _AVERAGED)
    heading, groups = ["language"], [("", 1)]
    for label, of in (("as target", targets), ("as source", sources)):
        if of:
            heading += [LABELS[name] for name in measures]
            groups.append((label, len(measures)))
    rows = [
        [name, *(cell for of in (targets, sources) if of for cell in _cells(of.get(name, {}), measures))]
        for name in names
    ]
    series = [
        Dots(label=f"ROUGE-L {label}", values=_column(of, "rougeL"), colour=place)
        for place, (label, of) in enumerate((("as target", targets), ("as source", sources)))
    ]
    picture = dots(names, series, "ROUGE-L by language", lambda value: f"{value:.2f}") if len(names) <= DRAWN else ""
    note = _MACRO if "macro" in report else "Means over examples."
    return (
        f'<p class="soft">{note}</p>{picture}<details><summary>Numbers by language</summary>'
        f"{table(heading, rows, groups)}</details>"
    )


def by_direction(report: Mapping[str, Any], key: str) -> str:
    """The heat map with a choice of measures; empty where there is one language alone. key: the split's name."""
    scores = {pair: of for name, of in scores_of(report, "by_direction").items() if (pair := _pair(name)) is not None}
    names = sorted({side for pair in scores for side in pair})
    if len(names) < 2:
        return ""
    if len(names) > DRAWN:
        return f"<p>{len(names):,} languages are too many for a picture.</p>"
    counts = {_pair(name): of for name, of in scores_of(report, "directions").items()}
    measures = {
        LABELS[name]: {pair: of[name] for pair, of in scores.items() if name in of}
        for name in _MAPPED
        if any(name in of for of in scores.values())
    }

    def tip(source: str, target: str) -> str:
        pair = (source, target)
        told = [f"{label} {values[pair]:.2f}" for label, values in measures.items() if pair in values]
        if pair in counts:
            of = counts[pair]
            told.append(f"{of.get('examples', 0):,.0f} examples, {of.get('train_pairs', 0):,.0f} training pairs")
        return f"{source} → {target}: {', '.join(told) or 'none'}"

    return (
        '<p class="soft">A row is a target language, a column a source language; colours go in equal steps, what is '
        "not evaluated has none. Point at a cell for its numbers.</p>"
        f"{heat_maps(key, names, measures, tip, 'scores by direction')}"
    )


def wrong_language(report: Mapping[str, Any]) -> str:
    """The directions and target languages whose summaries are in another language most often."""
    counts = scores_of(report, "directions")
    worst = sorted(
        (
            (of["wrong_language"], name, of)
            for name, of in scores_of(report, "by_direction").items()
            if of.get("wrong_language", 0) > 0
        ),
        key=lambda one: (-one[0], one[2].get("wrong_language_reference", 0.0), one[1]),
    )
    if not worst:
        told = any("wrong_language" in of for of in scores_of(report, "by_kind").values())
        return "<p>No summary was found to be in another language.</p>" if told else ""
    rows = [
        [
            name.replace(">", " → "),
            *_cells(of, ("wrong_language", "wrong_language_reference")),
            f"{counts[name]['examples']:,.0f}" if "examples" in counts.get(name, {}) else "–",
        ]
        for _, name, of in worst[:_WORST]
    ]
    more = f", of {len(worst):,} that have any" if len(worst) > _WORST else ""
    html = (
        f'<div class="beside"><div><h3>The worst directions{more}</h3>'
        f"{table(['direction', '% wrong', 'of references', 'examples'], rows)}</div>"
    )
    found = _found(report)
    if found:
        html += f"<div><h3>Target languages</h3>{table(['target', '% in it', 'found instead'], found)}</div>"
    return f"{html}</div>"


def _found(report: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for target, of in scores_of(report, "languages_found").items():
        total = sum(of.values())
        others = sorted(((count, name) for name, count in of.items() if name != target), reverse=True)
        if others and total:
            instead = ", ".join(f"{name} {count:,.0f}" for count, name in others[:_OTHERS])
            rest = len(others) - _OTHERS
            share = of.get(target, 0) / total
            rows.append((share, [target, f"{share:.1%}", instead + (f" and {rest} more" if rest > 0 else "")]))
    return [row for _, row in sorted(rows)]


def scores_of(report: Mapping[str, Any], key: str) -> dict[str, dict[str, float]]:
    """Return name -> measure -> number of what a report says under `key`, without what is no number or no score."""
    found: dict[str, dict[str, float]] = {}
    value = report.get(key)
    for name, scores in value.items() if isinstance(value, dict) else ():
        if isinstance(scores, dict):
            numbers = {key: number(one) for key, one in scores.items()}
            found[name] = {key: one for key, one in numbers.items() if one is not None and abs(one) < _LARGEST}
    return found


def _averages(report: Mapping[str, Any], by: str) -> dict[str, dict[str, float]]:
    """Means over directions; of earlier releases over examples, which is what they had."""
    macro = report.get("macro")
    return scores_of(macro if isinstance(macro, dict) else report, by)


def _pair(name: str) -> Pair | None:
    source, arrow, target = name.partition(">")
    return (source, target) if arrow else None


def _there(scores: Scores, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in names if any(name in of for of in scores.values()))


def _column(scores: Scores, measure: str) -> dict[str, float]:
    return {name: of[measure] for name, of in scores.items() if measure in of}


def _cells(scores: Mapping[str, float], names: Sequence[str]) -> list[str]:
    return ["–" if (value := scores.get(name)) is None else f"{value:.2f}" for name in names]
