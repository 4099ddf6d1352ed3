"""A real Prometheus with launcher/monitoring's own configuration and rules, for as long as a test needs it.

Its time runs faster: a test has seconds where a person has minutes.
"""

import json
import re
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.harness import free_port
from tests.support.monitoring import MONITORING, RULES
from tests.support.waiting import HANGING, until

#: So many times faster do rules wait, average and forget.
FASTER = 120
#: Thresholds that are seconds, in the two files: text -> how often it is there. Every one is made smaller.
SECONDS = {
    "recording.yml": {", 300)": 1, "* 0 + 300)": 1, "* 0 + 1800": 1},
    "alerts.yml": {
        "_timestamp_seconds < 600": 1,
        "_timestamp_seconds) > 600": 1,
        "seconds:max > 14400": 1,
        ", 86400)": 1,
    },
}
#: Of prometheus.yml: text -> what stands there for a test.
SETTINGS = {
    "scrape_interval: 15s": "scrape_interval: 500ms",
    "scrape_timeout: 10s": "scrape_timeout: 500ms",
    "evaluation_interval: 15s": "evaluation_interval: 500ms",
    "refresh_interval: 30s": "refresh_interval: 500ms",
    "  # - job_name: slurm\n  #   static_configs:\n  #     - targets: [login1:9100]": "  - job_name: slurm\n"
    "    static_configs:\n      - targets: [{jobs}]",
    "- /path/targets/*.json": "- {targets}/*.json",
}
#: And for endpoints that serve TLS and want a token.
SECURE = {
    "    # tls_config:\n    #   ca_file: /etc/prometheus/d2tv-ca.pem": "    tls_config:\n      ca_file: {authority}",
    "    # authorization:\n    #   credentials_file: /etc/prometheus/d2tv-token": "    authorization:\n"
    "      credentials_file: {token}",
}


def missing() -> str | None:
    """Why no Prometheus can be started here, or None."""
    return None if shutil.which("prometheus") else "no prometheus here: apt install prometheus"


def faster(rules: str, seconds: dict[str, int]) -> str:
    """Rules with all their durations, and these thresholds, FASTER times smaller."""
    for text, times in seconds.items():
        assert rules.count(text) == times, f"{text!r} is there {rules.count(text)} times"
        rules = rules.replace(text, re.sub(r"\d{3,}", lambda found: f"{int(found[0]) / FASTER:g}", text))

    def shorter(found: re.Match[str]) -> str:
        return f"{int(found[1]) * {'m': 60_000, 'h': 3_600_000}[found[2]] // FASTER}ms"

    # Not those in names, like mean10m.
    return re.sub(r"(?<![\w.])(\d+)([mh])\b", shorter, rules)


class Prometheus:
    """The server. targets: the directory of target files.  jobs: host:port of what slurm_jobs.sh's file is served by.
    secure: the files of a certificate that is trusted, and of a token.

    Leaving the context ends it and removes what it has stored.
    """

    def __init__(self, targets: Path, jobs: str, secure: tuple[Path, Path] | None = None) -> None:
        self._port = free_port()
        self._directory = Path(tempfile.mkdtemp(prefix="prometheus-"))
        text = (MONITORING / "prometheus.yml").read_text(encoding="utf-8")
        authority, token = secure or (None, None)
        for ours, theirs in (SETTINGS | (SECURE if secure else {})).items():
            assert text.count(ours) == 1, ours
            text = text.replace(ours, theirs.format(targets=targets, jobs=jobs, authority=authority, token=token))
        (self._directory / "prometheus.yml").write_text(text)
        (self._directory / "rules").mkdir()
        for name, seconds in SECONDS.items():
            rules = faster((RULES / name).read_text(encoding="utf-8"), seconds)
            (self._directory / "rules" / name).write_text(rules)

    def __enter__(self) -> "Prometheus":
        self._log = open(self._directory / "log", "w")
        self.process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={self._directory}/prometheus.yml",
                f"--storage.tsdb.path={self._directory}/data",
                f"--web.listen-address=127.0.0.1:{self._port}",
            ],
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        self.until(self._is_ready)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._log.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def until(self, reached: Callable[[], bool]) -> None:
        def reached_while_it_runs() -> bool:
            assert self.process.poll() is None, self.log
            return reached()

        until(reached_while_it_runs, lambda: f"firing: {self.firing()}\n{self.log[-3000:]}")

    @property
    def log(self) -> str:
        return (self._directory / "log").read_text()

    def get(self, path: str, **parameters: str) -> Any:
        """`data` of the HTTP API's answer."""
        address = f"http://127.0.0.1:{self._port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(address, timeout=HANGING) as reply:
                answer = json.loads(reply.read())
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path} {parameters}: {error.read().decode()}") from error
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expr: str) -> list[dict[str, Any]]:
        """Series of an expression, now."""
        found: list[dict[str, Any]] = self.get("query", query=expr)["result"]
        return found

    def course(self, expr: str, begin: float, end: float) -> list[dict[str, Any]]:
        """Series of an expression between two times."""
        found: list[dict[str, Any]] = self.get(
            "query_range", query=expr, start=f"{begin:.3f}", end=f"{end:.3f}", step="0.25"
        )["result"]
        return found

    def firing(self) -> set[str]:
        """Names of the alerts that fire now."""
        return {series["metric"]["alertname"] for series in self.query('ALERTS{alertstate="firing"}')}

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/-/ready", timeout=60) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False
