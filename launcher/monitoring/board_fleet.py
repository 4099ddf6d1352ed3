"""Dashboard "D2TV fleet": all runs of this Prometheus, which of them need a person, and how they compare."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from launcher.monitoring.board import Row, assemble, some_runs
from launcher.monitoring.panels import FULL, THIRD, AnyPanel, Limits, alerts, graph
from launcher.monitoring.queries import SOME_RUNS, highest, series, title
from launcher.monitoring.tables import Column, joined, listing

_THIS_RUN = "/d/d2tv-run?var-run=${__data.fields.run}&${datasource:queryparam}&${__url_time_range}"
_UP = 'count by (run) (up{job="d2tv",run=~"$run"}'


def build() -> Dashboard:
    return assemble(
        uid="d2tv-fleet",
        title="D2TV fleet",
        description="All runs: which need a person, how far they are, how they compare.",
        variables=[some_runs()],
        alerts='run=~"$run"',
        rows=[
            Row("Which need a person?", _attention()),
            Row("Runs", _runs()),
            Row("How do they compare?", _comparison()),
        ],
        since="now-24h",
    )


def _attention() -> list[AnyPanel]:
    return [
        alerts(
            "Alerts",
            "Firing and pending. Good: none. Each leads to its section of docs/runbook.md. Grafana lists a "
            'Prometheus\' alerts where its data source has "Manage alerts via Alerting UI" switched on.',
            width=THIRD,
            height=9,
        ),
        listing(
            "Alerts that fire, from Prometheus",
            "Good: none. Those of Slurm's jobs have no run.",
            'ALERTS{alertstate="firing",alertname=~"D2tv.+"}',
            ["alertname", "severity", "run", "node", "target", "slurm_job"],
            width=THIRD,
            height=9,
        ),
        listing(
            "Slurm jobs that run without an endpoint",
            "Good: none but those of the last minutes. After ten D2tvSlurmJobWithoutEndpoint fires. Needs "
            "launcher/monitoring/slurm_jobs.sh.",
            'max by (slurm_job, name) (d2tv_slurm_job_running) unless on (slurm_job) up{job="d2tv"} == 1',
            ["slurm_job", "name"],
            width=THIRD,
            height=9,
        ),
    ]


def _runs() -> list[AnyPanel]:
    columns = [
        Column(name="done", expr=f"{_highest('step')} / {_highest('steps_planned')}", unit="percentunit", decimals=1),
        Column(name="time left", expr=series("run:d2tv_remaining_seconds:mean1h", SOME_RUNS)),
        Column(
            name="sign of life",
            expr=series("run:d2tv_progress_age_seconds:min", SOME_RUNS),
            limits=Limits(yellow=60, red=300),
        ),
        Column(
            name="unsaved",
            expr=series("run:d2tv_unsaved_seconds:max", SOME_RUNS),
            limits=Limits(yellow=7200, red=14400),
        ),
        Column(name="endpoints down", expr=f"{_UP} == 0) or 0 * {_UP})", limits=Limits(yellow=1, red=1)),
        Column(name="starts before", expr=series("run:d2tv_restarts:max", SOME_RUNS)),
        Column(name="ranks", expr=series("run:d2tv_ranks:count", SOME_RUNS)),
        Column(name="examples/s", expr=_highest("examples_per_second"), decimals=1),
        Column(name="MFU", expr=_highest("mfu_ratio"), decimals=1),
        Column(name="J", expr=_highest("loss", term="total"), decimals=3),
        Column(name="held-out MMS", expr=_highest("validation_nll_nats", kind="mms"), unit="none", decimals=3),
        Column(name="held-out MXLS", expr=_highest("validation_nll_nats", kind="mxls"), unit="none", decimals=3),
    ]
    return [
        joined(
            "Runs",
            "One row a run that is scraped now; its name leads to it. Good: a sign of life within seconds, little "
            "unsaved, no endpoint down.",
            Column(name="run", unit="string", links={"This run": _THIS_RUN}),
            columns,
            sort="run",
            height=10,
        )
    ]


def _comparison() -> list[AnyPanel]:
    return [
        graph(
            "Held-out NLL, cross-lingual",
            "At every validation. Comparable between runs of one corpus and tokenizer.",
            {"{{run}}": _highest("validation_nll_nats", kind="mxls")},
        ),
        graph(
            "J",
            "The loss of each logged interval. Comparable between runs of one objective.",
            {"{{run}}": _highest("loss", term="total")},
            log=True,
        ),
        graph(
            "Target tokens a second and rank",
            "Good: runs of one model on one kind of machine are alike.",
            {"{{run}}": series("run:d2tv_rank_tokens_per_second:mean15m", SOME_RUNS)},
        ),
        graph(
            title("mfu_ratio"),
            "Against the peak that each run measured at its start.",
            {"{{run}}": _highest("mfu_ratio")},
        ),
        graph(
            "Age of the newest checkpoint",
            "By the clock, pauses and evaluations included.",
            {"{{run}}": f"time() - {_highest('checkpoint_timestamp_seconds')}"},
            width=FULL,
        ),
    ]


def _highest(name: str, **labels: str) -> str:
    return highest(name, "run", SOME_RUNS, **labels)
