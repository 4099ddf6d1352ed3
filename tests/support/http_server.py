"""A real HTTP server over a directory, with faults on demand; and what is read through it, to compare."""

import re
import socket
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np

from shards.batch.reader import Reader, ReaderConfig
from shards.batch.spans import UnreadableError
from shards.format.index import Corpus
from shards.storage.reads import Storage


class FileServer(ThreadingHTTPServer):
    """Serves `directory` on a free port of the loopback, with ranges, keeping connections.

    faults[name]: what goes wrong at the next requests for `name`, in order; always[name]: at every one. A fault is
        a status in digits   that answer
        reset                half of the body, then the connection is reset
        cut                  half of the body, then the connection ends
        short                half of what was asked for, in a sound answer
        whole                the range is ignored
        stall N              N seconds before the answer
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, directory: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.directory = directory
        self.faults: dict[str, list[str]] = defaultdict(list)
        self.always: dict[str, str] = {}
        self.requests: list[tuple[str, str]] = []  # (name, range)
        self.authorizations: set[str | None] = set()
        self.queries: set[str] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/corpora/tiny"

    def names(self) -> list[str]:
        return [name for name, _ in self.requests]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or every answer would wait for the client's delayed acknowledgement
    server: FileServer

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        name = unquote(parts.path).removeprefix("/corpora/tiny/")
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        self.server.requests.append((name, self.headers.get("Range", "")))
        self.server.authorizations.add(self.headers.get("Authorization"))
        self.server.queries.add(parts.query)
        waiting = self.server.faults[name]
        fault = waiting.pop(0) if waiting else self.server.always.get(name, "")
        path = self.server.directory / name
        if fault.isdigit() or not path.is_file():
            self._answer(int(fault or 404), b"<html>an error page</html>")
            return
        data, status, headers = path.read_bytes(), 200, {}
        if fault.startswith("stall"):
            time.sleep(float(fault.split()[1]))
        if wanted and fault != "whole":
            begin, end = int(wanted[1]), min(int(wanted[2]) + 1, len(data))
            if begin >= len(data):
                self._answer(416, b"")
                return
            headers["Content-Range"] = f"bytes {begin}-{end - 1}/{len(data)}"
            data, status = data[begin:end], 206
        if fault == "short":
            data = data[: len(data) // 2]
        self._answer(status, data, headers, sent=len(data) // 2 if fault in ("reset", "cut") else None)
        if fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if fault in ("reset", "cut"):
            self.close_connection = True

    def _answer(self, status: int, data: bytes, headers: dict[str, str] | None = None, sent: int | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(data[:sent])

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def serving(directory: Path) -> Iterator[FileServer]:
    server = FileServer(directory)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def images_of(
    corpus: Corpus,
    storage: Storage | None = None,
    *,
    rows: Iterable[int] | None = None,
    threads: int = 2,
    retries: int = 3,
    at_once: int = 16,
) -> list[bytes | str]:
    """For each row, the bytes of its images, or the text of the error."""
    config = ReaderConfig(io_threads=threads, retries=retries, retry_seconds=0.01)
    reader = Reader(corpus, config, storage)
    wanted = list(range(len(corpus.articles)) if rows is None else rows)
    found: list[bytes | str] = []
    for begin in range(0, len(wanted), at_once):
        some = wanted[begin : begin + at_once]
        regions, width = corpus.manifest["regions"], corpus.manifest["feature_size"]
        roi = np.zeros((len(some), 4, regions, width), np.float16)
        boxes = np.zeros((len(some), 4, regions, 4), np.float32)
        for place, outcome in enumerate(reader.images(some, roi, boxes).finish()):
            if isinstance(outcome, UnreadableError):
                found.append(str(outcome))
            else:
                found.append(roi[place, :outcome].tobytes() + boxes[place, :outcome].tobytes())
    reader.close()
    return found
