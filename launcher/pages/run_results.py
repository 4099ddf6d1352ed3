"""Show a run's results by direction and language: NLL, held-out NLL, evaluations, placeholders."""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from launcher.pages import matrix, scores
from launcher.pages.dots import Dots, dots
from launcher.pages.page import escape, table
from shards.printable import one_line
from trainer.runs.directions import LEAST_EXAMPLES
from trainer.runs.directory import RunDirectory
from trainer.runs.history import History
from trainer.runs.tail import read_records
from trainer.runs.words import figure

_WORST, _LISTED = 20, 100

STYLE = """
.beside { display: flex; flex-wrap: wrap; gap: 0 3rem; align-items: flex-start; }
.beside > div { min-width: 0; max-width: 100%; }
"""


def directions(history: History) -> str:
    """The heat map of NLL by direction and the worst ones."""
    found = history.directions()
    if found is None:
        return "<p>No sums by direction are recorded yet (older releases recorded none).</p>"
    names = found.languages
    by_pair = {(one.source, one.target): one for one in found.found}

    def tip(target: int, source: int) -> str:
        one = by_pair.get((names[source], names[target]))
        pair = f"{names[source]} → {names[target]}: "
        if one is None:
            return f"{pair}none trained on in these steps"
        return f"{pair}{figure(one.nll)} nats a token, {one.tokens:,.0f} tokens of {one.examples:,.0f} examples"

    label = "training NLL by direction"
    rows = [
        [f"{one.source} → {one.target}", _nats(one.nll), f"{one.tokens:,.0f}", f"{one.examples:,.0f}"]
        for one in found.worst(_WORST)
    ]
    enough = any(one.examples >= LEAST_EXAMPLES for one in found.found)
    least = f", of those with {LEAST_EXAMPLES} examples or more" if enough else ""
    return "\n".join(
        [
            f'<p class="soft">Training NLL in nats a target token over steps {found.after + 1:,} to {found.until:,}, '
            f"{len(found.found):,} directions; a direction's NLL is its own branch's. A row is a target language, a "
            "column a source language. Point at a cell for its numbers; colours go in equal ratios.</p>",
            '<div class="beside"><div>',
            _heat_map(names, {(s, t): one.nll for (s, t), one in by_pair.items()}, tip, label),
            f"</div><div><h3>The worst directions{least}</h3>",
            table(["direction", "NLL", "target tokens", "examples"], rows),
            "</div></div>",
        ]
    )


def _heat_map(
    names: Sequence[str],
    values: Mapping[tuple[str, str], float],
    tip: Callable[[int, int], str],
    label: str,
) -> str:
    """values: by (source, target); a cell without a finite value above 0 has no colour, its tooltip says why."""
    if len(names) > scores.DRAWN:
        return f"<p>{len(names):,} languages are too many for a picture.</p>"
    values_TS: NDArray[np.float64] = np.zeros((len(names), len(names)))
    places = {name: place for place, name in enumerate(names)}
    for (source, target), value in values.items():
        values_TS[places[target], places[source]] = value if math.isfinite(value) else 0.0
    return matrix.matrix(names, values_TS, tip, label) + matrix.legend(values_TS, lambda value: f"{value:.3g}")


