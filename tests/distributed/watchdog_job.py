"""One watched rank that ends in a way of its own: `python -m tests.distributed.watchdog_job SPEC.json`.

Started by test_watchdog.py, which looks for the names of these functions in the stacks.
"""

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import torch
import torch.distributed as dist

from tests.support.waiting import until
from trainer.distributed import join
from trainer.liveness.stop import StopSignal
from trainer.liveness.watchdog import Watchdog
from trainer.ranks import ranks_from_environment
from trainer.recipe.sections import WatchdogSection

FOREVER = 600


def monitors(run: Path) -> dict[int, psutil.Process]:
    """The monitors of a run that are there, by rank."""
    found = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ValueError, IndexError):
            *_, script, config = process.cmdline()
            if script.endswith("trainer/liveness/monitor.py") and json.loads(config)["run"] == str(run):
                found[int(json.loads(config)["rank"])] = process
    return found


class Job:
    def __init__(self, spec: dict[str, Any]) -> None:
        self.run = Path(spec["run"])
        self.ranks = ranks_from_environment()
        most = resource.getrlimit(resource.RLIMIT_NOFILE)
        action = spec["actions"][self.ranks.rank]
        self.watchdog = Watchdog.start(self.ranks, self.run, WatchdogSection(**spec["limits"]))
        if action == "sleep_before_joining":
            self.sleep_before_joining()
        join(self.ranks)
        dist.all_reduce(torch.ones(1))  # whatever that opens is open now
        if spec["few_descriptors"] and self.ranks.is_first:
            resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")), most[1]))
        self.watchdog.connect()
        resource.setrlimit(resource.RLIMIT_NOFILE, most)
        self.stop = StopSignal(self.watchdog.notify_fd)
        self.watchdog.phase("step", "step 1")
        dist.all_reduce(torch.ones(1))
        self.watchdog.phase("step", "step 2")
        getattr(self, action)()
        self.stop.ignore()
        self.watchdog.close()

    def mark(self) -> None:
        """For the test: from now on this rank does what it is to do."""
        (self.run / f"ready-{self.ranks.rank}").touch()

    def sleep_before_joining(self) -> None:
        self.mark()
        time.sleep(FOREVER)

    def sleep_in_python(self) -> None:
        self.mark()
        time.sleep(FOREVER)

    def wait_for_the_others(self) -> None:
        self.mark()
        dist.all_reduce(torch.ones(1))

    def wait_as_over_nccl(self) -> None:
        """In a collective that does not notice the loss of a peer, deaf to handlers of Python."""
        self.mark()
        with contextlib.suppress(RuntimeError):
            dist.all_reduce(torch.ones(1))
        self.hold_the_gil()

    def hold_the_gil(self) -> None:
        self.mark()
        while True:  # a signal that is noted ends one sleep
            ctypes.PyDLL(None).usleep(1_000_000)

    def be_deaf(self) -> None:
        """To every signal of the monitor's but the last."""
        for number in range(60, 63):
            signal.signal(number, signal.SIG_IGN)
        self.sleep_in_python()

    def be_stopped(self) -> None:
        self.mark()
        os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(FOREVER)  # woken for its stacks, it may come to run before they are asked for

    def mark_with_the_others(self) -> None:
        """Return when every rank does what it is to do."""
        self.mark()
        until(lambda: len(list(self.run.glob("ready-*"))) == self.ranks.world_size)

    def die(self) -> None:
        self.mark_with_the_others()
        os.kill(os.getpid(), signal.SIGKILL)

    def die_with_the_monitor(self) -> None:
        self.mark_with_the_others()
        monitors(self.run)[self.ranks.rank].kill()
        os.kill(os.getpid(), signal.SIGKILL)

    def raise_an_error(self) -> None:
        self.mark_with_the_others()
        raise RuntimeError("out of memory, say")

    def leave_with_an_error(self) -> None:
        """Told of, as a bad input is."""
        self.mark_with_the_others()
        self.watchdog.close("failed")
        sys.exit(2)

    def leave_one_after_another(self) -> None:
        """After an evaluation that takes longer than a step may, rank 0 first."""
        self.watchdog.phase("evaluation")
        time.sleep(9)
        for _ in range(self.ranks.rank * 6):
            self.watchdog.phase("step")
            time.sleep(0.5)

    def go_on_without_monitor(self) -> None:
        if self.ranks.rank in (0, 1):
            monitors(self.run)[self.ranks.rank].kill()
        for step in range(6):
            self.watchdog.phase("step", f"step {step}")
            dist.all_reduce(torch.ones(1))
            time.sleep(0.5)

    def ignore_the_wish(self) -> None:
        """Busy in Python, where its handlers run."""
        self.mark()
        while True:
            self.watchdog.phase("step")
            # What ends the process must get through this.
            with contextlib.suppress(BaseException):
                time.sleep(0.1)


if __name__ == "__main__":
    Job(json.loads(Path(sys.argv[1]).read_text()))
