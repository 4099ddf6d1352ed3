"""The processes of one start of the trainer: DeepSpeed's launcher, the ranks below it, and what they started."""

import json
import os
import signal
import time
from dataclasses import dataclass, field

import psutil

from trainer.liveness.waits import OTHER_HOSTS_SECONDS


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """A launcher that leads a session, and all that belongs to it.

    session: the launcher's process id.  words: what train.py was given, where there may be several hosts: ranks of
    this host are then no descendants of the launcher but of a server of remote shells.
    """

    session: int
    words: tuple[str, ...] = ()

    def to_json(self) -> str:
        return json.dumps({"session": self.session, "words": self.words})

    @classmethod
    def from_json(cls, text: str) -> "Family":
        values = json.loads(text)
        return cls(session=values["session"], words=tuple(values["words"]))

    @property
    def several_hosts(self) -> bool:
        return bool(self.words)

    def members(self) -> list[psutil.Process]:
        """Who is alive of the session. It is found by its number: an orphan keeps it when its parent is gone."""
        return [process for process in psutil.process_iter() if self._is_member(process) and not _is_dead(process)]

    def ranks(self) -> list[psutil.Process]:
        """The ranks on this host, without the processes that they started themselves."""
        found = {
            process.pid: process
            for process in psutil.process_iter()
            if (self.several_hosts or self._is_member(process)) and self._is_rank(process)
        }
        return [process for process in found.values() if _parent(process) not in found]

    def kill(self, patience: float = 60.0) -> list[psutil.Process]:
        """Kill every process of the session; those that are still there after `patience` seconds.

        It may start others while it is being killed, so it is looked at again until nobody is left.
        """
        deadline = time.monotonic() + patience
        remembered: set[psutil.Process] = set()
        while True:
            remembered |= set(self.members())
            for process in list(remembered):
                remembered |= _descendants(process)  # those that left the session
            left = [process for process in remembered if not _is_dead(process)]
            if not left or time.monotonic() > deadline:
                return left
            for process in left:
                _signal(process, signal.SIGKILL)
            time.sleep(0.05)

    def terminate_launcher(self) -> None:
        """A launcher of several hosts then ends the ranks on all of them; one of a single host just dies."""
        try:
            os.kill(self.session, signal.SIGTERM)
        except ProcessLookupError:
            return

    def kill_everywhere(self) -> list[psutil.Process]:
        """Kill the session, and with several hosts let the launcher reach for the others before."""
        if self.several_hosts:
            self.terminate_launcher()
            deadline = time.monotonic() + OTHER_HOSTS_SECONDS
            while self.members() and time.monotonic() < deadline:
                time.sleep(0.1)
        return self.kill()

    def _is_member(self, process: psutil.Process) -> bool:
        try:
            return os.getsid(process.pid) == self.session
        except OSError:
            return False

    def _is_rank(self, process: psutil.Process) -> bool:
        try:
            words = process.cmdline()
        except psutil.Error:
            return False
        # The launcher's own command line has train.py and its words as well, but no rank.
        if not any(word.startswith("--local_rank=") for word in words):
            return False
        return not self.words or tuple(words[-len(self.words) :]) == self.words


@dataclass(kw_only=True, slots=True)
class StopWish:
    """Brings one wish to stop to the ranks of a family. The ranks agree among themselves, so any of them will do.

    The ranks hear it and not the launchers above them, which would kill a rank that needs more than 30 s for its
    checkpoint. A second signal would end a rank at once, so each hears it once, also one that is only just starting:
    without a handler yet it dies, and nothing is lost.
    """

    family: Family
    _told: set[psutil.Process] = field(default_factory=set)
    _since: float = 0.0
    _launcher_told: bool = False

    def tell(self) -> None:
        """To be called again and again until the family has gone: not all ranks may have been there yet."""
        self._since = self._since or time.monotonic()
        for rank in self.family.ranks():
            if rank not in self._told:
                self._told.add(rank)
                _signal(rank, signal.SIGTERM)
        waited = time.monotonic() - self._since
        if self.family.several_hosts and not self._told and not self._launcher_told and waited > OTHER_HOSTS_SECONDS:
            # No rank on this host: the launcher has the only way to the others.
            self._launcher_told = True
            self.family.terminate_launcher()


def _signal(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.Error:
        return


def _is_dead(process: psutil.Process) -> bool:
    """Gone, or a zombie, which does nothing any more: where nobody reaps orphans it stays for ever."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return True


def _parent(process: psutil.Process) -> int | None:
    try:
        return int(process.ppid())
    except psutil.Error:
        return None


def _descendants(process: psutil.Process) -> set[psutil.Process]:
    try:
        return set(process.children(recursive=True))
    except psutil.Error:
        return set()
