"""Prepare a run's results by direction and language: NLL, held-out NLL, evaluations, placeholders."""

import math
import re
from typing import Any

from launcher.pages.dots import Series, dots
from launcher.pages.matrix import DRAWN, by_pair, heat_map
from launcher.pages.scores import read_scores
from launcher.pages.tables import Table
from shards.printable import one_line
from trainer.runs.directions import LEAST_EXAMPLES
from trainer.runs.directory import RunDirectory
from trainer.runs.history import History
from trainer.runs.words import count, decimals, figure

_WORST, _LISTED = 20, 100


def directions(history: History) -> dict[str, Any] | None:
    """Return the heat map of training NLL by direction and the worst ones; None where no sums are recorded."""
    found = history.directions()
    if found is None:
        return None
    names = found.languages
    of_pair = {(one.source, one.target): one for one in found.found}

    def tip(target: int, source: int) -> str:
        one = of_pair.get((names[source], names[target]))
        pair = f"{names[source]} → {names[target]}: "
        if one is None:
            return f"{pair}none trained on in these steps"
        return f"{pair}{figure(one.nll)} nats a token, {one.tokens:,.0f} tokens of {one.examples:,.0f} examples"

    picture = None
    if len(names) <= DRAWN:
        # A direction without a finite value has no colour; its tooltip says why.
        values = {pair: one.nll for pair, one in of_pair.items() if math.isfinite(one.nll)}
        label = "training NLL by direction"
        picture = heat_map(names, by_pair(names, values, 0.0), tip, label, lambda value: f"{value:.3g}")
    rows = [
        [f"{one.source} → {one.target}", decimals(one.nll, 3), count(one.tokens), count(one.examples)]
        for one in found.worst(_WORST)
    ]
    return {
        "first": found.after + 1,
        "last": found.until,
        "count": len(found.found),
        "languages": len(names),
        "map": picture,
        "least": LEAST_EXAMPLES if any(one.examples >= LEAST_EXAMPLES for one in found.found) else None,
        "worst": Table(["direction", "NLL", "target tokens", "examples"], rows),
    }


def target_languages(history: History) -> dict[str, Any] | None:
    """Return NLL by target language and kind: held-out, its change since the first validation, and recent training.

    None where no NLL by target language is recorded.
    """
    held_out, first = history.held_out_by_target(), history.held_out_by_target(first=True)
    training = history.training_by_target()
    kinds = list(dict.fromkeys([*training, *held_out]))
    if not kinds:
        return None

    def badness(name: str) -> float:
        known = [of[kind][name] for of in (held_out, training) for kind in of if name in of[kind]]
        value = max([of[name] for of in held_out.values() if name in of] or known)
        return value if value == value else math.inf

    names = sorted({name for of in (held_out, training) for values in of.values() for name in values})
    names.sort(key=badness, reverse=True)
    rows = []
    for name in names:
        row = [name]
        for kind in kinds:
            now, then = held_out.get(kind, {}).get(name), first.get(kind, {}).get(name)
            change = "–" if now is None or then is None else f"{now - then:+.3f}"
            row += [decimals(now, 3), change, decimals(training.get(kind, {}).get(name), 3)]
        rows.append(row)
    series = [
        Series(label=f"{label} {kind}", values=of.get(kind, {}), colour=index, ring=label == "training")
        for index, kind in enumerate(kinds)
        for label, of in (("training", training), ("held-out", held_out))
    ]
    validated = history.last_validation if held_out else None
    return {
        "held_out": bool(held_out),
        "step": None if validated is None else validated["step"],
        "recent": len(history.recent),
        "dots": dots(names, series, "NLL by target language", lambda value: decimals(value, 3)),
        "table": Table(
            ["target language", *["held-out", "since the first", "training"] * len(kinds)],
            rows,
            [("", 1), *((kind.upper(), 3) for kind in kinds)],
        ),
    }


def evaluations(run: RunDirectory) -> list[dict[str, Any]]:
    """Return every report in evaluation/, the run's own first: name (a split or `<label>/<split>`), scores, page."""
    reports = run.evaluations() | run.kept_evaluations()
    return [
        {
            "name": one_line(name),
            # As part of an id.
            "scores": None if report is None else read_scores(report, re.sub(r"[^A-Za-z0-9]+", "-", name)),
            "has_page": run.has_evaluation_page(name),
        }
        for name, report in reports.items()
    ]


def placeholders(run: RunDirectory) -> dict[str, Any] | None:
    """Return the examples that could not be read, by direction, those with the most first; None where all could."""
    found = run.placeholders()
    rows = [
        [f"{one.source} → {one.target}", count(one.examples), count(one.step), one.problem] for one in found[:_LISTED]
    ]
    if not found:
        return None
    return {
        "examples": sum(one.examples for one in found),
        "directions": len(found),
        "more": len(found) - len(rows),
        "table": Table(["direction", "examples", "last at step", "its problem"], rows),
    }
