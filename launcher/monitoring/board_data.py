"""Dashboard "D2TV data and languages": does every language get its share, and what does it learn from it."""

from grafana_foundation_sdk.models.dashboard import Dashboard, FieldColorModeId

from launcher.monitoring.board import Row, assemble, one_run
from launcher.monitoring.panels import QUARTER, THIRD, AnyPanel, Limits, graph, number
from launcher.monitoring.queries import highest, per_second, series, title, total
from launcher.monitoring.tables import Column, joined, listing, matrix

_BAD_IS_RED = FieldColorModeId.CONTINUOUS_GR_YL_RD
_DIRECTION = "{{source}} > {{target}}"
_WORST = highest("worst_direction_nll_nats", "source, target")


def build() -> Dashboard:
    return assemble(
        uid="d2tv-data",
        title="D2TV data and languages",
        description="One run: shares of the languages, NLL by target, by source and by direction, and unreadable data.",
        variables=[one_run()],
        alerts='run="$run",alertname=~"D2tvLanguageStarving|D2tvPlaceholdersRising|D2tvReadRetriesRising|D2tvDataBound"',
        rows=[
            Row("Does every language get its share?", _shares()),
            Row("What does each language learn?", _nll()),
            Row("Directions", _directions()),
            Row("Can the data be read?", _reading()),
        ],
    )


def _shares() -> list[AnyPanel]:
    quota, share = (highest(f"target_{name}_ratio", "target") for name in ("quota", "share"))
    recorded = (series(f"run_target:d2tv_target_{name}_ratio:mean1h") for name in ("share", "quota"))
    low = Limits(yellow=0.8, red=0.5, low=True)
    columns = [
        Column(name="quota", expr=quota, decimals=2),
        Column(name="share", expr=share, decimals=2),
        Column(name="share / quota", expr=f"{share} / ({quota} > 0)", unit="short", decimals=2, limits=low),
        Column(name="examples", expr=total("examples_total", "target")),
        Column(name="tokens", expr=total("target_tokens_total", "target")),
        _nats("MMS", "target_nll_nats", "mms"),
        _nats("MXLS", "target_nll_nats", "mxls"),
        _nats("held-out MMS", "validation_target_nll_nats", "mms"),
        _nats("held-out MXLS", "validation_target_nll_nats", "mxls"),
        Column(
            name="ROUGE-L",
            expr=highest("target_rouge_ratio", "target"),
            decimals=1,
            scheme=FieldColorModeId.CONTINUOUS_GREENS,
        ),
    ]
    return [
        joined(
            "Languages",
            "One row a target language. Good: share / quota near 1 (below 0.5 for an hour raises "
            "D2tvLanguageStarving), held-out NLL near the training NLL, and no language far above the others in "
            "NLL. ROUGE-L is there after the final evaluation.",
            Column(name="target", unit="string"),
            columns,
            sort="share / quota",
            height=16,
        ),
        graph(
            "The ten languages furthest below their quota",
            "Recent share of the examples over the share that the mixture gives. Good: all near 1.",
            {"{{target}}": f"bottomk(10, {next(recorded)} / ({next(recorded)} > 0))"},
            unit="short",
            limits=low,
        ),
        listing(
            "Passes over the rarest directions",
            "How often the examples of the ten rarest directions have been trained on. Many passes are how a "
            "mixture overfits small directions: mixture.max_passes limits them.",
            highest("rarest_direction_passes", "source, target"),
            ["source", "target"],
            Column(name="passes", decimals=1),
        ),
    ]


def _nll() -> list[AnyPanel]:
    return [
        graph(
            "Training NLL by target language, cross-lingual",
            "Recent nats a target token. Good: all fall. One that stays behind is rare, or its texts are odd.",
            {"{{target}}": highest("target_nll_nats", "target", kind="mxls")},
            width=THIRD,
        ),
        graph(
            "Held-out NLL by target language, cross-lingual",
            "At every validation. Good: falls with the training NLL; one that turns up is being memorized.",
            {"{{target}}": highest("validation_target_nll_nats", "target", kind="mxls")},
            width=THIRD,
        ),
        graph(
            "Training NLL by source language",
            "Cross-lingual examples by what was read. One far above the others: its documents are cut short, or "
            "not in that language.",
            {"{{source}}": highest("source_nll_nats", "source")},
            width=THIRD,
        ),
    ]


