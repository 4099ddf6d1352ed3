"""Dashboard "D2TV run": is this run well, what does it learn, what would a crash cost."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from launcher.monitoring.board import Row, assemble, one_run, some_nodes
from launcher.monitoring.panels import FULL, HALF, THIRD, Limits, Query, graph, number
from launcher.monitoring.tables import Column, listing

_RUN = '{run="$run"}'


def build() -> Dashboard:
    return assemble(
        uid="d2tv-run",
        title="D2TV run",
        description="One run: is it well, what does it learn, how fast, and what would a crash cost.",
        variables=[one_run(), some_nodes()],
        alerts='run="$run"',
        rows=[_health(), _learning(), _speed(), _checkpoints(), _outcome()],
    )


def _health() -> Row:
    return Row(
        title="Is it well?",
        panels=[
            number(
                "Progress",
                "Optimizer steps taken, of those planned.",
                Query(expr=f"max(d2tv_step{_RUN}) / max(d2tv_steps_planned{_RUN})"),
                unit="percentunit",
                decimals=1,
            ),
            number(
                "Time left",
                "Steps that are left, at the speed of the last hour of training; the evaluations come on top.",
                Query(expr=f"run:d2tv_remaining_seconds:mean1h{_RUN}"),
                unit="s",
            ),
            number(
                "Last sign of life",
                "Since a step, a batch of an evaluation or a checkpoint, on any node. Good: the time of a step. "
                "D2tvRunStalled fires at 20 steps' time, at least 5 minutes.",
                Query(expr=f"run:d2tv_progress_age_seconds:min{_RUN}"),
                unit="s",
                limits=Limits(yellow=60, red=300),
            ),
            number(
                "A crash would cost",
                "Time of training since the last whole checkpoint. Good: below that between two checkpoints. "
                "D2tvWorkUnsaved fires at 4 hours.",
                Query(expr=f"run:d2tv_unsaved_seconds:max{_RUN}"),
                unit="s",
                limits=Limits(yellow=7200, red=14400),
            ),
            number(
                "Starts before this one",
                "Good: few, and explained by time limits. Three within an hour raise D2tvRunRestarting.",
                Query(expr=f"run:d2tv_restarts:max{_RUN}"),
            ),
            number(
                "Model FLOP/s utilization",
                "The model's matrix products against what the same ranks reached in one large product at the start. "
                "Good: steady, and near what runs of this size had before.",
                Query(expr=f"max(d2tv_mfu_ratio{_RUN})"),
                unit="percentunit",
                decimals=1,
            ),
            listing(
                "Alerts that fire",
                'Good: none. What each means and what to do: docs/runbook.md. Slurm\'s alerts are on "D2TV fleet".',
                Query(expr='ALERTS{alertstate="firing",run="$run"}'),
                labels=["alertname", "severity", "node", "target", "term"],
                width=HALF,
                height=6,
            ),
            listing(
                "What it is",
                "World size, precision, objective and corpus of the running process, and what it was built from.",
                Query(
                    expr=f"d2tv_run_info{_RUN} * on (instance) group_left (version, python, torch, deepspeed, device) "
                    f"d2tv_build_info{_RUN}"
                ),
                labels=["objective", "precision", "world_size", "corpus", "version", "torch", "deepspeed", "device"],
                width=HALF,
                height=6,
            ),
        ],
    )


def _learning() -> Row:
    return Row(
        title="What does it learn?",
        panels=[
            graph(
                "Loss by term",
                "Of each logged interval, before the term's weight; total is J. Good: falling, without jumps. A gap or "
                "a value that is no number raises D2tvLossNotFinite.",
                [Query(expr=f"max by (term) (d2tv_loss{_RUN})", legend="{{term}}")],
                log=True,
            ),
            graph(
                "NLL a target token",
                "Training by branch, and held out by kind. Good: held-out falls with training; where it turns up while "
                "training falls, the run has begun to memorize.",
                [
                    Query(expr=f"max by (branch) (d2tv_nll_nats{_RUN})", legend="training, branch {{branch}}"),
                    Query(expr=f"max by (kind) (d2tv_validation_nll_nats{_RUN})", legend="held out, {{kind}}"),
                ],
            ),
            graph(
                "Gradient norm",
                "Global, before clipping. Good: steady or slowly falling. Jumps come before spikes of the loss.",
                [Query(expr=f"max(d2tv_gradient_norm{_RUN})", legend="norm")],
                log=True,
                width=THIRD,
            ),
            graph(
                "Learning rate",
                "Of the last step: the schedule's.",
                [Query(expr=f"max(d2tv_learning_rate{_RUN})", legend="learning rate")],
                unit="sci",
                width=THIRD,
            ),
            graph(
                "What the objective tells of itself",
                "Like alpha of Eq. 8, which moves the weight from distillation to the labels, as scheduled.",
                [Query(expr=f"max by (name) (d2tv_objective_scalar{_RUN})", legend="{{name}}")],
                width=THIRD,
            ),
            graph(
                "Skipped steps and loss scale",
                "Steps skipped as non-finite since the run began. Good: flat; in fp16 some at the start and one now "
                "and then, while the loss scale stays above 1.",
                [
                    Query(expr=f"max(d2tv_skipped_steps{_RUN})", legend="skipped"),
                    Query(expr=f"max(d2tv_loss_scale{_RUN})", legend="loss scale (fp16)"),
                ],
                log=True,
            ),
            graph(
                "Spikes and returns to a checkpoint",
                "Since this start. Good: flat. Three spikes within an hour raise D2tvLossSpiking.",
                [
                    Query(expr=f"max(d2tv_loss_spikes_total{_RUN})", legend="spikes of the loss"),
                    Query(expr=f"max(d2tv_rollbacks_total{_RUN})", legend="returns to a checkpoint"),
                ],
            ),
        ],
    )


def _speed() -> Row:
    return Row(
        title="How fast?",
        panels=[
            graph(
                "Target tokens a second and rank",
                "Good: near the median of its last 6 hours, of which 70% are drawn once there is an hour to compare "
                "with. Below that line for a quarter of an hour raises D2tvThroughputFell.",
                [
                    Query(expr=f"run:d2tv_rank_tokens_per_second:last{_RUN}", legend="last interval"),
                    Query(expr=f"0.7 * run:d2tv_rank_tokens_per_second:median6h{_RUN}", legend="70% of the median"),
                ],
            ),
            graph(
                "Examples a second",
                "All ranks together, of the last logged interval.",
                [Query(expr=f"max(d2tv_examples_per_second{_RUN})", legend="examples/s")],
            ),
            graph(
                "Time of a step by node",
                "Half of the steps, and 19 in 20 of them, take at most so long. Good: close together. Nodes wait for "
                "each other, so they have the same times, whichever is slow.",
                [
                    Query(expr=_quantile(0.5), legend="{{node}} half"),
                    Query(expr=_quantile(0.95), legend="{{node}} 95%"),
                ],
                unit="s",
            ),
            graph(
                "What of a step is lost",
                "Share of a step's time. Good: each below 10%. 20% of waiting for data raise D2tvDataBound, 20% of "
                "waiting for the slowest rank D2tvStraggler.",
                [
                    Query(expr=f"run:d2tv_data_wait:ratio10m{_RUN}", legend="waiting for data"),
                    Query(expr=f"run:d2tv_slowest_rank_lag:ratio10m{_RUN}", legend="waiting for the slowest rank"),
                    Query(expr=f"run:d2tv_checkpoint_stall:ratio1h{_RUN}", legend="waiting for checkpoints"),
                ],
                unit="percentunit",
                limits=Limits(yellow=0.1, red=0.2),
            ),
        ],
    )


def _checkpoints() -> Row:
    return Row(
        title="What would a crash cost?",
        panels=[
            graph(
                "Steps since the last checkpoint",
                "Good: a saw that stays below the plan. Twice the plan raises D2tvCheckpointOverdue.",
                [
                    Query(expr=f"run:d2tv_unsaved_steps:max{_RUN}", legend="unsaved"),
                    Query(expr=f"max(d2tv_checkpoint_every_steps{_RUN})", legend="plan"),
                ],
                width=THIRD,
            ),
            graph(
                "Checkpoint duration",
                "From the step to the commit, most of it while training goes on. Good: well below the time between "
                "two.",
                [Query(expr=f"max(d2tv_checkpoint_duration_seconds{_RUN})", legend="duration")],
                unit="s",
                width=THIRD,
            ),
            graph(
                "Checkpoints that failed",
                "Since this start. Good: none. Any raises D2tvCheckpointsFailing.",
                [Query(expr=f"max(d2tv_checkpoint_failures_total{_RUN})", legend="failed")],
                width=THIRD,
            ),
            graph(
                "Disk of the run",
                "Free space, and what a checkpoint takes. Good: room for many. Less than three raise D2tvDiskFull.",
                [
                    Query(expr=f"run:d2tv_run_disk_free_bytes:min{_RUN}", legend="free"),
                    Query(expr=f"3 * max(d2tv_checkpoint_bytes{_RUN})", legend="three checkpoints"),
                    Query(expr=f"max(d2tv_run_disk_size_bytes{_RUN})", legend="size of the file system"),
                ],
                unit="bytes",
                log=True,
                width=FULL,
            ),
        ],
    )


def _outcome() -> Row:
    return Row(
        title="What came out?",
        panels=[
            graph(
                "ROUGE F1 of the final evaluation",
                "There once the evaluation has ended, until the process has: `d2tv report` keeps it.",
                [Query(expr=f"max by (metric, kind) (d2tv_rouge_ratio{_RUN})", legend="{{metric}} {{kind}}")],
                unit="percentunit",
                points=True,
            ),
            listing(
                "ROUGE-L F1 by target language",
                "Of the final evaluation.",
                Query(expr=f"max by (target) (d2tv_target_rouge_ratio{_RUN})"),
                labels=["target"],
                value=Column(name="ROUGE-L", unit="percentunit", decimals=1),
            ),
        ],
    )


def _quantile(q: float) -> str:
    seconds = 'd2tv_step_seconds_bucket{run="$run",node=~"$node"}'
    return f"histogram_quantile({q}, sum by (node, le) (rate({seconds}[10m])))"
