"""The page of `d2tv report`: one run from its recipe, records and evaluations, whatever of them there is."""

import time
from collections.abc import Mapping

from launcher.pages import choice, curves, dots, matrix, run_results, timeline
from launcher.pages.curves import Chart, Marks, chart
from launcher.pages.page import escape, page
from trainer.runs.directory import RunDirectory
from trainer.runs.history import Curve
from trainer.runs.state import State, state_of
from trainer.runs.words import duration, figure, moment, number

_STYLE = (
    matrix.STYLE
    + choice.STYLE
    + dots.STYLE
    + curves.STYLE
    + timeline.STYLE
    + run_results.STYLE
    + """
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(10.5rem, 1fr)); gap: .75rem 1rem;
  margin: 1rem 0; }
.facts div { border-left: 3px solid var(--line); padding-left: .6rem; } .facts dd { margin: 0; font-size: 1.15rem; }
.facts dt { color: var(--soft); font-size: .85rem; } .state { font-weight: 600; }
.not-begun, .beginning, .evaluating { color: var(--accent); } .training, .finished { color: var(--c2); }
.silent, .stopped { color: var(--c5); } .failed { color: var(--bad); }
details summary { cursor: pointer; margin: .75rem 0 .25rem; } pre { overflow-x: auto; background: var(--panel);
  padding: .75rem 1rem; border-radius: 6px; font-size: .85rem; }
nav { display: flex; flex-wrap: wrap; gap: .25rem .9rem; margin: .75rem 0; }
"""
)


def run_page(run: RunDirectory, now: float | None = None) -> str:
    """The whole document, as the run is at `now` (a Unix time; default: this moment). Loads nothing."""
    now = time.time() if now is None else now
    state = state_of(run, now)
    sections = {
        "Curves": _curves(run),
        "Course": _course(run),
        "Directions": run_results.directions(run.history),
        "Target languages": run_results.target_languages(run.history),
        "Evaluation": run_results.evaluations(run),
        "Placeholders": run_results.placeholders(run.path / "unreadable.jsonl"),
        "Recipe": _recipe(run),
    }
    links = "".join(f'<a href="#{_anchor(title)}">{title}</a>' for title in sections)
    body = [_head(run, state, now), f"<nav>{links}</nav>"]
    body += [f'<h2 id="{_anchor(title)}">{title}</h2>\n{html}' for title, html in sections.items()]
    return page(f"{run.name} – d2tv report", "\n".join(body), _STYLE)


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


def _head(run: RunDirectory, state: State, now: float) -> str:
    history = run.history
    words = [str(run.path)]
    for label, keys in (("objective", ("objective", "name")), ("corpus", ("corpus", "path"))):
        value = run.setting(*keys)
        if value is not None:
            words.append(f"{label} {value}")
    precision = run.setting("training", "precision")
    if precision:
        words.append(str(precision))
    facts = {"steps": f"{state.step:,}" + (f" of {run.planned:,}" if run.planned else "")}
    if state.left_seconds is not None and state.phase in ("training", "evaluating", "beginning"):
        facts["left, about"] = duration(state.left_seconds)
    if history.training_seconds:
        facts["time in steps"] = duration(history.training_seconds)
    began = next((life.began for life in history.lives if life.began is not None), None)
    if began is not None and history.last_time is not None:
        facts["since the first start"] = duration(history.last_time - began)
    if history.lives:
        facts["restarts"] = f"{history.restarts:,}"
        if ranks := history.lives[-1].world_size:
            facts["ranks"] = f"{ranks:,}"
    if history.recent:
        facts["examples"] = f"{history.examples:,.0f}"
        facts["target tokens"] = f"{history.target_tokens:,.0f}"
        for key, label in (("skipped_steps", "skipped steps"), ("unreadable", "placeholders")):
            count = number(history.last_train.get(key))
            if count is not None:
                facts[label] = f"{count:,.0f}"
    for kind, curve in history.curves.get("held-out", {}).items():
        facts[f"held-out NLL {kind}"] = figure(curve.values[-1])
    for name in ("latest", "best"):
        if found := run.checkpoint(name):
            facts[f"{name} checkpoint"] = found
    cells = "".join(f"<div><dt>{escape(term)}</dt><dd>{escape(fact)}</dd></div>" for term, fact in facts.items())
    return (
        f'<h1>{escape(run.name)}</h1><p class="soft">{escape(" · ".join(words))}</p>'
        f'<p><span class="state {state.phase.replace(" ", "-")}">{escape(state.words)}</span> '
        f'<span class="soft">(as of {moment(now)} UTC)</span></p><dl class="facts">{cells}</dl>'
    )