def _directions() -> list[AnyPanel]:
    nll = f"{highest('direction_nll_nats', 'source, target')} or {_WORST}"
    examples = highest("direction_examples", "source, target")
    return [
        matrix(
            "NLL of every direction: sources down, targets across",
            "Recent nats a target token, the diagonal is MMS. Good: an even colour. A red column is a target "
            "language that is not learned, a red row a source that is not understood. Of all directions with "
            "prometheus.direction_matrix=true, else of the worst 20 only.",
            Column(name="NLL", expr=nll, unit="none", decimals=1, scheme=_BAD_IS_RED),
            height=44,
        ),
        matrix(
            "Examples of every direction since this start",
            "Empty without prometheus.direction_matrix=true. Good: even along a column, as far as the corpus has "
            "examples; what an empty cell has none of, the mixture or the corpus leaves out.",
            Column(name="examples", expr=examples, decimals=0, scheme=FieldColorModeId.CONTINUOUS_BLUES),
            height=24,
        ),
        listing(
            "The worst 20 directions",
            "Recent nats a target token. Good: near the run's mean, and another set of them every time.",
            _WORST,
            ["source", "target"],
            Column(name="NLL", unit="none", decimals=2, scheme=_BAD_IS_RED),
            width=THIRD,
        ),
        graph(
            "The worst directions over time",
            "A direction that stays among them is worth a look at its texts: d2tv preview DATA --story KEY.",
            {_DIRECTION: _WORST},
            width=THIRD,
        ),
        number(
            "Directions beyond the worst 20",
            "With a recent NLL, and without a series of their own.",
            highest("worst_directions_truncated"),
            width=THIRD,
        ),
    ]


def _reading() -> list[AnyPanel]:
    return [
        graph(
            "Examples with a placeholder, by direction",
            "Since this start. Good: none. A tenth of loader.max_unreadable_share's default within an hour raises "
            "D2tvPlaceholdersRising; RUN/unreadable.jsonl names each.",
            {_DIRECTION: total("unreadable_examples_total", "source, target")},
        ),
        graph(
            "Retries an example",
            "Reads that were tried again. Good: none. 1% raises D2tvReadRetriesRising.",
            {"retries": series("run:d2tv_read_retries:ratio15m")},
            limits=Limits(yellow=0.001, red=0.01),
        ),
        graph(
            "Examples a second by kind",
            "Of the last ten minutes. Good: in the proportion of the mixture.",
            {"{{kind}}": f"sum by (kind) ({per_second('examples_total')})"},
            width=QUARTER,
        ),
        graph(
            "Target tokens a second by branch",
            "Of the last ten minutes. The teacher (mms) reads every row, the student (mxls) the cross-lingual ones.",
            {"{{branch}}": f"sum by (branch) ({per_second('target_tokens_total')})"},
            width=QUARTER,
        ),
        graph(
            "Cross-lingual examples by source",
            "Those of the ten sources with the most, since this start, and their target tokens.",
            {
                "{{source}}": f"topk(10, {total('source_examples_total', 'source')})",
                "{{source}}, tokens": f"topk(10, {total('source_target_tokens_total', 'source')})",
            },
            log=True,
            width=QUARTER,
        ),
        graph(
            title("padding_ratio"),
            "Places of self-attention over texts that hold no token. Good: below 20%; more is computed in vain.",
            {"padding": highest("padding_ratio")},
            limits=Limits(yellow=0.2, red=0.4),
            width=QUARTER,
        ),
    ]


def _nats(name: str, metric: str, kind: str) -> Column:
    return Column(name=name, expr=highest(metric, "target", kind=kind), unit="none", decimals=2, scheme=_BAD_IS_RED)