def target_languages(history: History) -> str:
    """NLL by target language: held-out, how it moved since the first validation, and recent training."""
    held_out, first = history.held_out_by_target(), history.held_out_by_target(first=True)
    training = {kind: history.by_target(kind) for kind in ("mms", "mxls")}
    kinds = [kind for kind in ("mms", "mxls") if held_out.get(kind) or training[kind]]
    if not kinds:
        return "<p>No NLL by target language is recorded yet (older releases recorded none).</p>"
    names = sorted({name for of in (held_out, training) for kind in kinds for name in of.get(kind, {})})

    def badness(name: str) -> float:
        shown = [of[kind][name] for of in (held_out, training) for kind in kinds if name in of.get(kind, {})]
        of_held_out = [held_out[kind][name] for kind in kinds if name in held_out.get(kind, {})]
        value = max(of_held_out or shown)
        return value if value == value else math.inf

    names.sort(key=badness, reverse=True)
    heading = ["target language", *["held-out", "since the first", "training"] * len(kinds)]
    rows = []
    for name in names:
        row = [name]
        for kind in kinds:
            now, then = held_out.get(kind, {}).get(name), first.get(kind, {}).get(name)
            row.append(_nats(now))
            row.append(f"{now - then:+.3f}" if now is not None and then is not None else "–")
            row.append(_nats(training[kind].get(name)))
        rows.append(row)
    told = "held-out stories" if held_out else "no held-out NLL by language is recorded"
    if held_out and history.last_validation is not None:
        told += f" at step {history.last_validation['step']:,}"
    groups = [("", 1), *((kind.upper(), 3) for kind in kinds)]
    series = [
        Dots(label=f"{label} {kind}", values=values, colour=place, ring=label == "training")
        for place, kind in enumerate(kinds)
        for label, values in (("training", training[kind]), ("held-out", held_out.get(kind, {})))
    ]
    plot = dots(names, series, "NLL by target language", _nats)
    return (
        f'<p class="soft">Nats a target token: {escape(told)}; training: the last {len(history.recent)} logged '
        f"intervals. The highest first.</p>{plot}<details><summary>Numbers</summary>{table(heading, rows, groups)}"
        "</details>"
    )


def _nats(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def evaluations(run: RunDirectory) -> str:
    """A part for every report in evaluation/, the run's own first."""
    reports = run.evaluations() | run.kept_evaluations()
    if not reports:
        return "<p>None is made yet: it comes after the last step, or by <code>d2tv evaluate</code>.</p>"
    return "\n".join(_evaluation(split, report, run.path) for split, report in reports.items())


def _evaluation(name: str, report: Mapping[str, Any] | None, run: Path) -> str:
    """name: a split, or `<label>/<split>`."""
    shown = escape(one_line(name))
    title = f"<h3>{shown}</h3>"
    if report is None:
        return f"{title}<p>evaluation/{shown}.json cannot be read.</p>"
    parts = {
        "Baselines": scores.beside_baselines(report),
        "By resource class": scores.by_class(report),
        "By language": scores.by_language(report),
        "By direction": scores.by_direction(report, re.sub(r"[^A-Za-z0-9]+", "-", name)),
        "In another language": scores.wrong_language(report),
    }
    folded = "".join(f"<details><summary>{name}</summary>{part}</details>" for name, part in parts.items() if part)
    more = ""
    if (run / "evaluation" / f"{name}.html").is_file():
        more = f'<p class="soft">evaluation/{shown}.html has the table of the paper and examples with their images.</p>'
    return "\n".join([title, scores.described(report), scores.by_kind(report), folded, more])


def placeholders(path: Path) -> str:
    """The examples that could not be read, by direction, those with the most first."""
    counts: Counter[tuple[str, str]] = Counter()
    newest: dict[tuple[str, str], Mapping[str, Any]] = {}
    for record in read_records(path):
        pair = str(record.get("source")), str(record.get("target"))
        counts[pair] += 1
        newest[pair] = record
    if not counts:
        return "<p>None: every example could be read.</p>"
    rows = [
        [
            f"{source} → {target}",
            f"{count:,}",
            f"{newest[source, target]['step']:,}",
            one_line(str(newest[source, target].get("problem"))),
        ]
        for (source, target), count in counts.most_common(_LISTED)
    ]
    left_out = len(counts) - len(rows)
    more = f"<p>and {left_out:,} directions more.</p>" if left_out else ""
    return (
        f'<p class="soft">{counts.total():,} examples that could not be read, in {len(counts):,} directions.</p>'
        f'<div class="told">{table(["direction", "examples", "last at step", "its problem"], rows)}</div>{more}'
    )
