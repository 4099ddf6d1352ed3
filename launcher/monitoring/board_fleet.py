"""Dashboard "D2TV fleet": all runs of this Prometheus, which of them need a person, and how they compare."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from launcher.monitoring.board import Row, assemble, some_runs
from launcher.monitoring.panels import FULL, HALF, THIRD, Limits, Query, alerts, graph
from launcher.monitoring.tables import Column, joined, listing

_RUN = '{run=~"$run"}'
_KEEP = "${datasource:queryparam}&${__url_time_range}"


def build() -> Dashboard:
    return assemble(
        uid="d2tv-fleet",
        title="D2TV fleet",
        description="All runs: which need a person, how far they are, how they compare.",
        variables=[some_runs()],
        alerts='run=~"$run"',
        rows=[_attention(), _runs(), _comparison()],
        since="now-24h",
    )


def _attention() -> Row:
    return Row(
        title="Which need a person?",
        panels=[
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
                Query(expr='ALERTS{alertstate="firing",alertname=~"D2tv.+"}'),
                labels=["alertname", "severity", "run", "node", "target", "slurm_job"],
                width=THIRD,
                height=9,
            ),
            listing(
                "Slurm jobs that run without an endpoint",
                "Good: none but those of the last minutes. After ten D2tvSlurmJobWithoutEndpoint fires. Needs "
                "launcher/monitoring/slurm_jobs.sh.",
                Query(
                    expr='max by (slurm_job, name) (d2tv_slurm_job_running) unless on (slurm_job) up{job="d2tv"} == 1'
                ),
                labels=["slurm_job", "name"],
                width=THIRD,
                height=9,
            ),
        ],
    )


def _runs() -> Row:
    return Row(
        title="Runs",
        panels=[
            joined(
                "Runs",
                "One row a run that is scraped now; its name leads to it. Good: a sign of life within seconds, little "
                "unsaved, no endpoint down.",
                Column(
                    name="run",
                    unit="string",
                    links={"This run": f"/d/d2tv-run?var-run=${{__data.fields.run}}&{_KEEP}"},
                ),
                [
                    (
                        Column(name="done", unit="percentunit", decimals=1),
                        f"max by (run) (d2tv_step{_RUN}) / max by (run) (d2tv_steps_planned{_RUN})",
                    ),
                    (Column(name="time left", unit="s"), f"run:d2tv_remaining_seconds:mean1h{_RUN}"),
                    (
                        Column(name="sign of life", unit="s", limits=Limits(yellow=60, red=300)),
                        f"run:d2tv_progress_age_seconds:min{_RUN}",
                    ),
                    (
                        Column(name="unsaved", unit="s", limits=Limits(yellow=7200, red=14400)),
                        f"run:d2tv_unsaved_seconds:max{_RUN}",
                    ),
                    (
                        Column(name="endpoints down", limits=Limits(yellow=1, red=1)),
                        'count by (run) (up{job="d2tv",run=~"$run"} == 0) '
                        'or 0 * count by (run) (up{job="d2tv",run=~"$run"})',
                    ),
                    (Column(name="starts before"), f"run:d2tv_restarts:max{_RUN}"),
                    (Column(name="ranks"), f"run:d2tv_ranks:count{_RUN}"),
                    (Column(name="examples/s", decimals=1), f"max by (run) (d2tv_examples_per_second{_RUN})"),
                    (
                        Column(name="MFU", unit="percentunit", decimals=1),
                        f"max by (run) (d2tv_mfu_ratio{_RUN})",
                    ),
                    (Column(name="J", decimals=3), 'max by (run) (d2tv_loss{run=~"$run",term="total"})'),
                    (
                        Column(name="held-out MMS", unit="none", decimals=3),
                        'max by (run) (d2tv_validation_nll_nats{run=~"$run",kind="mms"})',
                    ),
                    (
                        Column(name="held-out MXLS", unit="none", decimals=3),
                        'max by (run) (d2tv_validation_nll_nats{run=~"$run",kind="mxls"})',
                    ),
                ],
                sort="run",
                descending=False,
                height=10,
            )
        ],
    )


def _comparison() -> Row:
    return Row(
        title="How do they compare?",
        panels=[
            graph(
                "Held-out NLL, cross-lingual",
                "At every validation. Comparable between runs of one corpus and tokenizer.",
                [Query(expr='max by (run) (d2tv_validation_nll_nats{run=~"$run",kind="mxls"})', legend="{{run}}")],
            ),
            graph(
                "J",
                "The loss of each logged interval. Comparable between runs of one objective.",
                [Query(expr='max by (run) (d2tv_loss{run=~"$run",term="total"})', legend="{{run}}")],
                log=True,
            ),
            graph(
                "Target tokens a second and rank",
                "Good: runs of one model on one kind of machine are alike.",
                [Query(expr=f"run:d2tv_rank_tokens_per_second:mean15m{_RUN}", legend="{{run}}")],
            ),
            graph(
                "Model FLOP/s utilization",
                "Against the peak that each run measured at its start.",
                [Query(expr=f"max by (run) (d2tv_mfu_ratio{_RUN})", legend="{{run}}")],
                unit="percentunit",
                width=HALF,
            ),
            graph(
                "Age of the newest checkpoint",
                "By the clock, pauses and evaluations included.",
                [
                    Query(
                        expr=f"time() - max by (run) (d2tv_checkpoint_timestamp_seconds{_RUN})",
                        legend="{{run}}",
                    )
                ],
                unit="s",
                width=FULL,
            ),
        ],
    )
