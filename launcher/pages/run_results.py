"""What a run makes of each direction and language: NLL, held-out NLL, evaluations, placeholders."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from launcher.pages import matrix
from launcher.pages.curves import ticks
from launcher.pages.page import escape, table
from launcher.watch.directions import LEAST_EXAMPLES
from launcher.watch.history import History
from launcher.watch.run_directory import RunDirectory
from launcher.watch.tail import read_records
from launcher.watch.words import figure, number, one_line

_WORST, _LISTED = 20, 100
#: More languages than this are not drawn, only listed.
_DRAWN = 100

STYLE = """
.key { display: inline-flex; align-items: center; gap: .3rem; margin-right: .8rem; }
.keys svg { display: inline-block; }
.beside { display: flex; flex-wrap: wrap; gap: 0 3rem; align-items: flex-start; }
.dots .rule { stroke: var(--line); } .dots .ring, .keys .ring { fill: none; stroke-width: 1.5; }
.dots .row { fill: transparent; } .dots .row:hover { fill: var(--ink); fill-opacity: .06; }
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
    if len(names) > _DRAWN:
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
    plot = _dots(names, [(kind, held_out.get(kind, {}), training[kind]) for kind in kinds])
    return (
        f'<p class="soft">Nats a target token: {escape(told)}; training: the last {len(history.recent)} logged '
        f"intervals. The highest first.</p>{plot}<details><summary>Numbers</summary>{table(heading, rows, groups)}"
        "</details>"
    )


def _dots(names: Sequence[str], kinds: Sequence[tuple[str, Mapping[str, float], Mapping[str, float]]]) -> str:
    """A row a language, a colour a kind: a full dot for held-out NLL, a ring for training, on one axis."""
    finite = [v for _, *of in kinds for values in of for v in values.values() if math.isfinite(v)]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    span, left, width = (high - low) or 1.0, 24 + 6.2 * max(map(len, names)), 900
    height = 17 * len(names) + 26

    def x(value: float) -> float:
        return left + 6 + (width - left - 36) * (value - low) / span

    parts = [
        '<div class="wide"><svg class="dots" role="img" aria-label="NLL by target language" '
        f'width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
    ]
    for tick in ticks(low, high, 8):
        parts.append(
            f'<line class="rule" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="0" y2="{height - 22}"></line>'
            f'<text class="number" x="{x(tick):.1f}" y="{height - 6}" text-anchor="middle">{figure(tick)}</text>'
        )
    for row, name in enumerate(names):
        y = 17 * row + 9
        tips = []
        for place, (kind, held_out, training) in enumerate(kinds):
            for label, mark, values in (("training", "ring", training), ("held-out", "", held_out)):
                value = values.get(name)
                if value is None:
                    continue
                tips.append(f"{label} {kind} {_nats(value)}")
                if math.isfinite(value):
                    parts.append(f'<circle class="k{place} {mark}" cx="{x(value):.1f}" cy="{y}" r="4"></circle>')
        parts.append(f'<text x="{left - 8:.0f}" y="{y + 4}" text-anchor="end">{escape(name)}</text>')
        parts.append(
            f'<rect class="row" x="0" y="{17 * row}" width="{width}" height="17"><title>'
            f"{escape(f'{name}: ' + ', '.join(tips))}</title></rect>"
        )
    legend = "".join(
        f'<span class="key"><svg width="12" height="12" aria-hidden="true"><circle class="k{place} {mark}" cx="6" '
        f'cy="6" r="4"></circle></svg> {label} {escape(kind)}</span>'
        for place, (kind, held_out, training) in enumerate(kinds)
        for label, mark, values in (("held-out", "", held_out), ("training", "ring", training))
        if values
    )
    return f'<p class="soft keys">{legend}</p>{"".join(parts)}</svg></div>'


def _nats(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def evaluations(run: RunDirectory) -> str:
    """A part for every report in evaluation/."""
    reports = run.evaluations()
    if not reports:
        return "<p>None is made yet: it comes after the last step, or by <code>d2tv evaluate</code>.</p>"
    return "\n".join(_evaluation(split, report) for split, report in reports.items())


def _evaluation(split: str, report: Mapping[str, Any] | None) -> str:
    title = f"<h3>{escape(one_line(split))}</h3>"
    if report is None:
        return f"{title}<p>evaluation/{escape(one_line(split))}.json cannot be read.</p>"
    by_kind, nll = _scores(report.get("by_kind")), _scores(report.get("nll"))
    settings = report.get("settings")
    words = [f"step {report.get('step', '–')}", f"{report.get('examples', '–')} summaries decoded"]
    if report.get("unreadable"):
        words.append(f"{report['unreadable']} examples unreadable")
    if isinstance(settings, dict):
        words += [f"{key} {settings[key]}" for key in ("directions", "num_beams", "length_penalty") if key in settings]
    rows = []
    for kind in sorted({*by_kind, *nll}):
        of_kind, scores = nll.get(kind, {}), by_kind.get(kind, {})
        better = of_kind.get("better_by")
        rows.append(
            [
                kind.upper(),
                *(_nats(of_kind.get(key)) for key in ("model", "unigram")),
                f"{better:.1%}" if better is not None else "–",
                *(_rouge(scores.get(key)) for key in ("rouge1", "rouge2", "rougeL")),
            ]
        )
    heading = ["kind", "model", "unigram", "better by", "R-1", "R-2", "R-L"]
    groups = [("", 1), ("NLL a token", 3), ("ROUGE F1, per cent", 3)]
    parts = [title, f'<p class="soft">{escape(", ".join(words))}</p>', table(heading, rows, groups)]
    by_target = _scores(report.get("by_target"))
    if by_target:
        worst_last = sorted(by_target.items(), key=lambda item: -item[1].get("rougeL", 0.0))
        rows = [[name, *(_rouge(of.get(key)) for key in ("rouge1", "rouge2", "rougeL"))] for name, of in worst_last]
        parts.append(
            f"<details><summary>By target language</summary>{table(['target', 'R-1', 'R-2', 'R-L'], rows)}</details>"
        )
    by_direction = {
        (source, target): of["rougeL"]
        for name, of in _scores(report.get("by_direction")).items()
        for source, arrow, target in [name.partition(">")]
        if arrow and "rougeL" in of
    }
    names = sorted({name for pair in by_direction for name in pair})
    if len(names) > 1:

        def tip(target: int, source: int) -> str:
            value = by_direction.get((names[source], names[target]))
            return f"{names[source]} → {names[target]}: " + ("none" if value is None else f"ROUGE-L {value:.2f}")

        parts.append(
            f"<details><summary>ROUGE-L by direction</summary>"
            f"{_heat_map(names, by_direction, tip, f'ROUGE-L of {one_line(split)} by direction')}</details>"
        )
    return "\n".join(parts)


def _rouge(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _scores(value: object) -> dict[str, dict[str, float]]:
    """name -> measure -> number, of what a report says."""
    found: dict[str, dict[str, float]] = {}
    for name, scores in value.items() if isinstance(value, dict) else ():
        if isinstance(scores, dict):
            found[name] = {key: score for key, one in scores.items() if (score := number(one)) is not None}
    return found


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
