"""Dashboard "D2TV data and languages": does every language get its share, and what does it learn from it."""

from grafana_foundation_sdk.models.dashboard import Dashboard, FieldColorModeId

from launcher.monitoring.board import Row, assemble, one_run
from launcher.monitoring.panels import QUARTER, THIRD, Limits, Query, graph, number
from launcher.monitoring.tables import Column, joined, listing, matrix

_RUN = '{run="$run"}'
_BAD_IS_RED = FieldColorModeId.CONTINUOUS_GR_YL_RD


def build() -> Dashboard:
    return assemble(
        uid="d2tv-data",
        title="D2TV data and languages",
        description="One run: shares of the languages, NLL by target, by source and by direction, and unreadable data.",
        variables=[one_run()],
        alerts='run="$run",alertname=~"D2tvLanguageStarving|D2tvPlaceholdersRising|D2tvReadRetriesRising|D2tvDataBound"',
        rows=[_shares(), _nll(), _directions(), _reading()],
    )


def _shares() -> Row:
    return Row(
        title="Does every language get its share?",
        panels=[
            joined(
                "Languages",
                "One row a target language. Good: share / quota near 1 (below 0.5 for an hour raises "
                "D2tvLanguageStarving), held-out NLL near the training NLL, and no language far above the others in "
                "NLL. ROUGE-L is there after the final evaluation.",
                Column(name="target", unit="string"),
                [
                    (_share("quota"), f"max by (target) (d2tv_target_quota_ratio{_RUN})"),
                    (_share("share"), f"max by (target) (d2tv_target_share_ratio{_RUN})"),
                    (
                        Column(name="share / quota", decimals=2, limits=Limits(yellow=0.8, red=0.5, low=True)),
                        f"max by (target) (d2tv_target_share_ratio{_RUN}) "
                        f"/ (max by (target) (d2tv_target_quota_ratio{_RUN}) > 0)",
                    ),
                    (Column(name="examples"), f"sum by (target) (d2tv_examples_total{_RUN})"),
                    (Column(name="tokens"), f"sum by (target) (d2tv_target_tokens_total{_RUN})"),
                    (_nats("MMS"), _by_target("d2tv_target_nll_nats", "mms")),
                    (_nats("MXLS"), _by_target("d2tv_target_nll_nats", "mxls")),
                    (_nats("held-out MMS"), _by_target("d2tv_validation_target_nll_nats", "mms")),
                    (_nats("held-out MXLS"), _by_target("d2tv_validation_target_nll_nats", "mxls")),
                    (
                        Column(
                            name="ROUGE-L", unit="percentunit", decimals=1, scheme=FieldColorModeId.CONTINUOUS_GREENS
                        ),
                        f"max by (target) (d2tv_target_rouge_ratio{_RUN})",
                    ),
                ],
                sort="share / quota",
                descending=False,
                height=16,
            ),
            graph(
                "The ten languages furthest below their quota",
                "Recent share of the examples over the share that the mixture gives. Good: all near 1.",
                [
                    Query(
                        expr="bottomk(10, run_target:d2tv_target_share_ratio:mean1h"
                        f"{_RUN} / (run_target:d2tv_target_quota_ratio:mean1h{_RUN} > 0))",
                        legend="{{target}}",
                    )
                ],
                limits=Limits(yellow=0.8, red=0.5, low=True),
            ),
            listing(
                "Passes over the rarest directions",
                "How often the examples of the ten rarest directions have been trained on. Many passes are how a "
                "mixture overfits small directions: mixture.max_passes limits them.",
                Query(expr=f"max by (source, target) (d2tv_rarest_direction_passes{_RUN})"),
                labels=["source", "target"],
                value=Column(name="passes", decimals=1),
            ),
        ],
    )


def _nll() -> Row:
    return Row(
        title="What does each language learn?",
        panels=[
            graph(
                "Training NLL by target language, cross-lingual",
                "Recent nats a target token. Good: all fall. One that stays behind is rare, or its texts are odd.",
                [Query(expr='max by (target) (d2tv_target_nll_nats{run="$run",kind="mxls"})', legend="{{target}}")],
                width=THIRD,
            ),
            graph(
                "Held-out NLL by target language, cross-lingual",
                "At every validation. Good: falls with the training NLL; one that turns up is being memorized.",
                [
                    Query(
                        expr='max by (target) (d2tv_validation_target_nll_nats{run="$run",kind="mxls"})',
                        legend="{{target}}",
                    )
                ],
                width=THIRD,
            ),
            graph(
                "Training NLL by source language",
                "Cross-lingual examples by what was read. One far above the others: its documents are cut short, or "
                "not in that language.",
                [Query(expr=f"max by (source) (d2tv_source_nll_nats{_RUN})", legend="{{source}}")],
                width=THIRD,
            ),
        ],
    )


