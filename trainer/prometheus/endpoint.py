"""A rank's metrics, and the server that shows them on the first rank of every node."""

import os
import platform
import secrets
import socket
import sys
from importlib.metadata import version
from pathlib import Path
from typing import cast

import torch
import torch.distributed as dist
from prometheus_client import CollectorRegistry, disable_created_metrics

from trainer.distributed import from_first_rank, sum_over_ranks
from trainer.engine import precision_of
from trainer.peak import matmul_peak
from trainer.plan import Plan
from trainer.prometheus.node_metrics import NodeMetrics
from trainer.prometheus.run_metrics import RunFacts, RunMetrics
from trainer.prometheus.server import MetricsServer
from trainer.prometheus.targets import Target, TargetFile

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
#: Addresses that mean any of this host's.
_WILDCARDS = ("0.0.0.0", "::", "")


class Endpoint:
    """All ranks make one together. run: on rank 0, node: on the first rank of every node, else None."""

    def __init__(self, plan: Plan, device: torch.device) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._plan, self._registry = plan, CollectorRegistry()
        self._node_name = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
        names: list[str] = [""] * plan.ranks.world_size
        dist.all_gather_object(names, self._node_name)
        here = [rank for rank, name in enumerate(names) if name == self._node_name]
        self._attempt = cast(str, from_first_rank(secrets.token_hex(8)))
        peak = torch.tensor(matmul_peak(_DTYPES[precision_of(plan.ds_config)], device), dtype=torch.float64)
        self.peak_flops = float(sum_over_ranks(peak.to(device)))  # of all ranks
        self.node = NodeMetrics(self._registry, here) if plan.ranks.rank == here[0] else None
        self.run = (
            RunMetrics(self._registry, _run_facts(plan, device, self.peak_flops)) if plan.ranks.is_first else None
        )
        self.url: str | None = None  # of what is served
        self._server: MetricsServer | None = None
        self._target: TargetFile | None = None

    @property
    def registry(self) -> CollectorRegistry:
        """What is served."""
        return self._registry

    def serve(self) -> None:
        """Start the server, and write its target, where this rank has any: `url` says where.

        Where that fails it is said on stderr, and the run goes on without.
        """
        settings = self._plan.recipe.prometheus
        if not settings.enabled or self.node is None:
            return
        problem: OSError | None = None
        # The port that is wanted may be another run's.
        for port in dict.fromkeys((settings.port, 0)):
            try:
                self._server = MetricsServer(
                    self._registry,
                    address=settings.address,
                    port=port,
                    certificate=settings.certificate,
                    key=settings.key,
                    token_file=settings.token_file,
                    alive=self._touch,
                )
                break
            except OSError as error:
                problem = error
        if self._server is None:
            self._warn(f"metrics are not served: {problem}")
            return
        host = self._server.address
        if host in _WILDCARDS:
            host = socket.gethostname()
        where = f"{f'[{host}]' if ':' in host else host}:{self._server.port}"
        try:
            self._target = TargetFile(self._targets, self._describe(where, self._server.scheme))
        except OSError as error:
            self._warn(f"no Prometheus will find these metrics by prometheus.targets={self._targets}: {error}")
        self.url = f"{self._server.scheme}://{where}/metrics"

    def close(self, *, last_scrape: bool = False) -> None:
        """Stop serving and remove the target. A second call does nothing.

        last_scrape: wait until the final values were fetched, at most `prometheus.last_scrape_seconds`.
        """
        if self._server is not None:
            if last_scrape:
                self._server.wait_for_a_scrape(self._plan.recipe.prometheus.last_scrape_seconds)
            self._server.close()
        if self._target is not None:
            self._target.remove()
        self._server = self._target = None

    @property
    def _targets(self) -> Path:
        return self._plan.recipe.prometheus.targets or self._plan.recipe.run.absolute().parent / "targets"

    def _describe(self, where: str, scheme: str) -> Target:
        return Target(
            address=where,
            scheme=scheme,
            run=self._plan.recipe.run,
            node=self._node_name,
            rank=self._plan.ranks.rank,
            attempt=self._attempt,
            slurm_job=os.environ.get("SLURM_JOB_ID"),
        )

    def _touch(self) -> None:
        if self._target is not None:
            self._target.touch()

    def _warn(self, what: str) -> None:
        print(f"warning: rank {self._plan.ranks.rank}: {what}", file=sys.stderr, flush=True)


def _run_facts(plan: Plan, device: torch.device, peak_flops: float) -> RunFacts:
    recipe = plan.recipe
    return RunFacts(
        languages=plan.corpus.languages,
        counts_TS=plan.corpus.direction_counts("train"),
        sampler=plan.sampler,
        directory=recipe.run,
        build={
            "version": version("d2tv"),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "deepspeed": version("deepspeed"),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        },
        run={
            "run": recipe.run.name,
            "objective": recipe.objective.name,
            "precision": precision_of(plan.ds_config),
            "world_size": str(plan.ranks.world_size),
            "corpus": plan.corpus.content_hash[:12],
        },
        peak_flops=peak_flops,
        checkpoint_every=recipe.checkpoint.every,
        direction_matrix=recipe.prometheus.direction_matrix,
    )
