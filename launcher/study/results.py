"""Write a study's results, as Markdown, JSON, LaTeX and HTML: scores, claims, spread over seeds, costs."""

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

from launcher.comparison.blocks import blocks
from launcher.comparison.sheet import as_latex, as_markdown, as_text
from launcher.pages.sheet import Sheet, as_page, words
from launcher.study.claims import Outcome, check_claims, places_by_direction
from launcher.study.costs import machine, read_costs
from launcher.study.definition import Definition, DirectionKind, Trial
from launcher.study.step_costs import StepCost, cost_sheet, read_step_costs
from shards.files.write import write_output
from shards.languages import language_name
from trainer import markdown
from trainer.evaluation.compare.measure_names import SHORT
from trainer.evaluation.compare.systems import Scores, System, read_systems
from trainer.terminal.text import Console

#: Files with the results of the whole study.
RESULTS = ("study.md", "study.json", "table.tex", "table.html")
_SEED = 0


def write_results(
    definition: Definition, trials: Sequence[Trial], out: Path, *, samples: int, command: str, console: Console
) -> None:
    """Write and print the results of the trainings' evaluations.

    Raises `InputError` where one is missing or a file cannot be written.
    """
    scores = _read(definition, trials)
    by_seed = [_read(definition, [t for t in trials if t.seed == seed]) for seed in definition.seeds]
    subset = trials[0].recipe.mixture.languages
    count = len(definition.seeds)
    table = blocks(
        scores,
        f"{out.name}: {len(definition.compared)} models, {count} seed{'s' if count > 1 else ''} each",
        split="test",
        baseline=definition.baseline,
        measures=definition.measures,
        samples=samples,
        seed=_SEED,
        languages=None if subset is None else [language_name(word) for word in subset],
    )
    outcomes = check_claims(definition.claims, scores, by_seed, definition.measures, samples=samples, seed=_SEED)
    step_costs = read_step_costs(definition, trials)
    claims, spread = _claims(outcomes, count), _spread(definition, by_seed)
    cost = cost_sheet(step_costs, definition.baseline)
    text = "\n".join(
        [
            f"# {markdown.as_text(table.title)}\n",
            *(f"- {line}" for line in _facts(definition, trials, out, command)),
            "\n## Scores\n",
            f"Held-out examples, the mean of {count} seeds; in per cent"
            f"{'' if scores.profile is None else f', ROUGE F1 as {scores.profile}'}.\n",
            as_markdown(table),
            "## Claims\n",
            as_markdown(claims),
            "## Seeds\n",
            as_markdown(spread),
            "## Cost of a step\n",
            as_markdown(cost),
        ]
    )
    numbers = _numbers(definition, outcomes, step_costs)
    for name, written in zip(RESULTS, (text, numbers, as_latex(table), as_page(table)), strict=True):
        write_output(out / name, written)
    for sheet in (table, claims, spread, cost):
        console.print(as_text(sheet))
    console.print(f"written: {out}/{', '.join(RESULTS)}")


def _read(definition: Definition, trials: Sequence[Trial]) -> Scores:
    systems = [
        System(name=model, runs=tuple(trial.run for trial in trials if trial.model == model))
        for model in definition.compared
    ]
    return read_systems(systems, split="test", measures=definition.measures)


def _claims(outcomes: Sequence[Outcome], seeds: int) -> Sheet:
    lines = []
    for one in outcomes:
        where = {"mms": "MMS", "mxls": "MXLS", "all": "all"}[one.claim.kind]
        d = one.difference
        cells = [
            f"{one.claim.better} > {one.claim.than}",
            where,
            SHORT[one.measure],
            one.verdict,
            f"{d.mean:+.2f} ({d.low:+.2f} to {d.high:+.2f})",
            f"{one.p:.4f}",
            f"{one.directions} of {one.of}",
            f"{one.seeds} of {seeds}",
        ]
        lines.append(tuple(map(words, cells)))
    return Sheet(
        title="claims",
        head=("claim", "directions", "measure", "verdict", "difference", "p", "directions won", "seeds won"),
        rows=tuple(lines),
        note="Difference: of the means over directions, with 95% of the resamples. holds, the contrary: p < 0.05, by "
        f"paired bootstrap over stories, corrected for {len(outcomes)} tests (Holm); may be chance: so, but p >= 0.05; "
        "not seen: neither.",
        labels=4,
    )


