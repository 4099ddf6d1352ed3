"""Metrics of this rank, served on the first rank of every node."""

import math
import os
import platform
import secrets
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from prometheus_client import CollectorRegistry, disable_created_metrics

from shards.format.index import Corpus
from shards.stream.sampler import Sampler
from trainer.distributed import from_first_rank, sum_over_ranks
from trainer.ds_config import precision_of
from trainer.ranks import Ranks
from trainer.recipe import Recipe
from trainer.telemetry.peak import matmul_peak
from trainer.telemetry.prometheus.guards import exposure, is_loopback
from trainer.telemetry.prometheus.node_metrics import NodeMetrics
from trainer.telemetry.prometheus.run_metrics import RunFacts, RunMetrics
from trainer.telemetry.prometheus.server import MetricsServer
from trainer.telemetry.prometheus.targets import Target, TargetFile
from trainer.terminal.log import log

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
#: Addresses that mean any of this host's.
_WILDCARDS = ("0.0.0.0", "::", "")
#: How often the target file is touched and the free disk measured.
_UPKEEP_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Served:
    """Sources of a run's metrics beside its events."""

    recipe: Recipe
    ds_config: dict[str, Any]
    ranks: Ranks
    corpus: Corpus
    sampler: Sampler


class Endpoint:
    """All ranks make one together. run: on rank 0, node: on the first rank of every node, else None."""

    def __init__(self, served: Served, device: torch.device) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._served, self.registry = served, CollectorRegistry()
        self._node_name = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
        everywhere: list[tuple[str, str]] = [("", "")] * served.ranks.world_size
        dist.all_gather_object(everywhere, (self._node_name, _loopback_identity()))
        here = [rank for rank, (name, _) in enumerate(everywhere) if name == self._node_name]
        self._one_loopback = len({loopback for _, loopback in everywhere}) == 1
        self._attempt = cast(str, from_first_rank(secrets.token_hex(8)))
        self.peak_flops = _peak_of_all(served, device)  # 0 where it is not known
        self.node = NodeMetrics(self.registry, here) if served.ranks.rank == here[0] else None
        self.run = (
            RunMetrics(self.registry, _run_facts(served, device, self.peak_flops)) if served.ranks.is_first else None
        )
        self.url: str | None = None  # of what is served
        self._server: MetricsServer | None = None
        self._target: TargetFile | None = None
        self._closed = threading.Event()

    def serve(self) -> None:
        """Start the server and write its target file, where this rank has metrics; set `url`.

        A failure is a warning on stderr, and the run goes on without.
        """
        settings = self._served.recipe.prometheus
        if not settings.enabled or self.node is None:
            return
        problem: Exception | None = None
        for port in dict.fromkeys((settings.port, 0)):  # the first may be another run's
            try:
                self._server = MetricsServer(
                    self.registry,
                    address=settings.address,
                    port=port,
                    certificate=settings.certificate,
                    key=settings.key,
                    token_file=settings.token_file,
                )
                break
            except (OSError, ValueError, TypeError, RuntimeError) as error:  # sockets and threads raise all of these
                problem = error
        if self._server is None:
            self._warn(f"metrics are not served: {problem}")
            return
        if self.run is not None and (line := exposure(self._server.address, settings)) is not None:
            self._warn(line)
        self._announce(self._server)
        threading.Thread(target=self._keep_up, name="metrics upkeep", daemon=True).start()

    def last_scrape(self, say: Callable[[str], None]) -> None:
        """Wait until the final values were scraped, at most `prometheus.last_scrape_seconds`, if anything scrapes."""
        # The watchdog must not take it for a hang.
        seconds = min(self._served.recipe.prometheus.last_scrape_seconds, self._served.recipe.watchdog.evaluation / 2)
        if self._server is not None and seconds and self._server.is_scraped:
            say(f"waiting up to {seconds:.0f} s for the final metrics to be scraped (prometheus.last_scrape_seconds)")
            self._server.wait_for_a_scrape(seconds)

    def hurry(self) -> None:
        """End that wait. A signal's handler may call it."""
        if self._server is not None:
            self._server.hurry()

    def close(self, *, keep_target: bool = False) -> None:
        """Stop serving and remove the target. A second call does nothing.

        keep_target: the run has failed, so that Prometheus should find its endpoint down.
        """
        # Taken first: a signal's handler may close it in between.
        server, self._server = self._server, None
        target, self._target = self._target, None
        self._closed.set()
        if server is not None:
            server.close()
        if target is not None and not keep_target:
            target.remove()

    def _announce(self, server: MetricsServer) -> None:
        recipe = self._served.recipe
        host = socket.gethostname() if server.address in _WILDCARDS else server.address
        address = f"{f'[{host}]' if ':' in host else host}:{server.port}"
        self.url = f"{server.scheme}://{address}/metrics"
        if not self._one_loopback and is_loopback(host):
            self._warn(
                "no Prometheus will find these metrics: several hosts serve at their own loopback; set "
                "prometheus.address to 0.0.0.0 or to an interface"
            )
            return
        target = Target(
            address=address,
            scheme=server.scheme,
            run=recipe.run,
            node=self._node_name,
            rank=self._served.ranks.rank,
            attempt=self._attempt,
            slurm_job=os.environ.get("SLURM_JOB_ID"),
        )
        directory = recipe.prometheus.targets or recipe.run.absolute().parent / "targets"
        try:
            self._target = TargetFile(directory, target)
        except OSError as error:
            self._warn(f"no Prometheus will find these metrics by prometheus.targets={directory}: {error}")

    def _keep_up(self) -> None:
        """Touch the target and measure the disk, in a thread that nothing waits for: file systems may hang."""
        while True:
            if self.run is not None:
                self.run.look_at_disk()
            if self._closed.wait(_UPKEEP_SECONDS):
                return
            target = self._target
            if target is not None:
                target.touch()

    def _warn(self, message: str) -> None:
        log.warning(message, extra={"rank": self._served.ranks.rank})


def _loopback_identity() -> str:
    """Name this host's loopback: those of two hosts, or of two network namespaces of one, are different."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/net')}"
    except OSError:
        return socket.gethostname()


def _peak_of_all(served: Served, device: torch.device) -> float:
    """FLOP/s that all ranks reach together; 0 where one of them has no memory left to measure it."""
    autocast = served.ds_config.get("torch_autocast", {})
    if autocast.get("enabled"):
        dtype = {"float16": torch.float16}.get(str(autocast.get("dtype")).removeprefix("torch."), torch.bfloat16)
    else:
        dtype = _DTYPES[precision_of(served.ds_config)]
    try:
        own = matmul_peak(dtype, device)
    except torch.OutOfMemoryError:
        own = math.nan
    if device.type != "cpu":
        # Else the matrices would count as the training's.
        torch.accelerator.empty_cache()
        torch.accelerator.reset_peak_memory_stats()
    peak = float(sum_over_ranks(torch.tensor(own, dtype=torch.float64, device=device)))
    return 0.0 if math.isnan(peak) else peak


def _run_facts(served: Served, device: torch.device, peak_flops: float) -> RunFacts:
    recipe = served.recipe
    return RunFacts(
        languages=served.corpus.languages,
        counts_TS=served.corpus.direction_counts("train"),
        sampler=served.sampler,
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
            "precision": precision_of(served.ds_config),
            "world_size": str(served.ranks.world_size),
            "corpus": served.corpus.content_hash[:12],
        },
        peak_flops=peak_flops,
        checkpoint_every=recipe.checkpoint.every,
        direction_matrix=recipe.prometheus.direction_matrix,
    )
