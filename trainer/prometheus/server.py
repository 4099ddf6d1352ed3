"""The HTTP server of an endpoint: a registry at /metrics, over TLS and behind a bearer token where asked for.

Nothing that a client does, or fails to do, reaches the training, nor another client: every connection has a thread
and a time limit from its beginning to its end, and where there are too many, the oldest makes room for the newest.
"""

import contextlib
import hmac
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any, cast
from wsgiref.simple_server import ServerHandler, WSGIRequestHandler

import psutil
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import ThreadingWSGIServer

from trainer.prometheus.exposition import CONTENT_TYPE, Exposition

#: How long a connection may last, handshake, request and answer together: one that sends or takes a byte now and then
#: would live for ever. Prometheus itself gives up after 10 s by default.
_DEADLINE_SECONDS = 30.0
#: How soon the server notices that it is to end, or that a connection is over its time.
_POLL_SECONDS = 0.2
#: Connections at a time.
_CONNECTIONS = 64
#: How long a connection that was cut off has to give back its place.
_ROOM_SECONDS = 1.0
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
        tls = None if certificate is None else _Tls(certificate, key)
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET

        class Server(_Server):
            address_family = family

        self._server = Server((self.address, port), _Handler, tls, deadline_seconds)
        self.port = int(self._server.server_port)
        self._server.set_app(application)
        serve = partial(self._server.serve_forever, poll_interval=_POLL_SECONDS)
        self._thread = threading.Thread(target=serve, name="metrics", daemon=True)
        self._thread.start()

    @property
    def is_scraped(self) -> bool:
        """Whether somebody has scraped within the last minutes."""
        return self._scrapes.are_expected()

    @property
    def connections(self) -> int:
        """How many connections are open now."""
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
    """The address of a network interface (`eth0`, `ib0`: the same words on every node); others as they are."""
    for family in (socket.AF_INET, socket.AF_INET6):
        for found in psutil.net_if_addrs().get(address, ()):
            if found.family == family:
                return found.address
    return address


def read_token(path: Path) -> str:
    """What a token file holds. Raises `OSError` where it cannot be read or is empty."""
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


class _Exchange(ServerHandler):
    def log_exception(self, exc_info: Any) -> None:
        """Print the trace of a fault of ours; a client that goes away or is cut off is none."""
        if not issubclass(exc_info[0], OSError):
            super().log_exception(exc_info)


class _Handler(WSGIRequestHandler):
    def handle(self) -> None:
        """Answer one request, as the standard library's handler does."""
        self.raw_requestline = self.rfile.readline(65537)
        if len(self.raw_requestline) > 65536:
            self.requestline = self.request_version = self.command = ""
            self.send_error(414)
            return
        if not self.parse_request():
            return
        exchange = _Exchange(
            self.rfile, cast(IO[bytes], self.wfile), self.get_stderr(), self.get_environ(), multithread=False
        )
        exchange.request_handler = self  # type: ignore[attr-defined]
        exchange.run(self.server.get_app())  # type: ignore[attr-defined]

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a scrape every 15 seconds is no news."""

    def address_string(self) -> str:
        """Not a name that some name server would have to know."""
        return str(self.client_address[0])


class _Tls:
    """A certificate that may be replaced on the disk while it is served."""

    def __init__(self, certificate: Path, key: Path | None) -> None:
        self._files = (certificate, key)
        self._context, self._loaded = self._load()

    def wrap(self, connection: socket.socket) -> ssl.SSLSocket:
        """Wrap a connection whose handshake is still to come, in the connection's own thread."""
        with contextlib.suppress(OSError):  # in the middle of being replaced: the one before is still good
            if self._stamps() != self._loaded:
                self._context, self._loaded = self._load()
        return self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)

    def _stamps(self) -> list[int]:
        return [path.stat().st_mtime_ns for path in self._files if path is not None]

    def _load(self) -> tuple[ssl.SSLContext, list[int]]:
        # A new context: one that a certificate without its key was loaded into has lost both.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        certificate, key = self._files
        try:
            stamps = self._stamps()
            context.load_cert_chain(certificate, key, password=lambda: "")  # else an encrypted key asks the terminal
        except OSError as error:  # ssl's errors are OSErrors, too
            names = " and ".join(str(path) for path in self._files if path is not None)
            raise OSError(f"{names}: {error.strerror or error}") from error
        return context, stamps


class _Server(ThreadingWSGIServer):
    request_queue_size = 128

    def __init__(
        self, where: tuple[str, int], handler: type[_Handler], tls: _Tls | None, deadline_seconds: float
    ) -> None:
        self._tls, self._deadline = tls, deadline_seconds
        self._room = threading.BoundedSemaphore(_CONNECTIONS)
        # By the client's address, the oldest first: its socket, and when it began.
        self._open: dict[Any, tuple[socket.socket, float]] = {}
        self._lock = threading.Lock()
        super().__init__(where, handler)

    @property
    def connections(self) -> int:
        with self._lock:
            return len(self._open)

    def service_actions(self) -> None:
        """Cut off the connections that are over their time. The serving loop calls this."""
        now = time.monotonic()
        with self._lock:
            late = [one for one, began in self._open.values() if now - began > self._deadline]
        for connection in late:
            _cut_off(connection)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give a connection its thread. Their number is limited, for descriptors are the training's, too: the oldest
        makes room, since a scrape is done in a moment and what has been there for long is none."""
        if not self._room.acquire(blocking=False):
            with self._lock:
                oldest = next((one for one, _ in self._open.values()), None)
            if oldest is not None:
                _cut_off(oldest)
            if not self._room.acquire(timeout=_ROOM_SECONDS):
                self.shutdown_request(request)
                return
        with self._lock:
            self._open[client_address] = (request, time.monotonic())
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread is to be had
            self._forget(client_address)
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._forget(client_address)

    def _forget(self, client_address: Any) -> None:
        with self._lock:
            del self._open[client_address]
        self._room.release()

    def server_bind(self) -> None:
        """Bind without the name server that the standard library would ask for this host's name."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self._tls is None:
            return super().finish_request(request, client_address)
        with self._tls.wrap(request) as connection:
            with self._lock:  # it has taken the descriptor of the socket that was there
                self._open[client_address] = (connection, self._open[client_address][1])
            connection.do_handshake()
            return super().finish_request(connection, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that go away, are cut off, or speak something else."""


def _cut_off(connection: socket.socket) -> None:
    """Wake the thread that waits for a connection: its reads and writes end now."""
    with contextlib.suppress(OSError):  # it has just ended
        # Not TLS' own shutdown, which takes from the other thread what that is using.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
