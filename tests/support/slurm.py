"""A real Slurm of two nodes on this host, for as long as a test module needs it: munged, slurmctld and two slurmd.

Everything it reads and writes is in one temporary directory, all ports are free ones, so it disturbs no Slurm that may
run here, nor another test's.
"""

import contextlib
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import torch
from torch.utils.cpp_extension import get_default_build_root

from tests.support.forkserver import ROOT
from tests.support.harness import free_port
from tests.support.waiting import HANGING, until

SCRIPTS = ROOT / "launcher" / "slurm"
#: Names that no name server knows: the ranks must meet at what Slurm has as the node's address.
NODES = ("no-such-host-1", "no-such-host-2")
#: Seconds between two questions to Slurm, each of which starts a program.
LOOK = 0.5
_TERMINAL = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE"}

_CONFIGURATION = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
AuthInfo=socket={directory}/munge.socket
StateSaveLocation={directory}/state
SlurmctldPidFile={directory}/slurmctld.pid
SlurmctldLogFile={directory}/slurmctld.log
SlurmdSpoolDir={directory}/spool-%n
SlurmdPidFile={directory}/slurmd-%n.pid
SlurmdLogFile={directory}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
SchedulerType=sched/builtin
SchedulerParameters=batch_sched_delay=0,sched_interval=1
KillWait=30
JobRequeue=1
ReturnToService=0
NodeName={nodes[0]} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=4
NodeName={nodes[1]} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=4
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str | None:
    """Why no Slurm can be started here, or None."""
    programs = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol")
    absent = [name for name in programs if shutil.which(name, path=_path()) is None]
    if absent:
        return f"no {', '.join(absent)} here: apt install slurm-wlm munge"
    return None if os.geteuid() == 0 else "slurmd wants root"


class Slurm:
    """The cluster. Leaving the context ends all of its jobs and daemons and removes its directory."""

    def __enter__(self) -> "Slurm":
        # A short path: a socket's has at most 107 characters.
        self.directory = Path(tempfile.mkdtemp(prefix="slurm-"))
        self._daemons: list[subprocess.Popen[bytes]] = []
        (self.directory / "state").mkdir()
        key = self.directory / "munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o600)
        configuration = self.directory / "slurm.conf"
        ports = [free_port() for _ in range(1 + len(NODES))]
        configuration.write_text(
            _CONFIGURATION.format(host=socket.gethostname(), directory=self.directory, ports=ports, nodes=NODES)
        )
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH"))}
        self.environment = inherited | {
            "PATH": _path(),
            "SLURM_CONF": str(configuration),
            "DS_ACCELERATOR": "cpu",
            "OMP_NUM_THREADS": "1",
            "VENV": sys.prefix,
            "TMPDIR": str(self.directory),
            "TORCH_EXTENSIONS_DIR": os.environ.get("TORCH_EXTENSIONS_DIR") or str(_extensions()),
        }
        with contextlib.ExitStack() as undo:
            undo.callback(self.__exit__)
            self._start()
            undo.pop_all()
        return self

    def _start(self) -> None:
        files = [f"--{kind}-file={self.directory}/munge.{kind}" for kind in ("key", "pid", "log", "seed")]
        files += [f"--socket={self.directory}/munge.socket"]
        self._daemon("munged", "--foreground", "--force", *files)
        until(lambda: (self.directory / "munge.socket").exists(), self.logs)
        self._daemon("slurmctld", "-D", "-i")
        for node in NODES:
            self._daemon("slurmd", "-D", "-N", node)
        until(self.idle, self.logs, pause=LOOK)

    def _daemon(self, *command: str) -> None:
        with open(self.directory / "daemons.log", "ab") as log:
            process = subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=log, start_new_session=True, cwd=self.directory
            )
        self._daemons.append(process)

    def __exit__(self, *_: object) -> None:
        for daemon in reversed(self._daemons):  # munged last: the others speak through it
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        # What slurmd started is no child of ours, but has our configuration in its environment.
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def processes(self, name: str = "") -> list[psutil.Process]:
        """All that run with this cluster's configuration, or those whose names begin so.

        slurmstepd writes its title over its environment, and is known by slurmd's directory.
        """
        directory, found = str(self.directory), []
        for process in psutil.process_iter(["name"]):
            with contextlib.suppress(psutil.Error):
                configuration = process.environ().get("SLURM_CONF")
                is_ours = process.cwd() == directory or configuration == self.environment["SLURM_CONF"]
                if is_ours and process.info["name"].startswith(name):
                    found.append(process)
        return found

    def clear(self) -> None:
        """End what is left of jobs, bring lost nodes back."""
        if not self.idle():
            for node in NODES:
                self.call("scontrol", "update", f"nodename={node}", "state=resume", check=False)
            self.call("scancel", "--user=root")
            until(self.idle, self.logs, pause=LOOK)

    def idle(self) -> bool:
        """Return True if both nodes are free."""
        states = self.call("sinfo", "--noheader", "--Node", "--format=%T", check=False).split()
        return states == ["idle"] * len(NODES)

    def call(self, *command: str, check: bool = True, **environment: str) -> str:
        """Output of one of Slurm's commands, called in the repository; with `check` a failure is an AssertionError."""
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment | environment, capture_output=True, text=True, timeout=HANGING
        )
        assert done.returncode == 0 or not check, f"{command}: {done.stderr}\n{self.logs()}"
        return done.stdout.strip()

    def submit(
        self, log: Path, script: str | Path, *words: str, options: Sequence[str] = (), **environment: str
    ) -> "Job":
        """sbatch [options] script [words], as a person calls it in the repository."""
        command = ("sbatch", "--parsable", f"--output={log}", *options, str(SCRIPTS / script), *words)
        return Job(self, self.call(*command, **environment), log)

    def logs(self) -> str:
        """The ends of the daemons' logs."""
        return "\n".join(
            f"== {path.name}\n{path.read_text(errors='replace')[-2000:]}" for path in self.directory.glob("*.log")
        )


