"""Report a rank's progress to its monitor, a process of its own (trainer/liveness/monitor.py).

The monitors notice a rank that dies or makes no progress, also one that hangs in C, and end all ranks in seconds, with
their stacks in `<run>/stacks`: `HUNG` and `PEER_DIED` of exit_codes.py. What a monitor needs of its rank is prepared
here, in handlers of C alone: a hanging rank runs no Python. No library does this: torchrun's health checks and NCCL's
watchdog live in threads of the rank.
"""

import contextlib
import ctypes
import faulthandler
import hmac
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, cast, get_args

import torch.distributed as dist

from trainer.distributed import from_first_rank
from trainer.events import Event, Phase, PhaseBegan
from trainer.liveness.exit_codes import HUNG, PEER_DIED
from trainer.liveness.waits import GOODBYE_SECONDS
from trainer.liveness.watched_rank import DUMP_SIGNAL
from trainer.ranks import Ranks
from trainer.recipe.sections import WatchdogSection
from trainer.terminal.log import log

_MONITOR = Path(__file__).with_name("monitor.py")
#: A host that is gone is noticed after idle + count x interval = 12 s of silence.
_KEEPALIVE = {"TCP_KEEPIDLE": 4, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 4, "TCP_USER_TIMEOUT": 12_000}
_START_SECONDS = 30.0
_CONNECT_SECONDS = 10.0
_HELLO_SECONDS = 2.0
_ACCEPT_SECONDS = 0.2
_LONGEST_MESSAGE = 500
_TOKEN_BYTES, _RANK_DIGITS = 16, 8


class Watchdog:
    """Keep one rank's monitor informed. A problem with it ends no training: it is printed once, on stderr.

    On one rank or many: `start`, `connect` when the ranks have joined, `phase` at all progress (or as an observer of
    events), `close` before every end that is no failure. A process that ends without `close` has died, and the others
    are ended.
    """

    def __init__(self, ranks: Ranks, *, enabled: bool) -> None:
        self._ranks = ranks
        self._enabled = enabled
        self._control: socket.socket | None = None
        self._stacks: int | None = None
        self._peers: list[socket.socket] = []

    @classmethod
    def off(cls, ranks: Ranks) -> "Watchdog":
        """Return a watchdog that does nothing."""
        return cls(ranks, enabled=False)

    @classmethod
    def start(cls, ranks: Ranks, run: Path, limits: WatchdogSection) -> "Watchdog":
        """Start this rank's monitor, in phase "start". Before the process group exists: it may hang in joining."""
        watchdog = cls(ranks, enabled=limits.enabled)
        if limits.enabled:
            try:
                watchdog._start_monitor(run.absolute(), limits)
            except (OSError, subprocess.SubprocessError) as error:
                watchdog._lose(f"its monitor does not start: {error}")
        return watchdog

    @property
    def notify_fd(self) -> int | None:
        """Return the file descriptor for `StopSignal`, so that a second signal ends a rank that hangs."""
        return None if self._control is None else self._control.fileno()

    def notify(self, event: Event) -> None:
        if isinstance(event, PhaseBegan):
            self.phase(event.phase, event.detail)

    def phase(self, name: Phase, detail: str = "") -> None:
        """Begin a phase: its limit counts from here. Takes microseconds, never raises.

        detail: its name beside the stacks, like "step 17".
        """
        if self._control is None:
            return
        try:
            os.write(self._control.fileno(), f"phase {name} {detail}".encode()[:_LONGEST_MESSAGE])
        except BlockingIOError:
            pass  # the monitor is behind with reading, so it knows of enough progress
        except OSError:
            self._lose("its monitor has gone")

    def connect(self) -> None:
        """Connect the monitors of all ranks, which call this together, after `join`.

        Where rank 0's host cannot be reached, that rank trains on: its death ends the others at their limits only.
        """
        if not self._enabled or self._ranks.world_size == 1:
            return
        # Every rank takes part, also one whose own monitor is gone: its end of the connection shows its death.
        listener, accepting, token, port, problem = None, None, "", 0, ""
        callers = [self._ranks.world_size - 1]
        if self._ranks.is_first:
            try:
                listener = _listen(_on_one_host(self._ranks), self._ranks.world_size)
                token, port = secrets.token_hex(_TOKEN_BYTES), listener.getsockname()[1]
                # While they call: the kernel's queue may be shorter than the ranks are many.
                accepting = ThreadPoolExecutor(1).submit(_accept, listener, token, lambda: callers[0])
            except OSError as error:
                problem = f"cannot listen: {error}"
        token, port = cast(tuple[str, int], from_first_rank((token, port)))
        connections: dict[int, socket.socket] = {}
        if port and not self._ranks.is_first:
            host = "127.0.0.1" if _on_one_host(self._ranks) else os.environ["MASTER_ADDR"]
            try:
                connections[0] = _call(host, port, token, self._ranks.rank)
            except OSError as error:
                problem = f"rank 0 is not reached at {host}:{port}: {error}"
        problems = [""] * self._ranks.world_size
        dist.all_gather_object(problems, problem)
        if accepting is not None and listener is not None:
            callers[0] = problems[1:].count("")  # now it is known how many have called
            connections = accepting.result()
            listener.close()
        accepted = cast(list[int], from_first_rank(list(connections)))
        if self._ranks.is_first or self._ranks.rank in accepted:
            for rank, connection in connections.items():
                self._introduce(rank, connection)
        elif connections:  # it would break, and look like rank 0's death
            connections[0].close()
            problem = "rank 0 takes no more connections"
        if problem:
            self._warn(f"its watchdog is not connected with the others': {problem}")

    def close(self, goodbye: Literal["bye", "failed", "stopped"] = "bye") -> None:
        """Say that the end of this rank, which follows, is no death. A second call does nothing.

        failed: it ends with an error that it has printed; stopped: after a signal, which the others get too. They then
        have `ALONE_SECONDS` to do the same before they are ended: they may wait for this one in a collective.
        """
        for connection in self._peers:
            # Not the monitor's: it may have been killed, and without this the others would take it for a death.
            with contextlib.suppress(OSError):
                connection.send(f"{goodbye}\n".encode())
        if self._control is not None:
            with contextlib.suppress(OSError):
                self._control.settimeout(GOODBYE_SECONDS)
                self._control.send(b"close")
                self._control.recv(1)  # the monitor ends, and its side with it
        self._release()
        for connection in self._peers:
            connection.close()
        self._peers = []

    def _start_monitor(self, run: Path, limits: WatchdogSection) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(GOODBYE_SECONDS)  # which makes the descriptor non-blocking, for `phase` and signals
        stacks, self._stacks = os.pipe()
        stat = os.open("/proc/self/stat", os.O_RDONLY)
        config = {
            "rank": self._ranks.rank,
            "run": str(run),
            "pid": os.getpid(),
            "limits": {name: getattr(limits, name) for name in get_args(Phase)},
            "control": theirs.fileno(),
            "stacks": stacks,
            "stat": stat,
        }
        try:
            faulthandler.register(DUMP_SIGNAL, file=self._stacks, all_threads=True)
            _exit_in_c(True)
            subprocess.run(
                # Isolated and without site-packages: it starts in milliseconds, whatever the environment says.
                [sys.executable, "-I", "-S", str(_MONITOR), json.dumps(config)],
                pass_fds=(theirs.fileno(), stacks, stat),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                check=True,
                timeout=_START_SECONDS,
            )
        finally:
            theirs.close()
            os.close(stacks)
            os.close(stat)

    def _introduce(self, rank: int, connection: socket.socket) -> None:
        """Hand the connection to the monitor and keep it too, so that it lives as long as either does."""
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        self._peers.append(connection)
        if self._control is not None:
            try:
                socket.send_fds(self._control, [f"peer {rank}".encode()], [connection.fileno()])
            except OSError:
                self._lose("its monitor has gone")

    def _lose(self, why: str) -> None:
        self._release()
        self._warn(f"it is watched no more: {why}")

    def _warn(self, problem: str) -> None:
        log.warning(problem, extra={"rank": self._ranks.rank})

    def _release(self) -> None:
        """Undo what was prepared for the monitor."""
        if self._stacks is not None:
            faulthandler.unregister(DUMP_SIGNAL)
            _exit_in_c(False)
            os.close(self._stacks)
        if self._control is not None:
            self._control.close()
        self._control = self._stacks = None


