"""Serve a registry at /metrics over HTTP or HTTPS, optionally behind a bearer token.

Nothing that a client does, or fails to do, reaches the training or another client (connections.py).
"""

import hmac
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from prometheus_client import CollectorRegistry, make_wsgi_app

from trainer.telemetry.prometheus.connections import ConnectionServer, Tls

_LOG = logging.getLogger(__name__)
_Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
#: Limit of a connection, handshake, request and answer together: one that sends or takes a byte now and then would
#: live for ever. Prometheus itself gives up after 10 s by default.
_DEADLINE_SECONDS = 30.0
#: How soon the server notices that it is to end, or that a connection is past its deadline.
_POLL_SECONDS = 0.2
#: After so long without a scrape, none is expected.
_SCRAPE_EXPECTED_SECONDS = 300.0


class MetricsServer:
    """Serves from a thread of its own until `close`."""

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        address: str,
        port: int,
        certificate: Path | None = None,
        key: Path | None = None,
        token_file: Path | None = None,
        deadline_seconds: float = _DEADLINE_SECONDS,
    ) -> None:
        """Bind and serve.

        address: to listen at, or an interface by its name.  port: 0 for any free one.  certificate, key: PEM files
        (the key may be in the first, and is not encrypted).  token_file: holds what a client must present.
        deadline_seconds: how long a connection may last.

        Raises `OSError`, which names the file, the address or the port.
        """
        self.address = interface_address(address)
        self.scheme = "http" if certificate is None else "https"
        self._changed = threading.Condition()  # its lock may be taken again by a signal's handler
        self._last_scrape: float | None = None  # when it began
        self._hurried = False
        if token_file is not None:
            read_token(token_file)  # so that one that is missing is known now
        self._server = ConnectionServer(
            (self.address, port),
            tls=None if certificate is None else Tls(certificate, key),
            deadline_seconds=deadline_seconds,
            on_answer=self._on_answer,
        )
        self.port = int(self._server.server_port)
        self._server.set_app(_application(registry, token_file))
        serve = partial(self._server.serve_forever, poll_interval=_POLL_SECONDS)
        threading.Thread(target=serve, name="metrics", daemon=True).start()

    @property
    def is_scraped(self) -> bool:
        """Return True if there was a scrape within the last minutes."""
        with self._changed:
            last = self._last_scrape
            return last is not None and time.monotonic() - last <= _SCRAPE_EXPECTED_SECONDS

    @property
    def connections(self) -> int:
        """Return how many connections are open now."""
        return self._server.connections

    def wait_for_a_scrape(self, most_seconds: float) -> None:
        """Wait until a scrape that begins from now on has its answer, or `hurry` is called."""
        now = time.monotonic()
        with self._changed:
            self._changed.wait_for(lambda: self._hurried or (self._last_scrape or 0.0) >= now, timeout=most_seconds)

    def hurry(self) -> None:
        """End all waits for a scrape, also later ones. A signal's handler may call it."""
        with self._changed:
            self._hurried = True
            self._changed.notify_all()

    def close(self) -> None:
        """Stop listening. Answers that are under way are not waited for."""
        self._server.shutdown()
        self._server.server_close()

    def _on_answer(self, began: float) -> None:
        with self._changed:
            self._last_scrape = began
            self._changed.notify_all()


def interface_address(address: str) -> str:
    """Return the address of a network interface (`eth0`, `ib0`: the same on every node); others as they are."""
    for family in (socket.AF_INET, socket.AF_INET6):
        for found in psutil.net_if_addrs().get(address, ()):
            if found.family == family:
                return found.address
    return address


def read_token(path: Path) -> str:
    """Read a token file. Raise `OSError` where it cannot be read or is empty."""
    try:
        token = path.read_text(encoding="ascii").strip()
    except UnicodeDecodeError as error:
        raise OSError(f"{path} is not plain text") from error
    if not token:
        raise OSError(f"{path} is empty")
    return token


def _application(registry: CollectorRegistry, token_file: Path | None) -> _Application:
    # To compress 50 KB takes as long as to make them.
    serve: _Application = make_wsgi_app(registry, disable_compression=True)

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        refused = _refused(environ, token_file)
        if refused is None:
            environ.pop("HTTP_ACCEPT", None)  # OpenMetrics would take longer and tell Prometheus nothing more
            try:
                return serve(environ, start_response)
            except Exception:  # whatever it is stands in the log, and is raised again
                _LOG.exception("a scrape failed")
                raise
        status, line = refused
        challenge = [("WWW-Authenticate", "Bearer")] if status.startswith("401") else []
        start_response(status, [("Content-Type", "text/plain"), *challenge])
        return [line]

    return application


def _refused(environ: dict[str, Any], token_file: Path | None) -> tuple[str, bytes] | None:
    """Return status and line of a refusal, None where the request is granted. The token may be replaced at any time."""
    if token_file is not None:
        try:
            wanted = f"Bearer {read_token(token_file)}".encode()
        except OSError:
            return "503 Service Unavailable", b"the token file cannot be read\n"
        if not hmac.compare_digest(environ.get("HTTP_AUTHORIZATION", "").encode(), wanted):
            return "401 Unauthorized", b"a bearer token is wanted\n"
    if environ["PATH_INFO"] != "/metrics":
        return "404 Not Found", b"only /metrics is served\n"
    return None
