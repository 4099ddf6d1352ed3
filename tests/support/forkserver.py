"""Start Python programs without paying for their imports: forked from a server that imported torch and DeepSpeed once.

A rank that is started as `python -m MODULE` spends seven seconds of processor time on imports; forked it spends none.
Otherwise it is the same: a process of its own, in a session of its own, with its own environment, output and exit code.
"""

import io
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from pathlib import Path

from tests.support.waiting import HANGING

ROOT = Path(__file__).resolve().parents[2]
_PRELOADED = ["tests.support.preloaded"]
#: Read when a library is imported, hence by the server.
_AT_IMPORT = {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}

_context = multiprocessing.get_context("forkserver")


class Program:
    """A running program, with the part of `subprocess.Popen` that tests use."""

    def __init__(
        self,
        target: str,
        arguments: Sequence[str],
        *,
        output: Path,
        errors: Path | None = None,
        environment: Mapping[str, str] | None = None,
        directory: Path = ROOT,
    ) -> None:
        """Start `target`, a module or the path of a script, in `directory`.

        output, errors: the files that its standard output and error are appended to; one for both by default.
        environment: added to this process's own.
        """
        _start_server()
        self.args = [target, *arguments]
        full = {**os.environ, **_AT_IMPORT, **(environment or {})}
        files = (str(output), str(errors or output))
        # A daemon: this process must not wait at its end for what a failed test left.
        self._process = _context.Process(
            target=_run, args=(target, list(arguments), files, full, str(directory)), daemon=True
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code, -N after a death by signal N. Raises `subprocess.TimeoutExpired`."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _start_server() -> None:
    """Start the server of this test process, unless it runs already."""
    _context.set_forkserver_preload(_PRELOADED)
    before = dict(os.environ)
    try:
        os.environ.update(_AT_IMPORT)
        # Where a test has changed directory, the server must find the tests all the same.
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), before.get("PYTHONPATH", "")]))
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)


def run(*arguments: object, directory: Path = ROOT, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run `d2tv ARGUMENTS` to its end and return its exit code, output and errors."""
    with tempfile.TemporaryDirectory() as folder:
        output, errors = Path(folder) / "output", Path(folder) / "errors"
        words = [str(argument) for argument in arguments]
        program = Program(
            "launcher.cli", words, output=output, errors=errors, environment=environment, directory=directory
        )
        try:
            code = program.wait(HANGING)
        finally:
            program.kill()
        return subprocess.CompletedProcess(words, code, output.read_text(), errors.read_text())


def _run(
    target: str, arguments: list[str], files: tuple[str, str], environment: dict[str, str], directory: str
) -> None:
    """Become the program: what `python -m target` would be after its imports."""
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(directory)
    for number, name, file in ((1, "stdout", files[0]), (2, "stderr", files[1])):
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(descriptor, number)
        os.close(descriptor)
        stream = io.TextIOWrapper(
            os.fdopen(number, "wb", closefd=False),
            encoding="utf-8",
            errors="backslashreplace" if number == 2 else "strict",
            line_buffering=number == 2,
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    sys.argv = [target, *arguments]
    try:
        if target.endswith(".py"):
            sys.path.insert(0, str(Path(target).resolve().parent))
            runpy.run_path(target, run_name="__main__")
        else:
            runpy.run_module(target, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as error:
        code = _exit_code(error)
    except BaseException:  # as the interpreter prints whatever ends a program
        kind, value, trace = sys.exc_info()
        assert kind is not None
        assert value is not None
        sys.excepthook(kind, value, trace)  # a program's own, where it has set one
        code = 1
    # As the interpreter ends, but for what torch takes down at exit for a second.
    threading._shutdown()  # type: ignore[attr-defined]
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def _exit_code(error: SystemExit) -> int:
    if error.code is None or isinstance(error.code, int):
        return error.code or 0
    print(error.code, file=sys.stderr)
    return 1
