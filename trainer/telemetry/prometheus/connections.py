"""prometheus_client's threaded WSGI server with a limit on connections, on the time of each, and TLS in its thread.

The library's own TLS shakes hands in the accepting thread, where one silent client would keep all others out.
"""

import contextlib
import io
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler

from prometheus_client.exposition import ThreadingWSGIServer

#: Connections at a time: each takes a thread and a descriptor of the training's process.
_CONNECTIONS = 64
#: How long a connection that was cut off has to end.
_ROOM_SECONDS = 1.0


class Tls:
    """A certificate and its key, loaded again when the files change. Raise `OSError` where they cannot be loaded."""

    def __init__(self, certificate: Path, key: Path | None) -> None:
        self._files = (certificate, key)
        self._context, self._loaded = self._load()

    def wrap(self, connection: socket.socket) -> ssl.SSLSocket:
        """Wrap a connection whose handshake is still to come."""
        with contextlib.suppress(OSError):  # in the middle of being replaced: the one before is still good
            if self._mtimes() != self._loaded:
                self._context, self._loaded = self._load()
        return self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)

    def _mtimes(self) -> list[int]:
        return [path.stat().st_mtime_ns for path in self._files if path is not None]

    def _load(self) -> tuple[ssl.SSLContext, list[int]]:
        # A new context: one that a certificate without its key was loaded into has lost both.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            mtimes = self._mtimes()
            context.load_cert_chain(*self._files, password=lambda: "")  # else an encrypted key asks the terminal
        except OSError as error:  # ssl's errors are OSErrors, too
            names = " and ".join(str(path) for path in self._files if path is not None)
            raise OSError(f"{names}: {error.strerror or error}") from error
        return context, mtimes


class ConnectionServer(ThreadingWSGIServer):
    request_queue_size = 128

    def __init__(
        self,
        address: tuple[str, int],
        *,
        tls: Tls | None,
        deadline_seconds: float,
        on_answer: Callable[[float], None],
    ) -> None:
        """Bind. on_answer: called with the connection's start (monotonic) when a GET's answer of 200 is written."""
        self._tls, self._deadline, self.on_answer = tls, deadline_seconds, on_answer
        # By the client's address, the oldest first: its socket, and when it began.
        self._open: dict[Any, tuple[socket.socket, float]] = {}
        self._changed = threading.Condition()
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Handler)

    @property
    def connections(self) -> int:
        with self._changed:
            return len(self._open)

    def service_actions(self) -> None:
        """Cut off connections that are past their deadline; the serving loop calls this."""
        now = time.monotonic()
        with self._changed:
            for connection, began in self._open.values():
                if now - began > self._deadline:
                    _cut_off(connection)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start a connection's thread. At the limit the oldest is cut off: a scrape is short, so it is none."""
        with self._changed:
            if len(self._open) >= _CONNECTIONS:
                _cut_off(next(iter(self._open.values()))[0])
                if not self._changed.wait_for(lambda: len(self._open) < _CONNECTIONS, timeout=_ROOM_SECONDS):
                    self.shutdown_request(request)
                    return
            self._open[client_address] = (request, time.monotonic())
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread could be started
            self._forget(client_address)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._forget(client_address)

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self._tls is None:
            return super().finish_request(request, client_address)
        with self._tls.wrap(request) as connection:
            with self._changed:  # it has taken the descriptor of the socket that was there
                self._open[client_address] = (connection, self._open[client_address][1])
            connection.do_handshake()
            return super().finish_request(connection, client_address)

    def server_bind(self) -> None:
        """Bind without asking a name server for this host's name, as HTTPServer does: it may not answer."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that go away, are cut off, or speak something else."""

    def _forget(self, client_address: Any) -> None:
        with self._changed:
            del self._open[client_address]
            self._changed.notify_all()


class _Handler(WSGIRequestHandler):
    server: ConnectionServer

    def handle(self) -> None:
        self._began = time.monotonic()
        super().handle()

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Report an answer; wsgiref calls this once it is written."""
        if self.command == "GET" and code == "200":
            self.server.on_answer(self._began)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""

    def get_stderr(self) -> Any:
        """Return where wsgiref writes the trace of a client that went away: nowhere."""
        return io.StringIO()


def _cut_off(connection: socket.socket) -> None:
    """End the reads and writes that the connection's thread waits in."""
    with contextlib.suppress(OSError):  # it has just ended
        # Not SSLSocket's own shutdown, which takes from the other thread what that is using.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