def _spread(definition: Definition, by_seed: Sequence[Scores]) -> Sheet:
    lines = []
    for name in definition.compared:
        cells = [words(name)]
        for kind in get_args(DirectionKind):
            texts = [_plus_minus(_means(by_seed, name, measure, kind)) for measure in definition.measures]
            cells.append(words(" / ".join(texts)))
        lines.append(tuple(cells))
    return Sheet(
        title="seeds",
        head=("model", "MMS", "MXLS", "all"),
        rows=tuple(lines),
        note=f"{' / '.join(SHORT[measure] for measure in definition.measures)}: mean over directions, and the "
        f"standard deviation of {len(by_seed)} seeds.",
    )


def _numbers(definition: Definition, outcomes: Sequence[Outcome], costs: Mapping[str, StepCost]) -> str:
    """Return claims and costs as JSON, unrounded. The scores are in the trainings' evaluations."""
    claims = [
        one.claim.model_dump()
        | {"measure": one.measure, "verdict": one.verdict, **asdict(one.difference), "p": one.p}
        | {"directions_won": one.directions, "directions": one.of, "seeds_won": one.seeds}
        for one in outcomes
    ]
    values = {
        "baseline": definition.baseline,
        "seeds": definition.seeds,
        "claims": claims,
        "step_costs": {model: asdict(cost) for model, cost in costs.items()},
    }
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def _means(by_seed: Sequence[Scores], name: str, measure: str, kind: DirectionKind) -> list[float]:
    """Return the mean over directions, for each seed that has such directions."""
    by_direction = [(scores.columns[name][measure], places_by_direction(scores, kind)) for scores in by_seed]
    return [
        statistics.fmean(statistics.fmean(column[place] for place in places) for places in groups)
        for column, groups in by_direction
        if groups
    ]


def _plus_minus(means: Sequence[float]) -> str:
    if not means:
        return "–"
    spread = f" ± {statistics.stdev(means):.2f}" if len(means) > 1 else ""
    return f"{statistics.fmean(means):.2f}{spread}"


def _facts(definition: Definition, trials: Sequence[Trial], out: Path, command: str) -> Iterator[str]:
    recipe = trials[0].recipe
    yield f"Command: {markdown.as_code(command)}"
    costs = read_costs(out, [trial.run.name for trial in trials])
    machines = dict.fromkeys(cost.machine for cost in costs if cost.machine is not None)
    yield f"Finished {datetime.now(UTC):%Y-%m-%d}, on {'; '.join(machines) or machine()}."
    wall, cpu = sum(cost.wall_seconds for cost in costs), sum(cost.cpu_seconds for cost in costs)
    cost_line = (
        f"{len(trials)} trainings with their evaluations took {wall / 3600:.2f} hours and {cpu / 60:.0f} CPU minutes, "
        f"in {len(costs)} attempts"
    )
    if cut := sum(not cost.ended for cost in costs):
        cost_line += f", of which {cut} {'was' if cut == 1 else 'were'} cut off: their last minute is not counted"
    if unknown := len({trial.run.name for trial in trials} - {cost.run for cost in costs}):
        cost_line += f"; of {unknown} trainings the cost is not known"
    yield f"{cost_line}."
    examples = recipe.batch.group_size * recipe.batch.groups_per_step
    yield f"{recipe.training.steps:,} steps of {examples} examples each; corpus {markdown.as_code(recipe.corpus.path)}."
    yield markdown.as_text(f"Tested against {definition.baseline}; recipes: {', '.join(definition.models.values())}.")
