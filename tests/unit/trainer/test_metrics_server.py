"""The HTTP server of an endpoint against real clients: TLS, tokens, clients that misbehave, the last scrape."""

import contextlib
import http.client
import select
import socket
import ssl
import struct
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from tests.support.certificates import write_certificate
from tests.support.waiting import HANGING, until
from trainer.telemetry.prometheus.server import MetricsServer, interface_address


@pytest.fixture
def registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    Gauge("d2tv_step", "Steps", registry=registry).set(7)
    return registry


@contextmanager
def serving(registry: CollectorRegistry, **settings: Any) -> Iterator[MetricsServer]:
    server = MetricsServer(registry, **({"address": "127.0.0.1", "port": 0} | settings))
    try:
        yield server
    finally:
        server.close()


def scrape(server: MetricsServer, *, tls: ssl.SSLContext | None = None, token: str | None = None) -> str:
    host = f"[{server.address}]" if ":" in server.address else server.address
    headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
    request = urllib.request.Request(f"{server.scheme}://{host}:{server.port}/metrics", headers=headers)
    with urllib.request.urlopen(request, timeout=HANGING, context=tls) as reply:
        return str(reply.read().decode())


def test_a_scrape_gets_the_registry(registry: CollectorRegistry) -> None:
    with serving(registry) as server:
        assert "d2tv_step 7.0" in scrape(server)
    with pytest.raises(urllib.error.URLError):
        scrape(server)


@pytest.mark.parametrize("accept", ["*/*", "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"])
def test_a_scrape_gets_what_the_library_writes(registry: CollectorRegistry, accept: str) -> None:
    with serving(registry) as server:
        headers = {"Accept": accept, "Accept-Encoding": "gzip"}
        request = urllib.request.Request(f"http://127.0.0.1:{server.port}/metrics", headers=headers)
        with urllib.request.urlopen(request, timeout=HANGING) as reply:
            assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            assert reply.read() == generate_latest(registry)
        with pytest.raises(urllib.error.HTTPError, match="405"):
            urllib.request.urlopen(urllib.request.Request(request.full_url, data=b"x"), timeout=HANGING)


def test_a_fault_of_ours_is_a_500_and_logged(registry: CollectorRegistry, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> float:
        raise ZeroDivisionError

    Gauge("d2tv_broken", "Broken", registry=registry).set_function(fail)
    with serving(registry) as server:
        with pytest.raises(urllib.error.HTTPError, match="500"):
            scrape(server)
        assert not server.is_scraped
    assert "ZeroDivisionError" in caplog.text


def test_only_the_given_address_listens(registry: CollectorRegistry) -> None:
    with serving(registry) as server, socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.2", server.port)) != 0


def test_an_interface_by_its_name_and_ipv6(registry: CollectorRegistry) -> None:
    assert interface_address("lo") == "127.0.0.1"
    assert interface_address("10.1.2.3") == "10.1.2.3"
    with serving(registry, address="lo") as server:
        assert server.address == "127.0.0.1"
        assert "d2tv_step 7.0" in scrape(server)
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    with serving(registry, address="::1") as server:
        assert "d2tv_step 7.0" in scrape(server)


@pytest.mark.parametrize("address", ["203.0.113.7", "not an address", ""])
def test_an_address_that_cannot_be_had_is_an_oserror(registry: CollectorRegistry, address: str) -> None:
    if not address:
        with serving(registry, address=address) as server:  # any address, as the standard library has it
            assert server.port
        return
    with pytest.raises(OSError, match=r"."):
        MetricsServer(registry, address=address, port=0)


def test_tls(registry: CollectorRegistry, tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path)
    with serving(registry, certificate=certificate, key=key) as server:
        assert server.scheme == "https"
        assert "d2tv_step 7.0" in scrape(server, tls=ssl.create_default_context(cafile=certificate))
        with pytest.raises(urllib.error.URLError, match="certificate"):
            scrape(server, tls=ssl.create_default_context())  # who does not know the certificate
        with pytest.raises((http.client.HTTPException, OSError)):
            urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=HANGING)
        # The run is not ended for a certificate that ends.
        write_certificate(tmp_path)
        assert "d2tv_step 7.0" in scrape(server, tls=ssl.create_default_context(cafile=certificate))
        key.unlink()
        assert "d2tv_step 7.0" in scrape(server, tls=ssl.create_default_context(cafile=certificate))
        # In the middle of being replaced: a certificate without its key. The one before is served.
        before = certificate.read_bytes()
        write_certificate(tmp_path)
        key.write_text("not yet")
        (tmp_path / "before.pem").write_bytes(before)
        assert "d2tv_step 7.0" in scrape(server, tls=ssl.create_default_context(cafile=tmp_path / "before.pem"))


