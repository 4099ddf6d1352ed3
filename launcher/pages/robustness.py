"""The page of `d2tv evaluate --perturb`: scores against severity by kind, MMI, and what was done to a document."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from launcher.pages import curves
from launcher.pages.curves import COLOURS, Chart, Marks, chart
from launcher.pages.page import escape, page, table
from shards.printable import one_line
from trainer.evaluation.robustness.impact import describe_sources
from trainer.evaluation.robustness.plan import by_reason
from trainer.evaluation.scoring.rouge import NAMES
from trainer.recipe.profiles import profile_of
from trainer.runs.history import Curve

#: What the curves and the first table show.
_SHOWN = "rougeL"
_STYLE = (
    curves.STYLE
    + """
details summary { cursor: pointer; margin: .5rem 0; } .wrong { color: var(--bad, #cf222e); }
.done td { white-space: normal; text-align: start; vertical-align: top; }
.done th { text-align: start; } .done td:first-child { white-space: nowrap; }
"""
)


def robustness_page(name: str, report: Mapping[str, Any]) -> str:
    """The whole document. name: of the run. What comes from a corpus is escaped; nothing is loaded."""
    kinds: Mapping[str, Any] = report["kinds"]
    severities = [str(severity) for severity in report["severities"]]
    title = f"Robustness of {one_line(name)}, {one_line(str(report['split']))}"
    without = report.get("without_rouge", 0)
    rest = [measure for measure in report["measures"] if measure != _SHOWN]
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">Step {report["step"]:,}; held-out examples decoded again with their document or their images '
        f"perturbed (seed {report['seed']}). A kind is scored on the examples that it applies to, clean and perturbed; "
        "an example that it does not change keeps its clean summary. MMI = (clean − perturbed) / clean is the share of "
        f"the score that is lost; – where the clean score is 0. ROUGE as {escape(profile_of(report))}"
        f"{f'; {without:,} examples have none when clean, and are left out' if without else ''}.</p>",
        _sources(report.get("sources", {})),
        f"<h2>{NAMES[_SHOWN]} against severity</h2>",
        '<p class="soft">Severity 0 is the clean score.</p>',
        f'<div class="charts">{"".join(_charts(kinds, severities))}</div>',
        f"<h2>{NAMES[_SHOWN]} and MMI</h2>",
        _scores(kinds, severities, _SHOWN),
        *(
            f"<details><summary>{NAMES.get(measure, escape(measure))}</summary>{_scores(kinds, severities, measure)}"
            "</details>"
            for measure in rest
        ),
        "<h2>The kinds</h2>",
        _strengths(kinds, severities),
        _passed_over(report, kinds),
        _samples(kinds),
    ]
    return page(title, "\n".join(body), _STYLE)


def _charts(kinds: Mapping[str, Any], severities: Sequence[str]) -> Iterator[str]:
    """A chart a family, of no more kinds than there are colours."""
    marks = Marks(last_step=int(severities[-1]), breaks=(), spikes={})
    for family, names in groupby(kinds, key=lambda name: str(kinds[name]["family"])):
        of_family = list(names)
        for begin in range(0, len(of_family), COLOURS):
            shown = {name: _curve(kinds[name], severities) for name in of_family[begin : begin + COLOURS]}
            yield chart(
                Chart(
                    title=family if len(of_family) <= COLOURS else f"{family}, {begin // COLOURS + 1}",
                    unit="F1, per cent",
                    curves=shown,
                    exact=True,
                    title_says_it=False,
                    along="severity",
                ),
                marks,
            )


def _curve(kind: Mapping[str, Any], severities: Sequence[str]) -> Curve:
    scores = [kind["severities"][severity]["scores"][_SHOWN] for severity in severities]
    return Curve([0, *map(int, severities)], [kind["clean"][_SHOWN], *scores])


def _scores(kinds: Mapping[str, Any], severities: Sequence[str], measure: str) -> str:
    rows = []
    for name, kind in kinds.items():
        of = [kind["severities"][severity] for severity in severities]
        rows.append(
            [
                name,
                f"{kind['examples']:,}",
                f"{kind['clean'][measure]:.2f}",
                *(f"{one['scores'][measure]:.2f}" for one in of),
                *(as_percent(one["mmi"][measure]) for one in of),
                as_percent(kind["mean_mmi"][measure]),
            ]
        )
    heading = ["kind", "examples", "clean", *severities, *severities, "mean"]
    groups = [("", 3), ("perturbed, severity", len(severities)), ("MMI, severity", len(severities) + 1)]
    return table(heading, rows, groups)


def _sources(found: Mapping[str, Any]) -> str:
    """Return the section on what is lost without the document, and without the images; empty where none was asked."""
    if not found:
        return ""
    rows = [
        [
            source,
            how,
            f"{of[how]['examples']:,}",
            *(_share(of[how][measure]) for measure in NAMES),
            f"{of[how]['rouge1']['p']:.3f}",
        ]
        for source, of in found.items()
        for how in ("removed", "exchanged")
        if how in of
    ]
    first, *ignored = describe_sources(found)
    said = "".join(f'<p class="wrong">{escape(line)}</p>' for line in ignored)
    return (
        f"<h2>Where the score comes from</h2><p>{escape(first)}</p>{said}"
        '<p class="soft">The share of the clean score that is lost when every document (or every story\'s images) is '
        "removed, or exchanged for another story's, with 95% of the resamples; p of ROUGE-1, by paired bootstrap over "
        "stories.</p>" + table(["source", "how", "examples", *NAMES.values(), "p"], rows)
    )


def _share(lost: Mapping[str, Any]) -> str:
    if lost["share"] is None:
        return "–"
    return f"{lost['share']:.1%} ({lost['low']:.1%} to {lost['high']:.1%})"


def _strengths(kinds: Mapping[str, Any], severities: Sequence[str]) -> str:
    rows = []
    for name, kind in kinds.items():
        of = [kind["severities"][severity] for severity in severities]
        changed = sum(one["changed"] for one in of) / len(of)
        strengths = [f"{one['strength']:g}" for one in of]
        rows.append([f"{name}: {kind['what']}", *strengths, kind["unit"], f"{changed:.0%}"])
    heading = ["kind", *severities, "of what", "examples changed"]
    return table(heading, rows, [("", 1), ("strength at severity", len(severities)), ("", 2)])


def _passed_over(report: Mapping[str, Any], kinds: Mapping[str, Any]) -> str:
    """List what is not in the tables, and why."""
    told = [f"Left out: {', '.join(names)}: {why}." for why, names in by_reason(report["left_out"]).items()]
    for name, kind in kinds.items():
        if kind["languages_passed_over"]:
            told.append(f"{name} is not defined for documents in {', '.join(kind['languages_passed_over'])}.")
        if kind["passed_over"]:
            told.append(f"{name} does not apply to {kind['passed_over']:,} examples.")
        if kind["unreadable"]:
            told.append(f"{name}: {kind['unreadable']:,} examples could not be read.")
    if not told:
        return "<p>Every kind applies to every example.</p>"
    return f"<ul>{''.join(f'<li>{escape(one_line(text))}</li>' for text in told)}</ul>"


def _samples(kinds: Mapping[str, Any]) -> str:
    """A document's beginning before and after."""
    rows = [
        f'<tr><td>{escape(name)}, {escape(sample["severity"])}<br><span class="soft">{escape(sample["language"])}'
        f'</span></td><td dir="auto">{escape(sample["before"])}</td><td dir="auto">{escape(sample["after"])}</td></tr>'
        for name, kind in kinds.items()
        if (sample := kind.get("sample"))
    ]
    if not rows:
        return ""
    return (
        '<h2>What it does to a document</h2><div class="wide"><table class="done"><thead><tr><th scope="col">kind, '
        'severity</th><th scope="col">before</th><th scope="col">after</th></tr></thead><tbody>'
        f"{''.join(rows)}</tbody></table></div>"
    )


def as_percent(value: float | None) -> str:
    """An MMI; a dash where there is none."""
    return "–" if value is None else f"{value:.1%}"
