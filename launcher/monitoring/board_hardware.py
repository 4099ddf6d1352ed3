"""Dashboard "D2TV hardware and stragglers": which rank, node, disk or device holds the run up."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from launcher.monitoring.board import Row, assemble, one_run, some_nodes
from launcher.monitoring.panels import THIRD, AnyPanel, Limits, graph, histogram, number
from launcher.monitoring.queries import SOME_NODES, highest, per_second, quantile, series, title

_RANK = "{{node}} rank {{rank}}"


def build() -> Dashboard:
    return assemble(
        uid="d2tv-hardware",
        title="D2TV hardware and stragglers",
        description="One run: utilization, which rank the others wait for and why, memory, reads and disks.",
        variables=[one_run(), some_nodes()],
        alerts='run="$run",alertname=~"D2tvStraggler|D2tvDataBound|D2tvThroughputFell|D2tvMemoryNearlyFull|D2tvDiskFull"',
        rows=[
            Row("How much of the hardware is used?", _utilization()),
            Row("Which rank holds up the others?", _stragglers()),
            Row("Is there memory left?", _memory()),
            Row("Are reads and disks fast enough?", _storage()),
        ],
    )


def _utilization() -> list[AnyPanel]:
    endpoints = 'count(up{job="d2tv",run="$run"}'
    return [
        number(
            title("mfu_ratio"),
            "The model's matrix products against what the same ranks reached in one large product at the start.",
            highest("mfu_ratio"),
            decimals=1,
        ),
        number("Ranks", "That were heard of.", series("run:d2tv_ranks:count")),
        number(
            "Nodes without an answer",
            "Endpoints that are down. Good: 0. After five minutes D2tvEndpointDown fires.",
            f"{endpoints} == 0) or 0 * {endpoints})",
            limits=Limits(yellow=1, red=1),
        ),
        number(
            title("slowest_rank"),
            "The rank with the longest busy time in the last logged interval. Good: another one every time.",
            highest("slowest_rank"),
        ),
        number(
            "Its lag",
            "Of a step's time, over the median rank. Good: below 10%. 20% raise D2tvStraggler.",
            series("run:d2tv_slowest_rank_lag:ratio10m"),
            decimals=1,
            limits=Limits(yellow=0.1, red=0.2),
        ),
        number(
            "Waiting for data",
            "Of a step's time, the rank that waits longest. Good: below 10%. 20% raise D2tvDataBound.",
            series("run:d2tv_data_wait:ratio10m"),
            decimals=1,
            limits=Limits(yellow=0.1, red=0.2),
        ),
        graph(
            "FLOP/s of all ranks",
            "Matrix products of the model, and the peak measured at the start. Good: steady.",
            {"model": highest("model_flops_per_second"), "peak": highest("peak_flops_per_second")},
            log=True,
        ),
        histogram(
            "Time of a step",
            "How many steps took how long, over the chosen nodes. Good: one narrow band; a second one above it are "
            "steps that waited for something.",
            f"sum by (le) (increase({series('step_seconds_bucket', SOME_NODES)}[5m]))",
        ),
    ]


def _stragglers() -> list[AnyPanel]:
    return [
        graph(
            "Busy time of a step by rank",
            "Waiting for data and the forward pass: where a rank waits for no other. Good: close together. One "
            "line above the others is the straggler; its node is in its name.",
            {_RANK: series("rank_busy_seconds", SOME_NODES)},
        ),
        graph(
            "Waiting for data by rank",
            "The first part of that. A straggler that is high here as well has a slow disk or network, else it "
            "computes slowly.",
            {_RANK: series("rank_data_wait_seconds", SOME_NODES)},
        ),
        graph(
            "Slowest rank over time",
            "Good: a scatter. A line is one rank that always is: look at its node.",
            {"rank": highest("slowest_rank")},
            points=True,
            width=THIRD,
        ),
        graph(
            "Lag of the slowest rank",
            "Seconds a step over the median of the ranks: what the run would gain without it.",
            {"lag": highest("slowest_rank_lag_seconds")},
            width=THIRD,
        ),
        graph(
            "Waiting for data, 19 steps in 20",
            "By the first rank of each node: 95% of the steps wait at most so long. Good: milliseconds.",
            {"{{node}}": quantile(0.95, "data_wait_seconds")},
            width=THIRD,
        ),
        graph(
            "Since the last step, by node",
            "Good: the time of a step. Of one node alone: it hangs. Of all in an evaluation: nothing is wrong, the "
            "sign of life goes on.",
            {
                "{{node}} step": f"time() - {series('last_step_timestamp_seconds', SOME_NODES)}",
                "{{node}} sign of life": f"time() - {series('progress_timestamp_seconds', SOME_NODES)}",
            },
        ),
        graph(
            "Open files by rank",
            "Good: flat. One that climbs for ever meets the limit of the system (ulimit -n).",
            {_RANK: series("rank_open_files", SOME_NODES)},
        ),
    ]


def _memory() -> list[AnyPanel]:
    return [
        graph(
            "Host memory that can be had, by node",
            "Of the node's. Good: above 20%. Below 5% D2tvMemoryNearlyFull fires.",
            {"{{node}}": series("run_node:d2tv_node_memory_available:ratio", SOME_NODES)},
            limits=Limits(yellow=0.2, red=0.05, low=True),
            width=THIRD,
        ),
        graph(
            "Memory of ranks",
            "Host memory of each process. Good: flat after the first validation.",
            {_RANK: series("rank_resident_memory_bytes", SOME_NODES)},
            width=THIRD,
        ),
        graph(
            "Device memory of ranks",
            "In use by tensors, its peak since the start, and what the device has (on a CPU the process and the "
            "host). Good: peaks below 90% of it.",
            {
                _RANK: series("rank_device_memory_bytes", SOME_NODES),
                f"{_RANK} peak": series("rank_device_memory_peak_bytes", SOME_NODES),
                "{{node}} has": highest("device_memory_total_bytes", "node", SOME_NODES),
            },
            width=THIRD,
        ),
    ]


def _storage() -> list[AnyPanel]:
    return [
        graph(
            "Read from shards by rank",
            "Features, of the last ten minutes. Good: even. What one rank lacks here it waits for.",
            {_RANK: per_second("rank_read_bytes_total", SOME_NODES)},
            unit="Bps",
        ),
        graph(
            "Disk",
            "Free where the run lies, and the size of its newest checkpoint.",
            {"free": series("run:d2tv_run_disk_free_bytes:min"), "checkpoint": highest("checkpoint_bytes")},
            log=True,
        ),
    ]
