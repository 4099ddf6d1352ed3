"""Show one run from its recipe, records and evaluations: the page of `d2tv report`."""

import time
from typing import Any

from launcher.pages import run_results, timeline
from launcher.pages.curves import Chart, Marks, draw
from launcher.pages.templates import render
from trainer.runs.directory import RunDirectory
from trainer.runs.events import Spike
from trainer.runs.history import Curve, History
from trainer.runs.state import State, state_of
from trainer.runs.words import count, duration, figure, percent

#: Curves of numbers of the train records: title, unit, the record's key.
_RATES = (
    ("Gradient norm", "global, before clipping", "gradient_norm"),
    ("Examples a second", "", "examples_per_second"),
    ("Target tokens a second", "", "target_tokens_per_second"),
    ("Seconds a step", "", "step_seconds"),
    ("Data wait", "share of a step's time", "data_wait_share"),
    ("MFU", "model FLOP/s over the peak", "mfu"),
    ("Slowest rank", "seconds a step over the median rank", "slowest_rank_lag_seconds"),
)
_SHARES = ("data_wait_share", "mfu")


def run_page(run: RunDirectory, now: float | None = None) -> str:
    """Return the page of a run as it is at `now`, a Unix time; None: this moment."""
    now = time.time() if now is None else now
    history, state = run.history, state_of(run, now)
    return render(
        "run.html.jinja",
        title=f"{run.name} – d2tv report",
        run=run,
        now=now,
        state=state,
        words=_words(run),
        facts=_facts(run, state),
        charts=_charts(history),
        timeline=timeline.timeline(history),
        starts=timeline.start_rows(history),
        events=timeline.event_rows(history),
        directions=run_results.directions(history),
        targets=run_results.target_languages(history),
        evaluations=run_results.evaluations(run),
        placeholders=run_results.placeholders(run),
    )


def _words(run: RunDirectory) -> str:
    settings = {"objective ": run.objective, "corpus ": run.corpus, "": run.setting("training", "precision")}
    return " · ".join([str(run.path), *(f"{label}{value}" for label, value in settings.items() if value)])


def _facts(run: RunDirectory, state: State) -> dict[str, str]:
    history = run.history
    facts = {"steps": count(state.step) + (f" of {run.planned:,}" if run.planned else "")}
    if state.left_seconds is not None and state.phase in ("training", "evaluating", "beginning"):
        facts["left, about"] = duration(state.left_seconds)
    if history.training_seconds:
        facts["time in steps"] = duration(history.training_seconds)
    began = next((start.began for start in history.starts if start.began is not None), None)
    if began is not None and history.last_time is not None:
        facts["since the first start"] = duration(history.last_time - began)
    if history.starts:
        facts["restarts"] = count(history.restarts)
    if history.world_size:
        facts["ranks"] = count(history.world_size)
    if history.recent:
        facts["examples"] = count(history.examples)
        facts["target tokens"] = count(history.target_tokens)
        facts |= {name: count(number) for name, number in history.problem_counts().items()}
    for kind, curve in history.curves.get("held-out", {}).items():
        facts[f"held-out NLL {kind}"] = figure(curve.values[-1])
    for name in ("latest", "best"):
        if found := run.checkpoint(name):
            facts[f"{name} checkpoint"] = found
    return facts


def _charts(history: History) -> list[dict[str, Any]]:
    curves = history.curves
    rates, loss = curves.get("rates", {}), curves.get("loss", {})
    training, held_out = curves.get("nll", {}), curves.get("held-out", {})
    kinds = list(dict.fromkeys([*training, *held_out]))

    def rate(key: str) -> dict[str, Curve]:
        return {key.replace("_", " "): rates[key]} if key in rates else {}

    charts = [
        Chart(title="Loss", unit="J", curves={name: curve for name, curve in loss.items() if name == "total"}),
        Chart(
            title="Loss by term",
            unit="before its weight",
            curves={name: curve for name, curve in loss.items() if name != "total"},
        ),
        Chart(
            title="NLL by kind",
            unit="nats a target token",
            curves={f"training {kind}": curve for kind, curve in training.items()}
            | {f"held-out {kind}": curve for kind, curve in held_out.items()},
            dashed=frozenset(f"held-out {kind}" for kind in held_out),
            colours={f"{when} {kind}": index for index, kind in enumerate(kinds) for when in ("training", "held-out")},
        ),
        Chart(title="Learning rate", unit="", curves=rate("learning_rate"), from_zero=True, exact=True),
        *(
            Chart(
                title=title,
                unit=unit,
                curves=rate(key),
                spell=percent if key in _SHARES else figure,
                from_zero=True,
            )
            for title, unit, key in _RATES
        ),
        Chart(title="Loss scale", unit="fp16", curves=rate("loss_scale"), exact=True),
        Chart(
            title="What the objective tells of itself",
            unit="",
            curves=curves.get("scalars", {}),
            exact=True,
            titled=False,
        ),
    ]
    marks = Marks(
        last_step=max((curve.steps[-1] for group in curves.values() for curve in group.values()), default=0),
        breaks=history.breaks(),
        spikes={spike.step: spike.words for spike in history.of_type(Spike)},
    )
    return [drawn for chart in charts if (drawn := draw(chart, marks)) is not None]
