"""Find, stop and kill the processes of one start of the trainer: DeepSpeed's launcher, ranks, their children."""

import contextlib
import json
import os
import signal
import time
from dataclasses import asdict, dataclass, field

import psutil

from trainer.liveness.waits import KILL_SECONDS, OTHER_HOSTS_SECONDS


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """A launcher that leads a session, and all that belongs to it.

    session: the launcher's process id.  words: arguments of train.py, where there may be several hosts: the ranks of
    this host are then no descendants of the launcher but of a server of remote shells.
    """

    session: int
    words: tuple[str, ...] = ()

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Family":
        values = json.loads(text)
        return cls(session=values["session"], words=tuple(values["words"]))

    @property
    def several_hosts(self) -> bool:
        return bool(self.words)

    def members(self) -> list[psutil.Process]:
        """Return the living processes of the session; an orphan keeps its number when its parent has ended."""
        return [process for process in psutil.process_iter() if self._is_member(process) and not _is_dead(process)]

    def ranks(self) -> list[psutil.Process]:
        """Return the ranks on this host, without the processes that they started themselves."""
        found = {
            process.pid: process
            for process in psutil.process_iter(["cmdline", "ppid"])
            if (self.several_hosts or self._is_member(process)) and self._is_rank(process.info["cmdline"] or [])
        }
        return [process for process in found.values() if process.info["ppid"] not in found]

    def kill(self, patience: float = KILL_SECONDS) -> list[psutil.Process]:
        """Kill every process of the session; return those that are still there after `patience` seconds.

        They may start others meanwhile, so the session is listed again until it is empty.
        """
        deadline = time.monotonic() + patience
        known: set[psutil.Process] = set()
        while True:
            known |= set(self.members())
            for process in list(known):
                with contextlib.suppress(psutil.Error):
                    known |= set(process.children(recursive=True))  # those that left the session
            left = [process for process in known if not _is_dead(process)]
            if not left or time.monotonic() > deadline:
                return left
            for process in left:
                _signal(process, signal.SIGKILL)
            time.sleep(0.05)

    def terminate_launcher(self) -> None:
        """Terminate the launcher: one of several hosts then ends all ranks, one of a single host just dies."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.session, signal.SIGTERM)

    def kill_everywhere(self) -> list[psutil.Process]:
        """Kill the session as `kill` does; with several hosts, let the launcher end the ranks of the others before."""
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

    def _is_rank(self, command: list[str]) -> bool:
        # The launcher's own command line has train.py and its words as well, but no rank.
        if not any(word.startswith("--local_rank=") for word in command):
            return False
        return not self.words or tuple(command[-len(self.words) :]) == self.words


@dataclass(kw_only=True, slots=True)
class RankStopper:
    """Ask the ranks of a family to stop, each once. They agree among themselves, so any of them suffices.

    The signal goes to the ranks and not to the launchers above them, which would kill a rank that needs more than 30 s
    for its checkpoint. A second signal would end a rank at once. A rank that is only starting has no handler yet and
    dies; nothing is lost.
    """

    family: Family
    _asked: set[psutil.Process] = field(default_factory=set)
    _since: float = 0.0
    _launcher_asked: bool = False

    def ask(self) -> None:
        """Ask ranks that were not asked yet. Call it until the family has ended: some may only just be starting."""
        self._since = self._since or time.monotonic()
        for rank in self.family.ranks():
            if rank not in self._asked:
                self._asked.add(rank)
                _signal(rank, signal.SIGTERM)
        waited = time.monotonic() - self._since
        if self.family.several_hosts and not (self._asked or self._launcher_asked) and waited > OTHER_HOSTS_SECONDS:
            # No rank on this host: only the launcher reaches the others.
            self._launcher_asked = True
            self.family.terminate_launcher()


def _signal(process: psutil.Process, number: int) -> None:
    with contextlib.suppress(psutil.Error):
        process.send_signal(number)


def _is_dead(process: psutil.Process) -> bool:
    """Return True for an ended process, and for a zombie, which stays for ever where nobody reaps orphans."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return True
