"""Run `deepspeed launcher/train.py` until the run is finished, whatever happens to its processes (`d2tv train`).

DeepSpeed's launcher ends all ranks of its host when one dies, and starts none again. The supervisor starts them again
from the last whole checkpoint, once every process of the last attempt has ended: two sets of ranks must never write
into one run directory.
"""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import launcher.train
from launcher.devices import launcher_environment
from launcher.guard import Guard
from launcher.processes import Family, RankStopper
from launcher.remote_words import check_remote_words
from launcher.restarts import Restarts, in_words
from shards.errors import InputError
from trainer.liveness.exit_codes import BAD_INPUT, FINISHED, STOPPED
from trainer.liveness.stop import STOP_SIGNALS
from trainer.liveness.waits import LEAVING_SECONDS, SAME_SIGNAL_SECONDS, SUPERVISOR_POLL_SECONDS
from trainer.runs.lock import PATIENCE_SECONDS, STARTED, Owner, attempts, make_lock_file
from trainer.terminal.log import log as program_log

log = program_log.getChild("train")

#: Tells the ranks of this host the number of restarts; DeepSpeed passes few variables on to other hosts.
RESTARTS_VARIABLE = "D2TV_RESTARTS"


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A training to start: a recipe with overrides, on so many ranks a host, or on the hosts of a file."""

    recipe: str
    overrides: Sequence[str]
    ds_config: Path
    resume: str | None = None
    ranks: int | None = None
    hostfile: Path | None = None
    max_restarts: int = 3

    def train_words(self, resume: str | None, token: str | None = None) -> list[str]:
        """Return train.py's arguments, with `--resume` and `--supervisor` where they are not None.

        token: tells the ranks that the run's lock is held for them (trainer/runs/lock.py).
        """
        words = ["--ds_config", str(self.ds_config), "--recipe", self.recipe]
        if resume is not None:
            words += ["--resume", resume]
        if token is not None:
            words += ["--supervisor", token]  # as an argument, it also reaches other hosts
        return [*words, *self.overrides]

    def command(self, train_words: Sequence[str], port: int) -> list[str]:
        """Return the command that a person would type; the ranks of one host meet at `port`."""
        words = [sys.executable, "-m", "deepspeed.launcher.runner", "--quiet"]
        if self.ranks is not None:
            words += ["--num_accelerators", str(self.ranks)]
        words += ["--hostfile", str(self.hostfile)] if self.hostfile else ["--master_port", str(port)]
        return [*words, str(Path(launcher.train.__file__).resolve()), *train_words]


class StopSignals:
    """Note signals that ask to stop: `requested` from the first on; `urgent`: the number of a later one."""

    def __init__(self) -> None:
        self.requested = False
        self.urgent: int | None = None
        self._since = 0.0
        self._before = {number: signal.signal(number, self._note) for number in STOP_SIGNALS}

    def restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if not self.requested:
            self.requested, self._since = True, time.monotonic()
        elif time.monotonic() - self._since > SAME_SIGNAL_SECONDS:
            self.urgent = number


def supervise(job: Job) -> int:
    """Train to the end; return the last attempt's exit code (trainer/liveness/exit_codes.py), or 128 + signal.

    Raises `InputError` for errors that can be found before a rank starts.
    """
    signals = StopSignals()
    try:
        return _Supervisor(job, signals).run()
    finally:
        signals.restore()


class _Supervisor:
    def __init__(self, job: Job, signals: StopSignals) -> None:
        from trainer.ds_config import load_ds_config
        from trainer.ds_keys import check_ds_keys, read_ds_file
        from trainer.recipe import load_recipe

        if job.max_restarts < 0:
            raise InputError(f"--max-restarts {job.max_restarts}: at least 0")
        if job.ranks is not None and job.ranks < 1:
            raise InputError(f"--ranks {job.ranks}: at least 1")
        if job.hostfile is not None and not job.hostfile.is_file():
            # DeepSpeed would start on this host alone.
            raise InputError(f"--hostfile {job.hostfile}: no such file")
        of_all = job.ranks is None and job.hostfile is None
        self._environment = launcher_environment(os.environ) if of_all else dict(os.environ)
        recipe = load_recipe(job.recipe, job.overrides)
        if job.hostfile is None:
            config = load_ds_config(job.ds_config, recipe, world_size=1)
        else:
            check_remote_words(job.train_words(None))
            config = read_ds_file(job.ds_config)  # the devices are those of other hosts
        check_ds_keys(job.ds_config, config)
        self._job, self._signals = job, signals
        self._run, self._steps = recipe.run, recipe.training.steps
        self._restarts = Restarts(job.max_restarts, self._newest_checkpoint())
        self._token = secrets.token_hex(8)

    def run(self) -> int:
        lock = self._run / STARTED
        try:
            self._run.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"run={self._run} cannot be written: {error}") from error
        make_lock_file(lock)
        guard = Guard(lock, Owner.of_this_process("`d2tv train`", self._token))
        try:
            self._wait_for_the_run(guard)
            while not self._signals.requested:
                code = self._attempt(guard)
                if code is not None:
                    return code
            log.info(f"stopped before a rank was started; the same command goes on from {self._from()}")
            return STOPPED
        finally:
            guard.close()

    def _wait_for_the_run(self, guard: Guard) -> None:
        """Return when this supervisor holds the run, or is asked to stop. Wait for ranks that a killed one has left.

        Raises `InputError` where another training holds it.
        """
        for _ in attempts(self._run / STARTED, str(self._run), PATIENCE_SECONDS, log.info, self._token):
            if guard.holds_the_lock() or self._signals.requested:
                return

    def _attempt(self, guard: Guard) -> int | None:
        """Start the ranks and wait for their end; return the exit code, or None after the pause before a restart."""
        resume = self._job.resume
        if self._restarts.total:
            # A restart continues whatever `--resume` was, and never begins anew once there was a checkpoint.
            resume = "must" if self._restarts.has_a_checkpoint else "auto"
        words = self._job.train_words(resume, self._token)
        environment = self._environment | {RESTARTS_VARIABLE: str(self._restarts.total)}
        process = subprocess.Popen(
            self._job.command(words, _free_port()),
            env=environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # a terminal's Ctrl-C reaches the supervisor alone, which asks the ranks to stop
        )
        family = Family(session=process.pid, words=tuple(words) if self._job.hostfile else ())
        guard.watch(family)
        try:
            code = self._wait_for_end(process, family)
        finally:  # after an error of our own, too
            self._clear(family)
            process.wait()
            guard.watch(None)
        if self._signals.urgent is not None:
            log.info(f"killed at the second signal; the same command goes on from {self._from()}")
            return 128 + self._signals.urgent
        if code in (FINISHED, BAD_INPUT, STOPPED):
            return code
        return self._after(code)

    def _wait_for_end(self, process: "subprocess.Popen[bytes]", family: Family) -> int | None:
        """Return the launcher's exit code; None where it is 0 though the run is not finished."""
        stopper = RankStopper(family=family)
        while process.poll() is None and self._signals.urgent is None:
            if self._signals.requested:
                stopper.ask()
            time.sleep(SUPERVISOR_POLL_SECONDS)
        # DeepSpeed's runner ends with 0 also when the launcher below it was killed by a signal.
        if process.returncode == FINISHED and not (self._all_left(family) and self._is_finished()):
            return None
        return process.returncode

    def _all_left(self, family: Family) -> bool:
        deadline = time.monotonic() + LEAVING_SECONDS
        while family.ranks():
            if time.monotonic() > deadline:
                return False
            time.sleep(SUPERVISOR_POLL_SECONDS)
        return True

    def _clear(self, family: Family) -> None:
        """Kill the rest of an attempt, and wait until it has ended, however long a driver holds on to it."""
        left = family.kill() if self._signals.urgent is None else family.kill_everywhere()
        if left:
            log.info(f"cannot be killed, waiting for the kernel: {', '.join(str(process.pid) for process in left)}")
        while left and self._signals.urgent is None:
            left = family.kill()

    def _after(self, code: int | None) -> int | None:
        """Return the exit code to end with after a death, or None once the pause before a restart is over."""
        what = in_words(code, self._run)
        if self._signals.requested:
            log.info(f"{what} while it was to stop; the same command goes on from {self._from()}")
            return STOPPED
        pause = self._restarts.ended(self._newest_checkpoint())
        if pause is None:
            log.info(f"{what}; given up {self._restarts.all_used()}")
            return _as_own_exit_code(code)
        log.info(f"{what}; {self._restarts.in_words()} in {pause:.0f} s, from {self._from()}")
        over = time.monotonic() + pause
        while time.monotonic() < over and not self._signals.requested:
            time.sleep(SUPERVISOR_POLL_SECONDS)
        return None

    def _newest_checkpoint(self) -> Path | None:
        from trainer.checkpoint.directory import whole_checkpoints

        try:
            return next(iter(whole_checkpoints(self._run / "checkpoints")), None)
        except OSError:  # a file system that is away for a moment must not end the supervision
            return None

    def _is_finished(self) -> bool:
        from trainer.verdicts import is_finished

        try:
            return is_finished(self._run, self._steps)
        except (OSError, ValueError):  # a file system that is away for a moment must not end the supervision
            return False

    def _from(self) -> str:
        newest = self._newest_checkpoint()
        return str(newest) if newest else "the beginning: it has no checkpoint yet"


def _as_own_exit_code(code: int | None) -> int:
    """Return death by signal n as 128 + n, as shells do, and None (a killed launcher that reported 0) as 1."""
    if code is None:
        return 1
    return 128 - code if code < 0 else code


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
