"""Dashboard "D2TV run": is this run well, what does it learn, what would a crash cost."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from launcher.monitoring.board import Row, assemble, one_run, some_nodes
from launcher.monitoring.panels import FULL, THIRD, AnyPanel, Limits, graph, number
from launcher.monitoring.queries import highest, quantile, series, title
from launcher.monitoring.tables import Column, listing


def build() -> Dashboard:
    return assemble(
        uid="d2tv-run",
        title="D2TV run",
        description="One run: is it well, what does it learn, how fast, and what would a crash cost.",
        variables=[one_run(), some_nodes()],
        alerts='run="$run"',
        rows=[
            Row("Is it well?", _health()),
            Row("What does it learn?", _learning()),
            Row("How fast?", _speed()),
            Row("What would a crash cost?", _checkpoints()),
            Row("What came out?", _outcome()),
        ],
    )


def _health() -> list[AnyPanel]:
    versions = "version, python, torch, deepspeed, device"
    return [
        number(
            "Progress",
            "Optimizer steps taken, of those planned.",
            f"{highest('step')} / {highest('steps_planned')}",
            unit="percentunit",
            decimals=1,
        ),
        number(
            "Time left",
            "Steps that are left, at the speed of the last hour of training; the evaluations come on top.",
            series("run:d2tv_remaining_seconds:mean1h"),
        ),
        number(
            "Last sign of life",
            "Since a step, a batch of an evaluation or a checkpoint, on any node. Good: the time of a step. "
            "D2tvRunStalled fires at 20 steps' time, at least 5 minutes.",
            series("run:d2tv_progress_age_seconds:min"),
            limits=Limits(yellow=60, red=300),
        ),
        number(
            "A crash would cost",
            "Time of training since the last whole checkpoint. Good: below that between two checkpoints. "
            "D2tvWorkUnsaved fires at 4 hours.",
            series("run:d2tv_unsaved_seconds:max"),
            limits=Limits(yellow=7200, red=14400),
        ),
        number(
            "Starts before this one",
            "Good: few, and explained by time limits. Three within an hour raise D2tvRunRestarting.",
            series("run:d2tv_restarts:max"),
        ),
        number(
            title("mfu_ratio"),
            "The model's matrix products against what the same ranks reached in one large product at the start. "
            "Good: steady, and near what runs of this size had before.",
            highest("mfu_ratio"),
            decimals=1,
        ),
        listing(
            "Alerts that fire",
            'Good: none. What each means and what to do: docs/runbook.md. Slurm\'s alerts are on "D2TV fleet".',
            'ALERTS{alertstate="firing",run="$run"}',
            ["alertname", "severity", "node", "target", "term"],
            height=6,
        ),
        listing(
            "What it is",
            "World size, precision, objective and corpus of the running process, and what it was built from.",
            f"{series('run_info')} * on (instance) group_left ({versions}) {series('build_info')}",
            ["objective", "precision", "world_size", "corpus", "version", "torch", "deepspeed", "device"],
            height=6,
        ),
    ]


def _learning() -> list[AnyPanel]:
    return [
        graph(
            "Loss by term",
            "Of each logged interval, before the term's weight; total is J. Good: falling, without jumps. A gap or "
            "a value that is no number raises D2tvLossNotFinite.",
            {"{{term}}": highest("loss", "term")},
            log=True,
        ),
        graph(
            "NLL a target token",
            "Training by branch, and held out by kind. Good: held-out falls with training; where it turns up while "
            "training falls, the run has begun to memorize.",
            {
                "training, branch {{branch}}": highest("nll_nats", "branch"),
                "held out, {{kind}}": highest("validation_nll_nats", "kind"),
            },
        ),
        graph(
            title("gradient_norm"),
            "Global, before clipping. Good: steady or slowly falling. Jumps come before spikes of the loss.",
            {"norm": highest("gradient_norm")},
            log=True,
            width=THIRD,
        ),
        graph(
            title("learning_rate"),
            "Of the last step: the schedule's.",
            {"learning rate": highest("learning_rate")},
            unit="sci",
            width=THIRD,
        ),
        graph(
            "What the objective tells of itself",
            "Like alpha of Eq. 8, which moves the weight from distillation to the labels, as scheduled.",
            {"{{name}}": highest("objective_scalar", "name")},
            width=THIRD,
        ),
        graph(
            "Skipped steps and loss scale",
            "Steps skipped as non-finite since the run began. Good: flat; in fp16 some at the start and one now "
            "and then, while the loss scale stays above 1.",
            {"skipped": highest("skipped_steps"), "loss scale (fp16)": highest("loss_scale")},
            log=True,
        ),
        graph(
            "Spikes and returns to a checkpoint",
            "Since this start. Good: flat. Three spikes within an hour raise D2tvLossSpiking.",
            {"spikes of the loss": highest("loss_spikes_total"), "returns to a checkpoint": highest("rollbacks_total")},
        ),
    ]


def _speed() -> list[AnyPanel]:
    return [
        graph(
            "Target tokens a second and rank",
            "Good: near the median of its last 6 hours, of which 70% are drawn once there is an hour to compare "
            "with. Below that line for a quarter of an hour raises D2tvThroughputFell.",
            {
                "last interval": series("run:d2tv_rank_tokens_per_second:last"),
                "70% of the median": f"0.7 * {series('run:d2tv_rank_tokens_per_second:median6h')}",
            },
        ),
        graph(
            title("examples_per_second"),
            "All ranks together, of the last logged interval.",
            {"examples/s": highest("examples_per_second")},
        ),
        graph(
            "Time of a step by node",
            "Half of the steps, and 19 in 20 of them, take at most so long. Good: close together. Nodes wait for "
            "each other, so they have the same times, whichever is slow.",
            {"{{node}} half": quantile(0.5, "step_seconds"), "{{node}} 95%": quantile(0.95, "step_seconds")},
        ),
        graph(
            "What of a step is lost",
            "Share of a step's time. Good: each below 10%. 20% of waiting for data raise D2tvDataBound, 20% of "
            "waiting for the slowest rank D2tvStraggler.",
            {
                "waiting for data": series("run:d2tv_data_wait:ratio10m"),
                "waiting for the slowest rank": series("run:d2tv_slowest_rank_lag:ratio10m"),
                "waiting for checkpoints": series("run:d2tv_checkpoint_stall:ratio1h"),
            },
            limits=Limits(yellow=0.1, red=0.2),
        ),
    ]


def _checkpoints() -> list[AnyPanel]:
    return [
        graph(
            "Steps since the last checkpoint",
            "Good: a saw that stays below the plan. Twice the plan raises D2tvCheckpointOverdue.",
            {"unsaved": series("run:d2tv_unsaved_steps:max"), "plan": highest("checkpoint_every_steps")},
            width=THIRD,
        ),
        graph(
            title("checkpoint_duration_seconds"),
            "From the step to the commit, most of it while training goes on. Good: well below the time between two.",
            {"duration": highest("checkpoint_duration_seconds")},
            width=THIRD,
        ),
        graph(
            "Checkpoints that failed",
            "Since this start. Good: none. Any raises D2tvCheckpointsFailing.",
            {"failed": highest("checkpoint_failures_total")},
            width=THIRD,
        ),
        graph(
            "Disk of the run",
            "Free space, and what a checkpoint takes. Good: room for many. Less than three raise D2tvDiskFull.",
            {
                "free": series("run:d2tv_run_disk_free_bytes:min"),
                "three checkpoints": f"3 * {highest('checkpoint_bytes')}",
                "size of the file system": highest("run_disk_size_bytes"),
            },
            log=True,
            width=FULL,
        ),
    ]


def _outcome() -> list[AnyPanel]:
    return [
        graph(
            "ROUGE F1 of the final evaluation",
            "There once the evaluation has ended, until the process has: `d2tv report` keeps it.",
            {"{{metric}} {{kind}}": highest("rouge_ratio", "metric, kind")},
            points=True,
        ),
        listing(
            "ROUGE-L F1 by target language",
            "Of the final evaluation.",
            highest("target_rouge_ratio", "target"),
            ["target"],
            Column(name="ROUGE-L", unit="percentunit", decimals=1),
        ),
    ]
