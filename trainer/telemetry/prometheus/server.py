"""The HTTP server of an endpoint: a registry at /metrics, over TLS and behind a bearer token where asked for.

Nothing that a client does, or fails to do, reaches the training or another client (connections.py).
"""

import hmac
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from prometheus_client import CollectorRegistry

from trainer.telemetry.prometheus.connections import ConnectionServer, Handler, Tls
from trainer.telemetry.prometheus.exposition import CONTENT_TYPE, Exposition

#: How long a connection may last, handshake, request and answer together: one that sends or takes a byte now and then
#: would live for ever. Prometheus itself gives up after 10 s by default.
_DEADLINE_SECONDS = 30.0
#: How soon the server notices that it is to end, or that a connection is over its time.
_POLL_SECONDS = 0.2
_Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


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
        (the key may be in the first, and is not encrypted).  token_file: who asks must say what it holds.
        deadline_seconds: how long a connection may last.

        Raises `OSError`, which names the file, the address or the port.
        """
        self.address = interface_address(address)
        self.scheme = "http" if certificate is None else "https"
        self._scrapes = _Scrapes()
        if token_file is not None:
            read_token(token_file)  # so that one that is missing is known now
        application = _counted(_guarded(_application(Exposition(registry)), token_file), self._scrapes)
        tls = None if certificate is None else Tls(certificate, key)
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET

        class Server(ConnectionServer):
            address_family = family

        self._server = Server((self.address, port), Handler, tls, deadline_seconds)
        self.port = int(self._server.server_port)
        self._server.set_app(application)
        serve = partial(self._server.serve_forever, poll_interval=_POLL_SECONDS)
        self._thread = threading.Thread(target=serve, name="metrics", daemon=True)
        self._thread.start()

    @property
    def is_scraped(self) -> bool:
        """Return True if somebody has scraped within the last minutes."""
        return self._scrapes.are_expected()

    @property
    def connections(self) -> int:
        """Return how many connections are open now."""
        return self._server.connections

    def wait_for_a_scrape(self, most_seconds: float) -> None:
        """Until the next scrape has its answer, or `hurry` is called."""
        self._scrapes.wait_for_the_next(most_seconds)

    def hurry(self) -> None:
        """Nobody is to wait for a scrape any more. A signal's handler may call it."""
        self._scrapes.hurry()

    def close(self) -> None:
        """Stop listening. Answers that are under way are not waited for."""
        self._server.shutdown()
        self._server.server_close()


def interface_address(address: str) -> str:
    """Return the address of a network interface (`eth0`, `ib0`: the same on every node); others as they are."""
    for family in (socket.AF_INET, socket.AF_INET6):
        for found in psutil.net_if_addrs().get(address, ()):
            if found.family == family:
                return found.address
    return address


def read_token(path: Path) -> str:
    """Return what a token file holds. Raises `OSError` where it cannot be read or is empty."""
    try:
        token = path.read_text(encoding="ascii").strip()
    except UnicodeDecodeError as error:
        raise OSError(f"{path} is not plain text") from error
    if not token:
        raise OSError(f"{path} is empty")
    return token


def _application(exposition: Exposition) -> _Application:
    """/metrics alone, uncompressed: to compress 50 KB takes as long as to make them."""

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            start_response("405 Method Not Allowed", [("Content-Type", "text/plain"), ("Allow", "GET, HEAD")])
            return [b"only GET\n"]
        if environ["PATH_INFO"] != "/metrics":
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"/metrics is what there is\n"]
        body = exposition()
        start_response("200 OK", [("Content-Type", CONTENT_TYPE), ("Content-Length", str(len(body)))])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    return application


def _guarded(application: _Application, token_file: Path | None) -> _Application:
    """The application for those alone who know the token. It is read at every request: it may be replaced."""
    if token_file is None:
        return application

    def guarded(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        try:
            wanted = f"Bearer {read_token(token_file)}".encode()
        except OSError:
            start_response("503 Service Unavailable", [("Content-Type", "text/plain")])
            return [b"the token file cannot be read\n"]
        if not hmac.compare_digest(environ.get("HTTP_AUTHORIZATION", "").encode(), wanted):
            start_response("401 Unauthorized", [("Content-Type", "text/plain"), ("WWW-Authenticate", "Bearer")])
            return [b"a bearer token is wanted\n"]
        return application(environ, start_response)

    return guarded


def _counted(application: _Application, scrapes: "_Scrapes") -> _Application:
    def counted(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] != "GET":
            return application(environ, start_response)
        began, good = time.monotonic(), []

        def note(status: str, *rest: Any) -> Any:
            good.append(status.startswith("200"))
            return start_response(status, *rest)

        return _Answer(application(environ, note), lambda: scrapes.answered(began) if all(good) else None)

    return counted


class _Answer:
    """A WSGI answer that tells of its end."""

    def __init__(self, body: Iterable[bytes], ended: Callable[[], None]) -> None:
        self._body, self._ended = body, ended

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def close(self) -> None:
        self._ended()


class _Scrapes:
    """When scrapes that were answered began."""

    #: Who has not scraped for so long will not do so now.
    _PATIENCE_SECONDS = 300.0

    def __init__(self) -> None:
        self._changed = threading.Condition()  # around a lock that a handler may take a second time
        self._last: float | None = None
        self._in_a_hurry = False

    def answered(self, began: float) -> None:
        with self._changed:
            self._last = began
            self._changed.notify_all()

    def are_expected(self) -> bool:
        with self._changed:
            return self._last is not None and time.monotonic() - self._last <= self._PATIENCE_SECONDS

    def wait_for_the_next(self, most_seconds: float) -> None:
        now = time.monotonic()
        with self._changed:
            self._changed.wait_for(
                lambda: self._in_a_hurry or (self._last is not None and self._last >= now), timeout=most_seconds
            )

    def hurry(self) -> None:
        with self._changed:
            self._in_a_hurry = True
            self._changed.notify_all()
