"""Dashboard "D2TV hardware and stragglers": which rank, node, disk or device holds the run up."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from launcher.monitoring.board import Row, assemble, one_run, some_nodes
from launcher.monitoring.panels import HALF, SIXTH, THIRD, Limits, Query, graph, histogram, number

_RUN = '{run="$run"}'
_NODE = '{run="$run",node=~"$node"}'


def build() -> Dashboard:
    return assemble(
        uid="d2tv-hardware",
        title="D2TV hardware and stragglers",
        description="One run: utilization, which rank the others wait for and why, memory, reads and disks.",
        variables=[one_run(), some_nodes()],
        alerts='run="$run",alertname=~"D2tvStraggler|D2tvDataBound|D2tvThroughputFell|D2tvMemoryNearlyFull|D2tvDiskFull"',
        rows=[_utilization(), _stragglers(), _memory(), _storage()],
    )


def _utilization() -> Row:
    return Row(
        title="How much of the hardware is used?",
        panels=[
            number(
                "Model FLOP/s utilization",
                "The model's matrix products against what the same ranks reached in one large product at the start.",
                Query(expr=f"max(d2tv_mfu_ratio{_RUN})"),
                unit="percentunit",
                decimals=1,
            ),
            number("Ranks", "That were heard of.", Query(expr=f"run:d2tv_ranks:count{_RUN}")),
            number(
                "Nodes without an answer",
                "Endpoints that are down. Good: 0. After five minutes D2tvEndpointDown fires.",
                Query(expr='count(up{job="d2tv",run="$run"} == 0) or 0 * count(up{job="d2tv",run="$run"})'),
                limits=Limits(yellow=1, red=1),
            ),
            number(
                "Slowest rank",
                "The rank with the longest busy time in the last logged interval. Good: another one every time.",
                Query(expr=f"max(d2tv_slowest_rank{_RUN})"),
            ),
            number(
                "Its lag",
                "Of a step's time, over the median rank. Good: below 10%. 20% raise D2tvStraggler.",
                Query(expr=f"run:d2tv_slowest_rank_lag:ratio10m{_RUN}"),
                unit="percentunit",
                decimals=1,
                limits=Limits(yellow=0.1, red=0.2),
            ),
            number(
                "Waiting for data",
                "Of a step's time, the rank that waits longest. Good: below 10%. 20% raise D2tvDataBound.",
                Query(expr=f"run:d2tv_data_wait:ratio10m{_RUN}"),
                unit="percentunit",
                decimals=1,
                limits=Limits(yellow=0.1, red=0.2),
                width=SIXTH,
            ),
            graph(
                "FLOP/s of all ranks",
                "Matrix products of the model, and the peak measured at the start. Good: steady.",
                [
                    Query(expr=f"max(d2tv_model_flops_per_second{_RUN})", legend="model"),
                    Query(expr=f"max(d2tv_peak_flops_per_second{_RUN})", legend="peak"),
                ],
                unit="flops",
                log=True,
            ),
            histogram(
                "Time of a step",
                "How many steps took how long, over the chosen nodes. Good: one narrow band; a second one above it are "
                "steps that waited for something.",
                Query(expr=f"sum by (le) (increase(d2tv_step_seconds_bucket{_NODE}[5m]))"),
                unit="s",
            ),
        ],
    )


def _stragglers() -> Row:
    return Row(
        title="Which rank holds up the others?",
        panels=[
            graph(
                "Busy time of a step by rank",
                "Waiting for data and the forward pass: where a rank waits for no other. Good: close together. One "
                "line above the others is the straggler; its node is in its name.",
                [Query(expr=f"d2tv_rank_busy_seconds{_NODE}", legend="{{node}} rank {{rank}}")],
                unit="s",
            ),
            graph(
                "Waiting for data by rank",
                "The first part of that. A straggler that is high here as well has a slow disk or network, else it "
                "computes slowly.",
                [Query(expr=f"d2tv_rank_data_wait_seconds{_NODE}", legend="{{node}} rank {{rank}}")],
                unit="s",
            ),
            graph(
                "Slowest rank over time",
                "Good: a scatter. A line is one rank that always is: look at its node.",
                [Query(expr=f"max(d2tv_slowest_rank{_RUN})", legend="rank")],
                points=True,
                width=THIRD,
            ),
            graph(
                "Lag of the slowest rank",
                "Seconds a step over the median of the ranks: what the run would gain without it.",
                [Query(expr=f"max(d2tv_slowest_rank_lag_seconds{_RUN})", legend="lag")],
                unit="s",
                width=THIRD,
            ),
            graph(
                "Waiting for data, 19 steps in 20",
                "By the first rank of each node: 95% of the steps wait at most so long. Good: milliseconds.",
                [
                    Query(
                        expr="histogram_quantile(0.95, sum by (node, le) "
                        f"(rate(d2tv_data_wait_seconds_bucket{_NODE}[10m])))",
                        legend="{{node}}",
                    )
                ],
                unit="s",
                width=THIRD,
            ),
            graph(
                "Since the last step, by node",
                "Good: the time of a step. Of one node alone: it hangs. Of all in an evaluation: nothing is wrong, the "
                "sign of life goes on.",
                [
                    Query(expr=f"time() - d2tv_last_step_timestamp_seconds{_NODE}", legend="{{node}} step"),
                    Query(expr=f"time() - d2tv_progress_timestamp_seconds{_NODE}", legend="{{node}} sign of life"),
                ],
                unit="s",
            ),
            graph(
                "Open files by rank",
                "Good: flat. One that climbs for ever meets the limit of the system (ulimit -n).",
                [Query(expr=f"d2tv_rank_open_files{_NODE}", legend="{{node}} rank {{rank}}")],
            ),
        ],
    )


def _memory() -> Row:
    return Row(
        title="Is there memory left?",
        panels=[
            graph(
                "Host memory that can be had, by node",
                "Of the node's. Good: above 20%. Below 5% D2tvMemoryNearlyFull fires.",
                [
                    Query(
                        expr=f"run_node:d2tv_node_memory_available:ratio{_NODE}",
                        legend="{{node}}",
                    )
                ],
                unit="percentunit",
                limits=Limits(yellow=0.2, red=0.05, low=True),
                width=THIRD,
            ),
            graph(
                "Memory of ranks",
                "Host memory of each process. Good: flat after the first validation.",
                [Query(expr=f"d2tv_rank_resident_memory_bytes{_NODE}", legend="{{node}} rank {{rank}}")],
                unit="bytes",
                width=THIRD,
            ),
            graph(
                "Device memory of ranks",
                "In use by tensors, its peak since the start, and what the device has (on a CPU the process and the "
                "host). Good: peaks below 90% of it.",
                [
                    Query(expr=f"d2tv_rank_device_memory_bytes{_NODE}", legend="{{node}} rank {{rank}}"),
                    Query(expr=f"d2tv_rank_device_memory_peak_bytes{_NODE}", legend="{{node}} rank {{rank}} peak"),
                    Query(expr=f"max by (node) (d2tv_device_memory_total_bytes{_NODE})", legend="{{node}} has"),
                ],
                unit="bytes",
                width=THIRD,
            ),
        ],
    )


def _storage() -> Row:
    return Row(
        title="Are reads and disks fast enough?",
        panels=[
            graph(
                "Read from shards by rank",
                "Features, of the last ten minutes. Good: even. What one rank lacks here it waits for.",
                [Query(expr=f"rate(d2tv_rank_read_bytes_total{_NODE}[10m])", legend="{{node}} rank {{rank}}")],
                unit="Bps",
            ),
            graph(
                "Disk",
                "Free where the run lies, and the size of its newest checkpoint.",
                [
                    Query(expr=f"run:d2tv_run_disk_free_bytes:min{_RUN}", legend="free"),
                    Query(expr=f"max(d2tv_checkpoint_bytes{_RUN})", legend="checkpoint"),
                ],
                unit="bytes",
                log=True,
                width=HALF,
            ),
        ],
    )
