"""Watch one training rank from a process of its own. trainer/liveness/watchdog.py runs this file, nothing imports it.

A thread inside the rank would be as stuck as the rank when the GIL is held, the process is stopped, or a collective
never returns. So everything here needs of the rank only what the kernel or a C signal handler does for it. Standard
library alone: it must be up in milliseconds and stay small beside every rank.

The monitors of a run form a star around rank 0's, which decides which of several reports is acted on. Each then takes
the stacks of its own rank, writes them down and ends its rank.
"""

import contextlib
import json
import os
import resource
import select
import signal
import socket
import sys
import time
from typing import Any

sys.path.append(__file__.rpartition("/trainer/")[0])  # isolated: there are no other packages

from trainer.liveness.exit_codes import HUNG, PEER_DIED
from trainer.liveness.reports import Aside, Peer, Report, print_error, write
from trainer.liveness.stop import STOP_SIGNALS
from trainer.liveness.waits import (
    ALONE_SECONDS,
    HOLD_SECONDS,
    LONGEST_TICK_SECONDS,
    OBEY_SECONDS,
    SAME_SIGNAL_SECONDS,
    SECOND_SIGNAL_SECONDS,
    TICK_SECONDS,
    VERDICT_SECONDS,
)
from trainer.liveness.watched_rank import WatchedRank

_GOODBYES = {b"bye", b"failed", b"stopped"}
#: Launchers and terminals signal the whole tree; this process ends when its rank has ended.
_IGNORED = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGPIPE")


class Monitor:
    """One rank's monitor. config: the JSON object that `Watchdog` starts it with."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._rank_number: int = config["rank"]
        self._run: str = config["run"]
        self._limits: dict[str, float] = config["limits"]
        self._rank = WatchedRank(config["pid"], config["stat"], config["stacks"])
        self._control = socket.socket(fileno=config["control"])
        self._control.setblocking(False)
        self._alone_at: float | None = None
        self._left = 0
        self._peers: dict[int, Peer] = {}  # by file descriptor
        self._poll = select.poll()
        self._poll.register(self._control, select.POLLIN)
        self._phase, self._detail, self._silent = "start", "", 0.0
        self._closed = False
        self._stopping_since: float | None = None
        self._kill_at: float | None = None

    def watch(self) -> Report | None:
        """Return why the run must end once it must; None when the rank said goodbye."""
        last = time.monotonic()
        while True:
            ready = {descriptor for descriptor, _ in self._poll.poll(TICK_SECONDS * 1000)}
            now = time.monotonic()
            self._silent, last = self._silent + min(now - last, LONGEST_TICK_SECONDS), now
            alive = self._rank.alive()  # before its last messages are read
            self._read_control()
            if self._closed:
                return None
            report = self._read_peers(ready)
            if report is None:
                report = self._judge(alive, now)
                if report is not None and self._rank_number:
                    report = self._verdict(report)
            if report is not None:
                for peer in self._peers.values() if self._rank_number == 0 else ():
                    peer.send(report)
                return report

    def _judge(self, alive: bool, now: float) -> Report | None:
        """Return what there is to report of this monitor's own rank."""
        if not alive:
            return self._report("died" if self._kill_at is None else "signalled")
        if self._kill_at is not None and now > self._kill_at:
            self._rank.send(signal.SIGKILL)
            return self._report("signalled")
        if self._alone_at is not None and now > self._alone_at:
            return self._report("left", self._left)
        return self._report("hung") if self._silent > self._limits[self._phase] else None

    def _report(self, kind: str, rank: int | None = None) -> Report:
        return Report(
            kind=kind,
            rank=self._rank_number if rank is None else rank,
            phase=self._phase,
            limit=self._limits[self._phase],
            origin=self._rank_number,
            stamp=time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()),
        )

    def _verdict(self, report: Report) -> Report:
        """Let rank 0's monitor choose among the reports of many ranks, so that the run ends for one reason."""
        for peer in self._peers.values():
            peer.send(report)
        deadline = time.monotonic() + VERDICT_SECONDS
        while self._peers and time.monotonic() < deadline:
            chosen = self._read_peers({descriptor for descriptor, _ in self._poll.poll(100)})
            if chosen is not None:
                # That rank 0 breaks the connection now is the end of the run, not another reason for it.
                return report if chosen.origin == self._rank_number else chosen
        return report

    def _read_control(self) -> None:
        """Read the rank's messages: a phase, a signal's number in one byte, a peer with its connection, goodbye."""
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
        if number not in STOP_SIGNALS:
            return
        now = time.monotonic()
        if self._stopping_since is None:
            self._stopping_since = now
        elif self._kill_at is None and now - self._stopping_since > SAME_SIGNAL_SECONDS:
            self._kill_at = now + SECOND_SIGNAL_SECONDS

    def _read_peers(self, ready: set[int]) -> Report | None:
        """Return the first report of another monitor; a connection that breaks without a goodbye is one."""
        for descriptor in ready & self._peers.keys():
            peer = self._peers[descriptor]
            lines, stands = peer.lines()
            for line in lines:
                if line in (b"failed", b"stopped") and self._alone_at is None:
                    self._alone_at, self._left = time.monotonic() + ALONE_SECONDS, peer.rank
                if line == b"stopped":
                    self._rank.send(signal.SIGTERM)
                if line not in _GOODBYES:
                    return Report(*json.loads(line))
                stands = False
            if not stands:
                self._poll.unregister(peer.connection)
                del self._peers[descriptor]
                peer.connection.close()
                if not _GOODBYES & set(lines):
                    return self._report("died", peer.rank)
        return None

    def conclude(self, report: Report) -> None:
        """Take the rank's stacks, write them down and end the rank, within some seconds, whatever hangs."""
        began = time.monotonic()
        code = HUNG if report.kind == "hung" else PEER_DIED
        directory = os.path.join(self._run, "stacks")
        path = os.path.join(directory, f"{report.stamp}-rank-{self._rank_number:05d}.txt")
        ending = f"exit code {code}" if report.kind == "hung" else f"the other ranks end with exit code {code}"
        ending += "" if report.kind == "signalled" else f"; stacks in {directory}"
        taken = self._rank.alive() and report.kind != "signalled"
        stacks = self._header(report) + self._rank.take_stacks() if taken else ""
        # It must not see the others end: a collective would fail, and the rank leave with another exit code.
        self._rank.send(signal.SIGSTOP)
        written = Aside(lambda: write(path, stacks)) if taken else None
        if report.origin == self._rank_number:
            Aside(lambda: print_error(f"{report.sentence()}: {ending}\n")).problem()
        problem = written and written.problem()
        if taken:
            time.sleep(max(0.0, began + HOLD_SECONDS - time.monotonic()))
        self._rank.send(code, signal.SIGCONT)
        if not self._rank.gone_within(OBEY_SECONDS):
            self._rank.send(signal.SIGKILL)
        if problem:
            Aside(lambda: print_error(f"{path} is not written ({problem}):\n{stacks}")).problem()
        self._rank.gone_within(OBEY_SECONDS)

    def _header(self, report: Report) -> str:
        detail = f" ({self._detail})" if self._detail else ""
        return (
            f"why: {report.sentence()}\n"
            f"this is rank {self._rank_number}, process {self._rank.pid} on {socket.gethostname()}, {report.stamp}\n"
            f"in phase {self._phase}{detail} for {self._silent:.1f} s\n\n"
        )


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
    report = monitor.watch()
    if report is not None:
        monitor.conclude(report)
    os._exit(0)  # not waiting for a thread that a file system holds


if __name__ == "__main__":
    main()