def _percent(value: float) -> str:
    return f"{100 * value:.3g}%"


def _curves(run: RunDirectory) -> str:
    history = run.history
    found, rates, loss = history.curves, history.curves.get("rates", {}), history.curves.get("loss", {})

    def only(*names: str) -> Mapping[str, Curve]:
        return {name.replace("_", " "): rates[name] for name in names if name in rates}

    held_out = {f"held-out {kind}": curve for kind, curve in found.get("held-out", {}).items()}
    nll = {f"training {kind}": curve for kind, curve in found.get("nll", {}).items()} | held_out
    kinds = list(dict.fromkeys([*found.get("nll", {}), *found.get("held-out", {})]))
    charts = (
        Chart(title="Loss", unit="J", curves={name: curve for name, curve in loss.items() if name == "total"}),
        Chart(
            title="Loss by term",
            unit="before its weight",
            curves={name: curve for name, curve in loss.items() if name != "total"},
        ),
        Chart(
            title="NLL by kind",
            unit="nats a target token",
            curves=nll,
            dashed=frozenset(held_out),
            colours={f"{when} {kind}": place for place, kind in enumerate(kinds) for when in ("training", "held-out")},
        ),
        Chart(title="Learning rate", unit="", curves=only("learning_rate"), from_zero=True, exact=True),
        Chart(title="Gradient norm", unit="global, before clipping", curves=only("gradient_norm"), from_zero=True),
        Chart(title="Examples a second", unit="", curves=only("examples_per_second"), from_zero=True),
        Chart(title="Target tokens a second", unit="", curves=only("target_tokens_per_second"), from_zero=True),
        Chart(title="Seconds a step", unit="", curves=only("step_seconds"), from_zero=True),
        Chart(
            title="Data wait",
            unit="share of a step's time",
            curves=only("data_wait_share"),
            spell=_percent,
            from_zero=True,
        ),
        Chart(title="MFU", unit="model FLOP/s over the peak", curves=only("mfu"), spell=_percent, from_zero=True),
        Chart(
            title="Slowest rank",
            unit="seconds a step over the median rank",
            curves=only("slowest_rank_lag_seconds"),
            from_zero=True,
        ),
        Chart(title="Loss scale", unit="fp16", curves=only("loss_scale"), exact=True),
        Chart(
            title="What the objective tells of itself",
            unit="",
            curves=found.get("scalars", {}),
            exact=True,
            title_says_it=False,
        ),
    )
    marks = Marks(
        last_step=max((curve.steps[-1] for group in found.values() for curve in group.values()), default=0),
        breaks=history.breaks(),
        spikes={event.step: timeline.spike_in_words(event) for event in history.of_kind("spike")},
    )
    drawn = [html for one in charts if (html := chart(one, marks))]
    if not drawn:
        return "<p>No step is logged yet.</p>"
    return (
        '<p class="soft">Over steps. Dotted lines: the run went on, or went back, from there; red triangles: spikes of '
        "the loss; red crosses: values that are not finite. Point at a place for its numbers.</p>"
        f'<div class="charts">{"".join(drawn)}</div>'
    )


def _course(run: RunDirectory) -> str:
    html = timeline.timeline(run.history)
    if not html:
        return "<p>Nothing is recorded yet.</p>"
    note = ""
    if len(run.history.lives) > 1:
        note = (
            " What a start did after the checkpoint that the next one went on from is not in the records: those steps "
            "were taken again."
        )
    return f'<p class="soft">Real time, UTC.{note}</p>{html}'


def _recipe(run: RunDirectory) -> str:
    if not run.recipe_text:
        return "<p>recipe.yaml is not written yet.</p>"
    return f"<details><summary>recipe.yaml, resolved</summary><pre>{escape(run.recipe_text)}</pre></details>"
