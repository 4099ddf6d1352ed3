"""The metrics that we serve. A new one is an entry here and the line that observes it.

`python -m trainer.telemetry.prometheus.document` then writes the tables of docs/metrics.md.
"""

from functools import partial

from trainer.telemetry.prometheus.declared import Kind, Metric


def _declare(kind: Kind, name: str, help: str, source: str, labels: str = "", title: str = "") -> Metric:
    return Metric(name=name, kind=kind, help=help, source=source, labels=tuple(labels.split()), title=title)


def _histogram(name: str, help: str, source: str, *buckets: float) -> Metric:
    return Metric(name=name, kind="histogram", help=help, source=source, buckets=buckets)


_gauge, _table = partial(_declare, "gauge"), partial(_declare, "table")
_counter, _info = partial(_declare, "counter"), partial(_declare, "info")

#: The whole run, on rank 0.
RUN = (
    _info("build_info", "Versions; always 1", "installed", "version python torch deepspeed device"),
    _info(
        "run_info",
        "What is trained; always 1. corpus is the beginning of its content hash",
        "recipe",
        "run objective precision world_size corpus",
    ),
    _gauge("step", "Optimizer steps taken", "train/step"),
    _gauge("steps_planned", "Optimizer steps that the run will take", "recipe"),
    _gauge("skipped_steps", "Steps skipped as non-finite since the run began", "train/skipped_steps"),
    _gauge("restarts", "Starts in this run directory before this one", "start/restarts"),
    _table(
        "loss",
        "Loss of the last logged interval by term, before its weight; total is J, NaN while steps are skipped in a row",
        "train/loss",
        "term",
    ),
    _table("nll_nats", "Training NLL a target token of the last logged interval", "train/nll", "branch"),
    _table(
        "target_nll_nats", "Recent training NLL a target token, by target language", "Interval.nats_TS", "kind target"
    ),
    _table(
        "source_nll_nats",
        "Recent training NLL a target token of cross-lingual examples, by source language",
        "Interval.nats_TS",
        "source",
    ),
    _table(
        "worst_direction_nll_nats",
        "Recent training NLL a target token of the 20 worst directions",
        "Interval.nats_TS",
        "source target",
    ),
    _gauge(
        "worst_directions_truncated", "Directions with a recent NLL that are not among the 20 worst", "Interval.nats_TS"
    ),
    _table(
        "direction_nll_nats",
        "Recent training NLL a target token of every direction, with prometheus.direction_matrix",
        "Interval.nats_TS",
        "source target",
    ),
    _table(
        "direction_examples",
        "Examples of every direction since this start, with prometheus.direction_matrix",
        "directions/examples",
        "source target",
    ),
    _gauge("learning_rate", "Learning rate of the last step", "train/learning_rate"),
    _gauge("gradient_norm", "Global gradient norm before clipping", "train/gradient_norm"),
    _gauge(
        "objective_scalar",
        "What the objective reports of itself: alpha of Eq. 8, kd_distance and kd_floor (below)",
        "train and validation, by name",
        "name",
    ),
    _table("loss_scale", "Dynamic loss scale of fp16", "train/loss_scale"),
    _counter("examples_total", "Examples trained on, by target language", "Interval.examples", "kind target"),
    _counter(
        "source_examples_total",
        "Cross-lingual examples trained on, by source language",
        "Interval.examples_TS",
        "source",
    ),
    _counter("target_tokens_total", "Target tokens trained on, by target language", "Interval.tokens", "branch target"),
    _counter(
        "source_target_tokens_total",
        "Target tokens of cross-lingual examples, by source language",
        "Interval.tokens_TS",
        "source",
    ),
    _table(
        "target_quota_ratio",
        "Share of the examples that the mixture gives a target language",
        "Sampler.shares",
        "target",
    ),
    _table(
        "target_share_ratio",
        "Recent share of the examples that a target language had",
        "Interval.examples_TS",
        "target",
    ),
    _table(
        "rarest_direction_passes",
        "Passes over the examples of the 10 rarest directions since the run began; of target articles in story batches",
        "Sampler.slots",
        "source target",
    ),
    _gauge(
        "examples_per_second",
        "Examples a second of the last logged interval's steps, without validations and waiting for checkpoints",
        "train/examples_per_second",
        title="Examples a second",
    ),
    _gauge(
        "target_tokens_per_second",
        "Target tokens of both branches a second, of the last logged interval's steps",
        "train/target_tokens_per_second",
    ),
    _gauge(
        "model_flops_per_second",
        "Matrix products of the model (models/flops.py), over all ranks",
        "Interval.flops_per_second",
    ),
    _table("peak_flops_per_second", "What all ranks reached in one large matrix product at the start", "matmul_peak"),
    _table("mfu_ratio", "Model FLOP/s over that peak", "train/mfu", title="Model FLOP/s utilization"),
    _gauge("padding_ratio", "Positions of self-attention over texts that hold no token", "1 - train/real_token_share"),
    _counter(
        "unreadable_examples_total",
        "Examples with a placeholder; past 64 directions the others are `other`",
        "unreadable.jsonl",
        "source target",
    ),
    _counter("read_retries_total", "Reads of features that were tried again", "sum of train/read_retries"),
    _gauge("slowest_rank", "Rank with the longest busy time in the last logged interval", "train/slowest_rank"),
    _gauge(
        "slowest_rank_lag_seconds",
        "Busy time a step of the slowest rank over the (lower) median of the ranks",
        "train/slowest_rank_lag_seconds",
    ),
    _gauge("validation_nll_nats", "Held-out NLL a target token", "validation/nll", "kind"),
    _table(
        "validation_target_nll_nats",
        "Held-out NLL a target token, by target language",
        "validation/nll_by_target",
        "kind target",
    ),
    _gauge("rouge_ratio", "ROUGE F1 of the final evaluation", "evaluation/rouge", "metric kind"),
    _table(
        "target_rouge_ratio",
        "ROUGE-L F1 of the final evaluation, by target language",
        "evaluation's by_target",
        "target",
    ),
    _gauge("checkpoint_step", "Step of the newest whole checkpoint; 0 before the first", "checkpoint/step"),
    _gauge(
        "checkpoint_timestamp_seconds",
        "When the newest checkpoint was committed; when this start began, until it has written one",
        "checkpoint/time",
    ),
    _gauge("checkpoint_duration_seconds", "How long its saving took", "checkpoint/seconds"),
    _gauge("checkpoint_bytes", "Size of the newest checkpoint", "checkpoint/bytes"),
    _gauge("checkpoint_every_steps", "Steps between checkpoints, as planned", "recipe"),
    _counter(
        "checkpoint_stall_seconds_total", "Time that training waited for checkpoints", "sum of checkpoint/stall_seconds"
    ),
    _counter("checkpoint_failures_total", "Checkpoints that could not be written", "checkpoint/committed"),
    _counter("loss_spikes_total", "Logged intervals whose loss stood out", "spike"),
    _counter("rollbacks_total", "Returns to a checkpoint after skipped steps", "rollback"),
    _table("run_disk_free_bytes", "Free space at the run directory, once a minute", "psutil"),
    _table("run_disk_size_bytes", "Size of the run directory's file system", "psutil"),
)