def _exit_in_c(exits: bool) -> None:
    """Make the signals numbered like our exit codes end the process with that code, or restore their default.

    The handler is libc's `_exit` itself. Python's signal module knows nothing of it, and the GIL may be held.
    """
    libc = ctypes.CDLL(None)
    libc.signal.argtypes, libc.signal.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
    for number in (HUNG, PEER_DIED):
        libc.signal(number, ctypes.cast(libc._exit, ctypes.c_void_p) if exits else None)


def _on_one_host(ranks: Ranks) -> bool:
    """Return True if rank 0 need not be reached from elsewhere, so that it listens on loopback only."""
    # torchrun sets the first, DeepSpeed's launcher the second.
    local = os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("LOCAL_SIZE")
    return local == str(ranks.world_size) or os.environ["MASTER_ADDR"] in ("127.0.0.1", "localhost", "::1")


def _listen(loopback: bool, callers: int) -> socket.socket:
    """Listen at a free port where `callers` connections may wait to be accepted."""
    if loopback:
        return socket.create_server(("127.0.0.1", 0), backlog=callers)
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", 0), family=socket.AF_INET6, backlog=callers, dualstack_ipv6=True)
    return socket.create_server(("", 0), backlog=callers)


def _call(host: str, port: int, token: str, rank: int) -> socket.socket:
    connection = socket.create_connection((host, port), timeout=_CONNECT_SECONDS)
    connection.sendall(f"{token}{rank:0{_RANK_DIGITS}d}".encode())
    return connection


def _accept(listener: socket.socket, token: str, callers: Callable[[], int]) -> dict[int, socket.socket]:
    """Return the connections of so many ranks, fewer after some seconds; those without the token are turned away."""
    accepted: dict[int, socket.socket] = {}
    deadline = time.monotonic() + 2 * _CONNECT_SECONDS
    listener.settimeout(_ACCEPT_SECONDS)
    while len(accepted) < callers() and time.monotonic() < deadline:
        try:
            connection, _ = listener.accept()
        except OSError:
            time.sleep(0.05)  # no call yet, or out of descriptors
            continue
        try:
            connection.settimeout(_HELLO_SECONDS)
            hello = connection.recv(2 * _TOKEN_BYTES + _RANK_DIGITS, socket.MSG_WAITALL)
        except OSError:
            hello = b""
        shown, rank = hello[: 2 * _TOKEN_BYTES], hello[2 * _TOKEN_BYTES :]
        if hmac.compare_digest(shown, token.encode()) and rank.isdigit():
            accepted[int(rank)] = connection
        else:
            connection.close()
    return accepted