class Job:
    """A submitted job, or an array of them, with its output in `log`."""

    def __init__(self, slurm: Slurm, number: str, log: Path) -> None:
        self.slurm, self.number, self.log = slurm, number, log
        self._hastened = "0"  # the last restart whose waiting was cut short

    @property
    def output(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def fields(self) -> dict[str, str]:
        """Return what scontrol says of the job, by name."""
        shown = self.slurm.call("scontrol", "show", "job", "--oneliner", self.number)
        return dict(re.findall(r"(\w+)=(\S*)", shown.splitlines()[0]))

    def update(self, **values: str) -> None:
        self.slurm.call("scontrol", "update", f"jobid={self.number}", *(f"{k}={v}" for k, v in values.items()))

    def signal(self, name: str) -> None:
        self.slurm.call("scancel", f"--signal={name}", self.number)

    def cancel(self) -> None:
        self.slurm.call("scancel", self.number)

    def until(self, reached: Callable[[], bool], *, pause: float = 0.02) -> None:
        """Poll until `reached`, every `pause` seconds.

        A requeued job does not lie for the two minutes that Slurm gives its last attempt to end everywhere, but only
        until that has ended: the nodes would mistake one for the other.
        """
        looked = 0.0

        def poll() -> bool:
            nonlocal looked
            if reached():
                return True
            if time.monotonic() < looked + LOOK:
                return False
            looked = time.monotonic()
            fields = self.fields()
            lies = (fields["JobState"], fields["Reason"]) == ("PENDING", "BeginTime")
            if lies and fields["Restarts"] != self._hastened and not self.slurm.processes("slurmstepd"):
                self._hastened = fields["Restarts"]
                self.update(StartTime="now+2")
            assert fields["JobState"] not in _TERMINAL or reached(), f"ended: {fields}\n{self.output[-4000:]}"
            return False

        until(poll, lambda: f"{self.fields()}\n{self.output[-4000:]}\n{self.slurm.logs()}", pause=pause)

    def wait(self) -> tuple[str, int]:
        """State and exit code of the job's end, requeues between."""
        self.until(lambda: self.fields()["JobState"] in _TERMINAL, pause=LOOK)
        fields = self.fields()
        return fields["JobState"], int(fields["ExitCode"].split(":")[0])


def _extensions() -> Path:
    """Return torch's cache of what other tests have compiled: to compile it again takes longer than most of them."""
    cuda = torch.version.cuda
    version = f"py{sys.version_info.major}{sys.version_info.minor}{sys.abiflags}"
    return Path(get_default_build_root()) / f"{version}_{'cu' + cuda.replace('.', '') if cuda else 'cpu'}"


def _path() -> str:
    """PATH with the environment's programs first, as `make test` has it (another ninja compiles everything again), and
    with the places of daemons, which a shell of root's may be without."""
    return os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
