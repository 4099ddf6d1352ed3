"""Watches one training rank from a process of its own: trainer/liveness/watchdog.py starts it, nothing imports it.

A thread inside the rank would be as stuck as the rank when the GIL is held, the process is stopped, or a collective
never returns. So everything here needs of the rank only what the kernel or a C signal handler does for it. Standard
library alone: it must be up in milliseconds and stay small beside every rank.

The monitors of a run know each other: rank 0's is the middle of a star and decides which of several reports is acted
on. Each then takes the stacks of its own rank, writes them down and ends its rank.
"""

import contextlib
import json
import os
import resource
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

#: How often the rank is looked at, and the most that one look adds to the time without progress: time in which this
#: process was itself stopped, with its rank (Ctrl-Z), is not held against the rank.
_TICK, _LONGEST_TICK = 0.25, 1.0
#: For rank 0's monitor to say which report counts, before one that asked acts on its own.
_VERDICT_SECONDS = 1.0
#: A dump of stacks is over when nothing more came for the first, and given up after the second.
_QUIET_SECONDS, _DUMP_SECONDS = 0.2, 1.5
#: No rank ends earlier after the report: its launcher signals the others as soon as it sees that, and without a
#: handler they would die before their stacks are taken.
_HOLD_SECONDS = 1.0
#: For a file system or a terminal that hangs; then for the rank to obey a signal.
_OUTPUT_SECONDS, _OBEY_SECONDS = 2.0, 2.0
#: A rank that runs Python ends by itself at a second signal; one that does not is killed after this.
_SECOND_SIGNAL_SECONDS = 1.0
#: Where one rank leaves with an error, how long the others may take to leave with the same one.
_ALONE_SECONDS = 8.0
_GOODBYES = {b"bye", b"failed", b"stopped"}
_LONGEST_DUMP = 4_000_000
#: Launchers and terminals signal the whole tree; this one ends when its rank has ended.
_IGNORED = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGPIPE")
_WISHES = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
_HOW = {
    "died": "has died",
    "signalled": "was ended by a second signal",
    "left": "has left, and the others did not",
}
_MISSING = {"start": "first step", "step": "step", "checkpoint": "checkpoint", "evaluation": "evaluated batch"}


class Event(NamedTuple):
    """Why the run ends."""

    kind: str  # "hung", or a key of _HOW
    rank: int
    phase: str
    limit: float  # seconds
    origin: int  # the rank whose monitor noticed: it speaks
    stamp: str  # UTC; the same in the names of all ranks' files

    def sentence(self) -> str:
        if self.kind == "hung":
            return f"rank {self.rank}: no {_MISSING[self.phase]} within {self.limit:g} s (watchdog.{self.phase})"
        return f"rank {self.rank} {_HOW[self.kind]}"


class Rank:
    """The watched process, by a file of /proc that it opened itself: reading that never tells of another process.

    A pidfd would do the same, but not on the kernel 4.18 of enterprise systems, nor in every build of Python.
    """

    def __init__(self, pid: int, stat: int) -> None:
        self.pid = pid
        self._stat = stat

    def alive(self) -> bool:
        try:
            # "pid (name) state ...", and the name may hold anything
            return os.pread(self._stat, 4096, 0).rpartition(b")")[2].split()[0] not in (b"Z", b"X", b"x")
        except OSError:
            return False

    def send(self, *numbers: int) -> None:
        for number in numbers:
            if self.alive():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, number)

    def gone_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.alive():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def threads(self) -> str:
        """What the kernel knows of every thread, for a rank that does not answer: `D` waits for a device or file."""
        lines = ["the process did not answer; its threads are (id, name, state, where in the kernel):"]
        try:
            for thread in os.listdir(f"/proc/{self.pid}/task"):
                stat, where = (_read(f"/proc/{self.pid}/task/{thread}/{name}") for name in ("stat", "wchan"))
                named, _, state = stat.rpartition(")")
                lines.append(f"  {named}) {state[1:2]} {where}")
        except OSError as error:
            lines.append(f"  {error.strerror}")
        return "\n".join(lines) + "\n"


class Peer:
    """The connection to another rank's monitor. That rank holds it too: it breaks when both are gone, or the host."""

    def __init__(self, rank: int, connection: socket.socket) -> None:
        self.rank = rank
        self.connection = connection
        self._buffer = b""

    def lines(self) -> tuple[list[bytes], bool]:
        """What has come, and whether the connection still stands."""
        try:
            found = self.connection.recv(65536)
        except (BlockingIOError, InterruptedError):
            return [], True
        except OSError:
            found = b""
        *whole, self._buffer = (self._buffer + found).split(b"\n")
        return whole, bool(found)

    def tell(self, event: Event) -> None:
        with contextlib.suppress(OSError):
            self.connection.send(json.dumps(event).encode() + b"\n")