#: A node, on its first rank. Series with a rank label are of the last logged interval.
NODE = (
    _histogram(
        "step_seconds",
        "Wall-clock of a step",
        "loop",
        # The last but one is the default limit of a step (watchdog.step).
        *(0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600),
    ),
    _histogram(
        "data_wait_seconds",
        "How long a step waited for its data",
        "loop",
        *(0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 60, 300),
    ),
    _gauge(
        "last_step_timestamp_seconds",
        "When the last step ended, also one that was skipped; before it, when the start began",
        "loop",
    ),
    _gauge(
        "progress_timestamp_seconds",
        "When anything was last done: a step, a batch of an evaluation, a checkpoint",
        "loop",
    ),
    _gauge(
        "node_memory_total_bytes",
        "Host memory, of the machine or of our control group where that has less",
        "host_memory",
    ),
    _gauge(
        "node_memory_available_bytes", "Host memory that can be had without swapping or being killed", "host_memory"
    ),
    _gauge(
        "rank_busy_seconds",
        "Of a step, waiting for data and the forward pass, in which a rank waits for no other (the forward pass does "
        "not count with objective.negatives=global, where it does)",
        "RankFacts.busy_seconds",
        "rank",
    ),
    _gauge("rank_data_wait_seconds", "Of a step, waiting for data", "RankFacts.data_wait_seconds", "rank"),
    _counter("rank_read_bytes_total", "Features read from shards", "RankFacts.read_bytes", "rank"),
    _gauge("rank_open_files", "Open file descriptors", "RankFacts.open_files", "rank"),
    _gauge("rank_resident_memory_bytes", "Host memory of the process", "RankFacts.resident_bytes", "rank"),
    _gauge(
        "rank_device_memory_bytes",
        "Device memory in use by tensors; on a CPU the process'",
        "RankFacts.device_bytes",
        "rank",
    ),
    _gauge(
        "rank_device_memory_peak_bytes",
        "Peak device memory in use since the start",
        "RankFacts.device_peak_bytes",
        "rank",
    ),
    _gauge("device_memory_total_bytes", "Memory of the first rank's device", "deepspeed"),
)

#: The cluster, by launcher/monitoring/slurm_jobs.sh.
CLUSTER = (
    _gauge("slurm_job_running", "1 for every running job of launcher/slurm/train.sbatch", "squeue", "slurm_job name"),
    _gauge("slurm_jobs_timestamp_seconds", "When squeue was asked", "squeue"),
)
METRICS = {metric.full_name: metric for metric in (*RUN, *NODE, *CLUSTER)}