def test_key_and_certificate_in_one_file(registry: CollectorRegistry, tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path)
    both = tmp_path / "both.pem"
    both.write_bytes(key.read_bytes() + certificate.read_bytes())
    with serving(registry, certificate=both) as server:
        assert "d2tv_step 7.0" in scrape(server, tls=ssl.create_default_context(cafile=certificate))


def test_tls_files_that_are_missing_or_none_are_named(registry: CollectorRegistry, tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path)
    (tmp_path / "none.pem").write_text("no certificate")
    for files in ((tmp_path / "missing.pem", key), (tmp_path / "none.pem", key), (certificate, tmp_path / "none.pem")):
        with pytest.raises(OSError, match=r"(missing|none)\.pem"):
            MetricsServer(registry, address="127.0.0.1", port=0, certificate=files[0], key=files[1])


def test_an_encrypted_key_asks_nobody(registry: CollectorRegistry, tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path)
    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(
        loaded.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(OSError, match=r"key\.pem"):
        MetricsServer(registry, address="127.0.0.1", port=0, certificate=certificate, key=key)


class Clock:
    """The server's clock, which stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("trainer.telemetry.prometheus.connections.time", clock)
    return clock


def drip(server: MetricsServer, start: bytes, drop: bytes) -> tuple[socket.socket, threading.Thread]:
    """A client that never ends its request and is never silent, until it is cut off."""
    client = socket.create_connection((server.address, server.port))
    client.sendall(start)

    def go_on() -> None:
        with contextlib.suppress(OSError):
            while not select.select([client], [], [], 0.02)[0] or client.recv(65536):
                client.sendall(drop)

    thread = threading.Thread(target=go_on)
    thread.start()
    return client, thread


def test_the_oldest_connection_makes_room_for_the_newest(registry: CollectorRegistry) -> None:
    """Each takes a thread and a descriptor of the training's process."""
    with serving(registry, deadline_seconds=3600) as server:
        before = threading.active_count()
        silent = [socket.create_connection((server.address, server.port)) for _ in range(200)]
        silent[0].settimeout(HANGING)
        assert silent[0].recv(1) == b""
        for _ in range(3):  # none of the 64 that are left keeps a scrape out
            assert "d2tv_step 7.0" in scrape(server)
        assert threading.active_count() - before <= 64
        assert server.connections <= 64
        for connection in silent:
            connection.close()
        until(lambda: server.connections == 0)


@pytest.mark.parametrize(
    ("start", "drop"),
    [(b"GET /metrics HTTP/1.1\r\n", b"X-A: b\r\n"), (b"GE", b"T"), (b"GET /metrics HTTP/1.1\r\nX: ", b"y")],
)
def test_a_request_that_never_ends_is_cut_off(
    registry: CollectorRegistry, clock: Clock, start: bytes, drop: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    """The time counts from the beginning of a connection, not from its last byte."""
    with serving(registry, deadline_seconds=30) as server:
        clients = [drip(server, start, drop) for _ in range(5)]
        until(lambda: server.connections == 5)
        clock.now += 31
        for client, thread in clients:
            thread.join(HANGING)
            assert not thread.is_alive()
            client.close()
        until(lambda: server.connections == 0)
        assert "d2tv_step 7.0" in scrape(server)
    assert capfd.readouterr().err == ""


def test_dripping_clients_starve_no_scrape(registry: CollectorRegistry) -> None:
    with serving(registry, deadline_seconds=3600) as server:
        clients = [drip(server, b"GET /metrics HTTP/1.1\r\n", b"X-A: b\r\n") for _ in range(64)]
        until(lambda: server.connections == 64)
        for _ in range(3):
            assert "d2tv_step 7.0" in scrape(server)
        for client, thread in clients:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
            thread.join(HANGING)
            client.close()


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("leaves", [False, True])
def test_a_reader_that_takes_nothing_is_cut_off(
    tmp_path: Path, clock: Clock, secure: bool, leaves: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    """leaves: it goes away in the middle of the answer, with a reset."""
    registry = CollectorRegistry()
    Gauge("d2tv_large", "x" * 16_000_000, registry=registry).set(7)
    certificate, key = write_certificate(tmp_path)
    files = {"certificate": certificate, "key": key} if secure else {}
    with serving(registry, deadline_seconds=30, **files) as server:
        client = socket.create_connection((server.address, server.port))
        if secure:
            client = ssl.create_default_context(cafile=certificate).wrap_socket(client, server_hostname="127.0.0.1")
        client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        assert client.recv(1)
        if leaves:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        else:
            clock.now += 31
        until(lambda: server.connections == 0)
        client.close()
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("data", [b"", b"\x16\x03\x01\x02\x00\x01", b"GET /metrics HTTP/1.1\r\n\r\n", b"\xff" * 5000])
def test_a_handshake_that_is_none_or_never_ends_is_cut_off(
    registry: CollectorRegistry, tmp_path: Path, clock: Clock, data: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    certificate, key = write_certificate(tmp_path)
    with serving(registry, certificate=certificate, key=key, deadline_seconds=30) as server:
        client = socket.create_connection((server.address, server.port))
        until(lambda: server.connections == 1)
        client.sendall(data)
        clock.now += 31
        until(lambda: server.connections == 0)
        client.close()
        assert "d2tv_step 7.0" in scrape(server, tls=ssl.create_default_context(cafile=certificate))
    assert capfd.readouterr().err == ""


def test_a_bearer_token(registry: CollectorRegistry, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret\n")
    with serving(registry, token_file=token) as server:
        assert "d2tv_step 7.0" in scrape(server, token="secret")
        for wrong in (None, "", "secre", "secret2", "geheim\xe9"):
            with pytest.raises(urllib.error.HTTPError, match="401"):
                scrape(server, token=wrong)
        token.write_text("another")  # it may be replaced while the run goes on
        assert "d2tv_step 7.0" in scrape(server, token="another")
        token.unlink()  # and nobody gets in where there is none
        with pytest.raises(urllib.error.HTTPError, match="503"):
            scrape(server, token="another")


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff\xfe"])
def test_a_token_file_that_holds_none_starts_no_server(
    registry: CollectorRegistry, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(OSError, match="token"):
        MetricsServer(registry, address="127.0.0.1", port=0, token_file=path)


def test_clients_that_misbehave_keep_nobody_out(
    registry: CollectorRegistry, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    certificate, key = write_certificate(tmp_path)
    tls = ssl.create_default_context(cafile=certificate)
    for settings, context in (({}, None), ({"certificate": certificate, "key": key}, tls)):
        with serving(registry, **settings) as server:
            silent = [socket.create_connection((server.address, server.port)) for _ in range(40)]
            with socket.create_connection((server.address, server.port)) as rude:
                rude.sendall(b"\x00\xff" * 1000 + b"\r\n\r\n")
            assert "d2tv_step 7.0" in scrape(server, tls=context)
            for connection in silent:
                connection.close()
    assert capfd.readouterr().err == ""


def test_the_last_scrape_is_waited_for_where_somebody_scrapes(registry: CollectorRegistry) -> None:
    with serving(registry) as server:
        assert not server.is_scraped  # nobody ever did
        for word in ("favicon.ico", "anything"):  # nor does who looks at something else
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(f"http://127.0.0.1:{server.port}/{word}", timeout=HANGING)
        assert not server.is_scraped
        scrape(server)
        until(lambda: server.is_scraped)  # it counts once its answer is written
        answers: list[str] = []
        late = threading.Timer(0.5, lambda: answers.append(scrape(server)))
        late.start()
        server.wait_for_a_scrape(30)
        late.join()
        assert "d2tv_step 7.0" in answers[0]
        server.wait_for_a_scrape(0.1)  # no longer than it may
        threading.Timer(0.3, server.hurry).start()
        server.wait_for_a_scrape(300)  # nor when a signal says so
        server.wait_for_a_scrape(300)


def test_a_scrape_that_is_refused_is_none(registry: CollectorRegistry, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret")
    with serving(registry, token_file=token) as server:
        with pytest.raises(urllib.error.HTTPError):
            scrape(server)
        assert not server.is_scraped
