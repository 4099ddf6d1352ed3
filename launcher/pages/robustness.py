"""Show scores against severity by kind, MMI, and what was done to a document: the page of `d2tv evaluate --perturb`."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from launcher.pages.curves import COLOURS, Chart, Marks, draw
from launcher.pages.tables import Table
from launcher.pages.templates import render
from shards.printable import one_line
from trainer.evaluation.robustness.impact import describe_sources
from trainer.evaluation.robustness.plan import by_reason
from trainer.evaluation.scoring.rouge import NAMES
from trainer.recipe.profiles import profile_of
from trainer.runs.history import Curve
from trainer.runs.words import count

#: What the curves and the first table show.
_SHOWN = "rougeL"


def robustness_page(name: str, report: Mapping[str, Any]) -> str:
    """Return the page of a robustness report. name: of the run."""
    kinds: Mapping[str, Any] = report["kinds"]
    severities = [str(severity) for severity in report["severities"]]
    sources = report.get("sources", {})
    return render(
        "robustness.html.jinja",
        title=f"Robustness of {one_line(name)}, {one_line(str(report['split']))}",
        report=report,
        without=report.get("without_rouge", 0),
        profile=profile_of(report),
        losses=describe_sources(sources),
        sources=_sources(sources),
        measure=NAMES[_SHOWN],
        charts=list(_charts(kinds, severities)),
        shown=_scores(kinds, severities, _SHOWN),
        others={
            NAMES.get(measure, measure): _scores(kinds, severities, measure)
            for measure in report["measures"]
            if measure != _SHOWN
        },
        strengths=_strengths(kinds, severities),
        left_out=_left_out(report, kinds),
        samples={name: kind["sample"] for name, kind in kinds.items() if kind.get("sample")},
    )


def as_percent(value: float | None) -> str:
    """Write an MMI; a dash for none."""
    return "–" if value is None else f"{value:.1%}"


def _charts(kinds: Mapping[str, Any], severities: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Draw a chart a family, of no more kinds than there are colours."""
    marks = Marks(last_step=int(severities[-1]), breaks=(), spikes={})
    for family, names in groupby(kinds, key=lambda name: str(kinds[name]["family"])):
        of_family = list(names)
        for begin in range(0, len(of_family), COLOURS):
            chart = Chart(
                title=family if len(of_family) <= COLOURS else f"{family}, {begin // COLOURS + 1}",
                unit="F1, per cent",
                curves={name: _curve(kinds[name], severities) for name in of_family[begin : begin + COLOURS]},
                exact=True,
                titled=False,
                along="severity",
            )
            if drawn := draw(chart, marks):
                yield drawn


def _curve(kind: Mapping[str, Any], severities: Sequence[str]) -> Curve:
    scores = [kind["severities"][severity]["scores"][_SHOWN] for severity in severities]
    return Curve([0, *map(int, severities)], [kind["clean"][_SHOWN], *scores])


def _scores(kinds: Mapping[str, Any], severities: Sequence[str], measure: str) -> Table:
    rows = []
    for name, kind in kinds.items():
        of = [kind["severities"][severity] for severity in severities]
        scores = [kind["clean"][measure], *(one["scores"][measure] for one in of)]
        impacts = [*(one["mmi"][measure] for one in of), kind["mean_mmi"][measure]]
        rows.append([name, count(kind["examples"]), *(f"{score:.2f}" for score in scores), *map(as_percent, impacts)])
    heading = ["kind", "examples", "clean", *severities, *severities, "mean"]
    groups = [("", 3), ("perturbed, severity", len(severities)), ("MMI, severity", len(severities) + 1)]
    return Table(heading, rows, groups)


def _sources(found: Mapping[str, Any]) -> Table | None:
    """Tabulate what is lost without the document and the images; None where neither was asked."""
    rows = [
        [
            source,
            how,
            count(of[how]["examples"]),
            *(_share(of[how][measure]) for measure in NAMES),
            f"{of[how]['rouge1']['p']:.3f}",
        ]
        for source, of in found.items()
        for how in ("removed", "exchanged")
        if how in of
    ]
    return Table(["source", "how", "examples", *NAMES.values(), "p"], rows) if found else None


def _share(lost: Mapping[str, Any]) -> str:
    if lost["share"] is None:
        return "–"
    return f"{lost['share']:.1%} ({lost['low']:.1%} to {lost['high']:.1%})"


def _strengths(kinds: Mapping[str, Any], severities: Sequence[str]) -> Table:
    rows = []
    for name, kind in kinds.items():
        of = [kind["severities"][severity] for severity in severities]
        changed = sum(one["changed"] for one in of) / len(of)
        strengths = [f"{one['strength']:g}" for one in of]
        rows.append([f"{name}: {kind['what']}", *strengths, kind["unit"], f"{changed:.0%}"])
    heading = ["kind", *severities, "of what", "examples changed"]
    return Table(heading, rows, [("", 1), ("strength at severity", len(severities)), ("", 2)])


def _left_out(report: Mapping[str, Any], kinds: Mapping[str, Any]) -> list[str]:
    """Say what is not in the tables, and why."""
    lines = [f"Left out: {', '.join(names)}: {why}." for why, names in by_reason(report["left_out"]).items()]
    for name, kind in kinds.items():
        if kind["languages_passed_over"]:
            lines.append(f"{name} is not defined for documents in {', '.join(kind['languages_passed_over'])}.")
        if kind["passed_over"]:
            lines.append(f"{name} does not apply to {kind['passed_over']:,} examples.")
        if kind["unreadable"]:
            lines.append(f"{name}: {kind['unreadable']:,} examples could not be read.")
    return lines