def _directions() -> Row:
    nll = f"max by (source, target) (d2tv_direction_nll_nats{_RUN})"
    worst = f"max by (source, target) (d2tv_worst_direction_nll_nats{_RUN})"
    return Row(
        title="Directions",
        panels=[
            matrix(
                "NLL of every direction: sources down, targets across",
                "Recent nats a target token, the diagonal is MMS. Good: an even colour. A red column is a target "
                "language that is not learned, a red row a source that is not understood. Of all directions with "
                "prometheus.direction_matrix=true, else of the worst 20 only.",
                Query(expr=f"{nll} or {worst}"),
                Column(name="NLL", unit="none", decimals=1, scheme=_BAD_IS_RED),
                height=44,
            ),
            matrix(
                "Examples of every direction since this start",
                "Empty without prometheus.direction_matrix=true. Good: even along a column, as far as the corpus has "
                "examples; what an empty cell has none of, the mixture or the corpus leaves out.",
                Query(expr=f"max by (source, target) (d2tv_direction_examples{_RUN})"),
                Column(name="examples", unit="short", decimals=0, scheme=FieldColorModeId.CONTINUOUS_BLUES),
                height=24,
            ),
            listing(
                "The worst 20 directions",
                "Recent nats a target token. Good: near the run's mean, and another set of them every time.",
                Query(expr=worst),
                labels=["source", "target"],
                value=Column(name="NLL", unit="none", decimals=2, scheme=_BAD_IS_RED),
                width=THIRD,
            ),
            graph(
                "The worst directions over time",
                "A direction that stays among them is worth a look at its texts: d2tv preview DATA --story KEY.",
                [Query(expr=worst, legend="{{source}} > {{target}}")],
                width=THIRD,
            ),
            number(
                "Directions beyond the worst 20",
                "With a recent NLL, and without a series of their own.",
                Query(expr=f"max(d2tv_worst_directions_truncated{_RUN})"),
                width=THIRD,
            ),
        ],
    )


def _reading() -> Row:
    return Row(
        title="Can the data be read?",
        panels=[
            graph(
                "Examples with a placeholder, by direction",
                "Since this start. Good: none. A tenth of loader.max_unreadable_share's default within an hour raises "
                "D2tvPlaceholdersRising; RUN/unreadable.jsonl names each.",
                [
                    Query(
                        expr=f"sum by (source, target) (d2tv_unreadable_examples_total{_RUN})",
                        legend="{{source}} > {{target}}",
                    )
                ],
            ),
            graph(
                "Retries an example",
                "Reads that were tried again. Good: none. 1% raises D2tvReadRetriesRising.",
                [Query(expr=f"run:d2tv_read_retries:ratio15m{_RUN}", legend="retries")],
                unit="percentunit",
                limits=Limits(yellow=0.001, red=0.01),
            ),
            graph(
                "Examples a second by kind",
                "Of the last ten minutes. Good: in the proportion of the mixture.",
                [Query(expr=f"sum by (kind) (rate(d2tv_examples_total{_RUN}[10m]))", legend="{{kind}}")],
                width=QUARTER,
            ),
            graph(
                "Target tokens a second by branch",
                "Of the last ten minutes. The teacher (mms) reads every row, the student (mxls) the cross-lingual "
                "ones.",
                [Query(expr=f"sum by (branch) (rate(d2tv_target_tokens_total{_RUN}[10m]))", legend="{{branch}}")],
                width=QUARTER,
            ),
            graph(
                "Cross-lingual examples by source",
                "Those of the ten sources with the most, since this start, and their target tokens.",
                [
                    Query(expr=f"topk(10, sum by (source) (d2tv_source_examples_total{_RUN}))", legend="{{source}}"),
                    Query(
                        expr=f"topk(10, sum by (source) (d2tv_source_target_tokens_total{_RUN}))",
                        legend="{{source}}, tokens",
                    ),
                ],
                log=True,
                width=QUARTER,
            ),
            graph(
                "Padding",
                "Places of self-attention over texts that hold no token. Good: below 20%; more is computed in vain.",
                [Query(expr=f"max(d2tv_padding_ratio{_RUN})", legend="padding")],
                unit="percentunit",
                limits=Limits(yellow=0.2, red=0.4),
                width=QUARTER,
            ),
        ],
    )


def _share(name: str) -> Column:
    return Column(name=name, unit="percentunit", decimals=2)


def _nats(name: str) -> Column:
    return Column(name=name, unit="none", decimals=2, scheme=_BAD_IS_RED)


def _by_target(metric: str, kind: str) -> str:
    return f'max by (target) ({metric}{{run="$run",kind="{kind}"}})'
