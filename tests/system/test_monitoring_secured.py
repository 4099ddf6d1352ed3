"""A real Prometheus and endpoints with TLS and a bearer token, by the lines that prometheus.yml has for them."""

import contextlib
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Gauge

from tests.support.certificates import write_certificate
from tests.support.prometheus import Prometheus, missing
from trainer.telemetry.prometheus.server import MetricsServer
from trainer.telemetry.prometheus.targets import Target, TargetFile

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
]


def test_endpoints_with_tls_and_a_token_are_scraped_as_the_configuration_says(tmp_path: Path) -> None:
    """Two endpoints, of which one wants another token than Prometheus has."""
    certificate, key = write_certificate(tmp_path)
    (tmp_path / "token").write_text("open sesame\n")
    (tmp_path / "another").write_text("sesame\n")
    registry = CollectorRegistry()
    Gauge("d2tv_step", "Optimizer steps taken", registry=registry).set(7)
    with contextlib.ExitStack() as undo:
        for number, token in enumerate(("token", "another")):
            server = MetricsServer(
                registry, address="127.0.0.1", port=0, certificate=certificate, key=key, token_file=tmp_path / token
            )
            undo.callback(server.close)
            target = Target(
                address=f"127.0.0.1:{server.port}",
                scheme=server.scheme,
                run=tmp_path / "mt5",
                node=f"n{number}",
                rank=number,
                attempt="1",
            )
            undo.callback(TargetFile(tmp_path / "targets", target).remove)
        prometheus = undo.enter_context(
            Prometheus(tmp_path / "targets", "127.0.0.1:1", (certificate, tmp_path / "token"))
        )
        prometheus.until(lambda: len(prometheus.query('up{job="d2tv"}')) == 2)
        prometheus.until(lambda: bool(prometheus.query("d2tv_step")))
        (step,) = prometheus.query("d2tv_step")
        assert (step["metric"]["node"], step["value"][1]) == ("n0", "7")
        found = prometheus.get("targets")["activeTargets"]
        errors = {one["labels"]["node"]: one["lastError"] for one in found if one["labels"]["job"] == "d2tv"}
        assert errors == {"n0": "", "n1": "server returned HTTP status 401 Unauthorized"}
