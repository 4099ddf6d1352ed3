"""Test the command `d2tv watch`: its refusals, and a run that it follows on a terminal."""

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from launcher.cli import main
from tests.support.forkserver import ROOT
from tests.support.runs import start, train, write_recipe, write_records
from tests.support.waiting import until
from trainer.telemetry.metrics import MetricsLog

CLOCK = {"training.steps=1000", "training.validate_every=100", "checkpoint.every=100"}


def lasting(step: int) -> list[dict[str, Any]]:
    return [start(), *(train(at) for at in range(10, step + 1, 10))]


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1, error
    return error


@pytest.mark.parametrize("command", ["watch", "report"])
@pytest.mark.parametrize(
    ("place", "fix"),
    [
        ("nowhere", "name the directory that the training was given as run="),
        ("other", "holds neither recipe.yaml nor metrics.jsonl"),
        ("run/metrics.jsonl", "is a file: name the run directory, like "),
        ("run/checkpoints/step-00000006", "is a checkpoint: name its run, "),
        ("model", "is an exported model, not a run"),
        ("broken", "is no recipe"),
    ],
)
def test_what_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, place: str, fix: str) -> None:
    write_recipe(tmp_path / "run", *CLOCK)
    write_records(tmp_path / "run", [start()])
    for folder in (tmp_path / "run/checkpoints/step-00000006", tmp_path / "model", tmp_path / "other"):
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text("{}")
        if folder.name != "other":
            (folder / "recipe.yaml").write_text("{}")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "recipe.yaml").write_text("a: [")
    assert fix in refusal([command, str(tmp_path / place)], capsys)


@pytest.mark.parametrize("interval", ["0", "-1", "nan", "inf"])
def test_no_time_to_wait(tmp_path: Path, capsys: pytest.CaptureFixture[str], interval: str) -> None:
    assert "--interval" in refusal(["watch", str(tmp_path), f"--interval={interval}"], capsys)


def test_a_run_that_has_not_begun_is_shown_once_where_no_terminal_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["watch", str(tmp_path)]) == 0
    assert "not begun: the directory holds no records yet" in capsys.readouterr().out
    write_recipe(tmp_path, *CLOCK)
    write_records(tmp_path, lasting(100))
    assert main(["watch", str(tmp_path), "--once"]) == 0
    assert "step 100 of 1,000" in capsys.readouterr().out


def test_help_names_both_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert {"watch", "report"} <= set(capsys.readouterr().out.split())


class Screen:
    """`d2tv watch` in a terminal of its own."""

    def __init__(self, run: Path) -> None:
        self._end, terminal = pty.openpty()
        self.seen = ""
        words = [sys.executable, "-m", "launcher.cli", "watch", str(run), "--interval", "0.05"]
        self.process = subprocess.Popen(
            words,
            cwd=ROOT,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env=os.environ | {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"},
            start_new_session=True,
        )
        os.close(terminal)
        os.set_blocking(self._end, False)

    def until(self, text: str) -> None:
        def seen() -> bool:
            assert self.process.poll() is None, self.seen
            self._read()
            return text in self.seen

        until(seen, lambda: self.seen)

    def close(self, number: int) -> int:
        self.process.send_signal(number)

        def ended() -> bool:
            self._read()  # what it writes at the end must be taken from it
            return self.process.poll() is not None

        until(ended, lambda: self.seen)
        self._read()
        os.close(self._end)
        return self.process.returncode

    def _read(self) -> None:
        try:
            self.seen += os.read(self._end, 1 << 20).decode(errors="replace")
        except OSError:  # nothing there now, or the other end is closed
            return


def test_it_follows_a_run_until_ctrl_c(tmp_path: Path) -> None:
    screen = Screen(tmp_path)
    try:
        screen.until("not begun")
        write_recipe(tmp_path, *CLOCK)
        screen.until("its recipe is written")
        log = MetricsLog(tmp_path / "metrics.jsonl", None)
        log.write(start(time=time.time()))
        screen.until("beginning from step 0")
        log.write(train(10, time=time.time()))
        screen.until("step 10 of 1,000")
        log.rewind(0)
        screen.until("step 0 of 1,000")
        log.close()
        assert screen.close(signal.SIGINT) == 0
        assert "Traceback" not in screen.seen
        assert screen.seen.rstrip().endswith("\x1b[?25h")  # the cursor is back
    finally:
        screen.process.kill()
        screen.process.wait()


def test_ended_by_a_signal_it_gives_the_cursor_back(tmp_path: Path) -> None:
    screen = Screen(tmp_path)
    try:
        screen.until("not begun")
        assert screen.close(signal.SIGTERM) == 128 + signal.SIGTERM
        assert "Traceback" not in screen.seen
        assert screen.seen.rstrip().endswith("\x1b[?25h")
    finally:
        screen.process.kill()
        screen.process.wait()