class Monitor:
    def __init__(self, config: dict[str, Any]) -> None:
        self._rank_number: int = config["rank"]
        self._run: str = config["run"]
        self._limits: dict[str, float] = config["limits"]
        self._codes: dict[str, int] = config["codes"]
        self._dump_signal: int = config["dump_signal"]
        self._same_wish: float = config["same_wish_seconds"]
        self._rank = Rank(config["pid"], config["stat"])
        self._control = socket.socket(fileno=config["control"])
        self._control.setblocking(False)
        self._alone_at: float | None = None
        self._left = 0
        self._stacks: int = config["stacks"]
        self._peers: dict[int, Peer] = {}  # by file descriptor
        self._poll = select.poll()
        self._poll.register(self._control, select.POLLIN)
        self._phase, self._detail, self._silent = "start", "", 0.0
        self._closed = False
        self._wish: float | None = None
        self._kill_at: float | None = None

    def watch(self) -> Event | None:
        """Until the run must end; None when the rank said goodbye."""
        last = time.monotonic()
        while True:
            ready = {descriptor for descriptor, _ in self._poll.poll(_TICK * 1000)}
            now = time.monotonic()
            self._silent, last = self._silent + min(now - last, _LONGEST_TICK), now
            alive = self._rank.alive()  # before its last words are read
            self._read_control()
            if self._closed:
                return None
            event = self._read_peers(ready)
            if event is None:
                event = self._judge(alive, now)
                if event is not None and self._rank_number:
                    event = self._verdict(event)
            if event is not None:
                for peer in self._peers.values() if self._rank_number == 0 else ():
                    peer.tell(event)
                return event

    def _judge(self, alive: bool, now: float) -> Event | None:
        """What there is to report of this monitor's own rank."""
        if not alive:
            return self._event("died" if self._kill_at is None else "signalled")
        if self._kill_at is not None and now > self._kill_at:
            self._rank.send(signal.SIGKILL)
            return self._event("signalled")
        if self._alone_at is not None and now > self._alone_at:
            return self._event("left", self._left)
        return self._event("hung") if self._silent > self._limits[self._phase] else None

    def _event(self, kind: str, rank: int | None = None) -> Event:
        return Event(
            kind=kind,
            rank=self._rank_number if rank is None else rank,
            phase=self._phase,
            limit=self._limits[self._phase],
            origin=self._rank_number,
            stamp=time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()),
        )

    def _verdict(self, event: Event) -> Event:
        """Rank 0's monitor chooses among the reports of many ranks, so that the run ends for one reason."""
        for peer in self._peers.values():
            peer.tell(event)
        deadline = time.monotonic() + _VERDICT_SECONDS
        while self._peers and time.monotonic() < deadline:
            chosen = self._read_peers({descriptor for descriptor, _ in self._poll.poll(100)})
            if chosen is not None:
                # That rank 0 breaks the connection now is the end of the run, not another reason for it.
                return event if chosen.origin == self._rank_number else chosen
        return event

    def _read_control(self) -> None:
        """The rank's own messages: a phase, a signal's number in one byte, a peer with its connection, goodbye."""
        while True:
            try:
                message, descriptors, _, _ = socket.recv_fds(self._control, 4096, 1)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                message, descriptors = b"", []
            if not message:  # the rank has ended, or is about to
                with contextlib.suppress(KeyError):
                    self._poll.unregister(self._control)
                return
            if len(message) == 1:
                self._note_signal(message[0])
                continue
            word, _, rest = message.decode(errors="replace").partition(" ")
            if word == "phase":
                phase, _, self._detail = rest.partition(" ")
                if phase in self._limits:
                    self._phase, self._silent = phase, 0.0
            elif word == "peer" and descriptors:
                connection = socket.socket(fileno=descriptors[0])
                connection.setblocking(False)
                self._peers[connection.fileno()] = Peer(int(rest), connection)
                self._poll.register(connection, select.POLLIN)
            elif word == "close":
                self._closed = True

    def _note_signal(self, number: int) -> None:
        if number not in _WISHES:
            return
        now = time.monotonic()
        if self._wish is None:
            self._wish = now
        elif self._kill_at is None and now - self._wish > self._same_wish:
            self._kill_at = now + _SECOND_SIGNAL_SECONDS

    def _read_peers(self, ready: set[int]) -> Event | None:
        """The first event that another monitor tells of; a connection that breaks without a goodbye is one."""
        for descriptor in ready & self._peers.keys():
            peer = self._peers[descriptor]
            lines, stands = peer.lines()
            for line in lines:
                if line in (b"failed", b"stopped") and self._alone_at is None:
                    self._alone_at, self._left = time.monotonic() + _ALONE_SECONDS, peer.rank
                if line == b"stopped":
                    self._rank.send(signal.SIGTERM)
                if line not in _GOODBYES:
                    return Event(*json.loads(line))
                stands = False
            if not stands:
                self._poll.unregister(peer.connection)
                del self._peers[descriptor]
                peer.connection.close()
                if not _GOODBYES & set(lines):
                    return self._event("died", peer.rank)
        return None

    def conclude(self, event: Event) -> None:
        """Take the rank's stacks and write them down, end the rank. No longer than some seconds, whatever hangs."""
        began = time.monotonic()
        code = self._codes["hung" if event.kind == "hung" else "died"]
        directory = os.path.join(self._run, "stacks")
        path = os.path.join(directory, f"{event.stamp}-rank-{self._rank_number:05d}.txt")
        ending = f"exit code {code}" if event.kind == "hung" else f"the other ranks end with exit code {code}"
        ending += "" if event.kind == "signalled" else f"; stacks in {directory}"
        taken = self._rank.alive() and event.kind != "signalled"
        stacks = self._header(event) + self._take_stacks() if taken else ""
        # It must not see the others end: a collective would fail, and the rank leave with another exit code.
        self._rank.send(signal.SIGSTOP)
        written = _Aside(lambda: _write(path, stacks)) if taken else None
        if event.origin == self._rank_number:
            _Aside(lambda: _say(f"error: {event.sentence()}: {ending}\n")).problem()
        problem = written and written.problem()
        if taken:
            time.sleep(max(0.0, began + _HOLD_SECONDS - time.monotonic()))
        self._rank.send(code, signal.SIGCONT)
        if not self._rank.gone_within(_OBEY_SECONDS):
            self._rank.send(signal.SIGKILL)
        if problem:
            _Aside(lambda: _say(f"error: {path} is not written ({problem}):\n{stacks}")).problem()
        self._rank.gone_within(_OBEY_SECONDS)

    def _header(self, event: Event) -> str:
        detail = f" ({self._detail})" if self._detail else ""
        return (
            f"why: {event.sentence()}\n"
            f"this is rank {self._rank_number}, process {self._rank.pid} on {socket.gethostname()}, {event.stamp}\n"
            f"in phase {self._phase}{detail} for {self._silent:.1f} s\n\n"
        )

    def _take_stacks(self) -> str:
        """What faulthandler writes, by a C handler that needs no GIL. A stopped process is woken for it."""
        self._rank.send(self._dump_signal, signal.SIGCONT)
        dump, deadline = b"", time.monotonic() + _DUMP_SECONDS
        while time.monotonic() < deadline and len(dump) < _LONGEST_DUMP:
            wait = _QUIET_SECONDS if dump else deadline - time.monotonic()
            if not select.select([self._stacks], [], [], max(0.0, wait))[0]:
                break
            found = os.read(self._stacks, 65536)
            if not found:
                break
            dump += found
        return dump.decode(errors="replace") or self._rank.threads()


class _Aside:
    """Something that a hanging file system or terminal may hold up, in a thread that is not waited for longer."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._problem: str | None = f"nothing in {_OUTPUT_SECONDS:g} s"
        self._deadline = time.monotonic() + _OUTPUT_SECONDS
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
            self._problem = None
        except OSError as error:
            self._problem = error.strerror

    def problem(self) -> str | None:
        """What went wrong, if anything did, at the latest so many seconds after the start."""
        self._thread.join(max(0.0, self._deadline - time.monotonic()))
        return self._problem


def _read(path: str) -> str:
    with open(path, errors="replace") as file:
        return file.read().strip()


def _say(text: str) -> None:
    os.write(2, text.encode())


def _write(path: str, text: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)


def main() -> None:
    for name in _IGNORED:
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    if os.fork():
        # The rank waits for this one alone. The other is no descendant of it: launchers wait for those, and nobody
        # would have to collect it.
        os._exit(0)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # rank 0's has a connection to every other
    os.chdir("/")  # no directory is kept from being unmounted
    monitor = Monitor(json.loads(sys.argv[1]))
    event = monitor.watch()
    if event is not None:
        monitor.conclude(event)
    os._exit(0)  # not waiting for a thread that a file system holds


if __name__ == "__main__":
    main()
