"""Connections to an endpoint: every one has a thread, and a time limit from its beginning to its end.

Where there are too many, the oldest makes room for the newest.
"""

import contextlib
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import IO, Any, cast
from wsgiref.simple_server import ServerHandler, WSGIRequestHandler

from prometheus_client.exposition import ThreadingWSGIServer

#: Connections at a time.
_CONNECTIONS = 64
#: How long a connection that was cut off has to give back its place.
_ROOM_SECONDS = 1.0


class _Exchange(ServerHandler):
    def log_exception(self, exc_info: Any) -> None:
        """Print the trace of a fault of ours; a client that goes away or is cut off is none."""
        if not issubclass(exc_info[0], OSError):
            super().log_exception(exc_info)


class Handler(WSGIRequestHandler):
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


class Tls:
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


class ConnectionServer(ThreadingWSGIServer):
    request_queue_size = 128

    def __init__(
        self, where: tuple[str, int], handler: type[Handler], tls: Tls | None, deadline_seconds: float
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
