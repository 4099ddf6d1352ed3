"""`d2tv watch`: files that grow, are replaced, cut or not there; the state in words; a screen of 80 columns."""

import io
import json
import math
import os
import pty
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from launcher.cli import main
from launcher.watch.directions import KEPT
from launcher.watch.history import History
from launcher.watch.run_directory import RunDirectory
from launcher.watch.sparkline import sparkline
from launcher.watch.state import state_of
from launcher.watch.tail import Tail
from launcher.watch.view import view
from shards.languages import LANGUAGE_CODES
from tests.distributed.harness import ROOT
from tests.runs import BEGAN, checkpoint, directions, eventful_records, start, train, write_recipe, write_records
from trainer.metrics import MetricsLog

FOUR = ("english", "french", "hindi", "urdu")
CLOCK = {"training.steps=1000", "training.validate_every=100", "checkpoint.every=100"}


def shown(run: Path, now: float, width: int = 80) -> str:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(view(RunDirectory(run), now, width))
    return out.getvalue()


def facts(history: History) -> dict[str, Any]:
    """All that a history keeps, so that two can be compared."""
    return {name: value for name, value in vars(history).items() if name not in ("_summed", "curves", "recent")} | {
        "curves": repr(history.curves),
        "recent": repr(list(history.recent)),
    }


def test_a_line_is_read_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tail = Tail(path)
    assert not tail.renewed()
    assert list(tail.lines()) == []
    with open(path, "wb", buffering=0) as file:
        file.write(b'{"step": 1}\n{"st')
        assert tail.renewed()
        assert list(tail.lines()) == [b'{"step": 1}\n']
        file.write(b'ep": 2}')
        assert not tail.renewed()
        assert list(tail.lines()) == []
        file.write(b"\n\n")
        assert not tail.renewed()
        assert list(tail.lines()) == [b'{"step": 2}\n', b"\n"]
        assert not tail.renewed()
        assert list(tail.lines()) == []


@pytest.mark.parametrize("content", [b"", b"other\n", b"other, of the same length\n"[:12], b"longer\n" * 10])
@pytest.mark.parametrize("in_place", [True, False])
def test_a_file_that_is_not_the_one_read_before_is_read_from_its_beginning(
    tmp_path: Path, content: bytes, in_place: bool
) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"first\nlines\n")
    tail = Tail(path)
    assert tail.renewed()
    assert len(list(tail.lines())) == 2
    if in_place:
        path.write_bytes(content)
    else:
        (tmp_path / "new").write_bytes(content)
        os.replace(tmp_path / "new", path)
    assert tail.renewed()
    assert list(tail.lines()) == [line for line in content.splitlines(keepends=True) if line.endswith(b"\n")]
    path.unlink()
    assert tail.renewed()
    assert list(tail.lines()) == []


def test_what_grows_in_pieces_is_what_is_read_at_once(tmp_path: Path) -> None:
    write_records(tmp_path / "whole", eventful_records(FOUR, 900, every=100))
    content = (tmp_path / "whole" / "metrics.jsonl").read_bytes()
    whole = RunDirectory(tmp_path / "whole").history
    (tmp_path / "run").mkdir()
    run = RunDirectory(tmp_path / "run")
    pieces = random.Random(0)
    place = 0
    with open(tmp_path / "run" / "metrics.jsonl", "ab", buffering=0) as file:
        while place < len(content):
            end = place + pieces.choice((1, 100, 5000, 40000))
            file.write(content[place:end])
            place = end
            run.refresh()
    assert run.history.records > 100
    assert facts(run.history) == facts(whole)
    assert run.history.directions() == whole.directions()


def test_a_run_that_goes_back_is_followed(tmp_path: Path) -> None:
    """With the trainer's own file: a kill in the middle of a line, and the restart that rewrites it."""
    write_recipe(tmp_path, *CLOCK)
    run = RunDirectory(tmp_path)
    log = MetricsLog(tmp_path / "metrics.jsonl", None)
    for record in (start(), *(train(step) for step in range(10, 160, 10)), checkpoint(100)):
        log.write(record)
    log.close()
    with open(tmp_path / "metrics.jsonl", "ab") as file:
        file.write(json.dumps(train(160)).encode()[:50])
    run.refresh()
    assert (run.history.step, len(run.history.lives)) == (150, 1)
    log = MetricsLog(tmp_path / "metrics.jsonl", 100)
    log.write(start(100, restarts=1))
    log.write(train(110))
    run.refresh()
    assert (run.history.step, len(run.history.lives), run.history.restarts) == (110, 2, 1)
    assert run.history.curves["nll"]["mms"].steps == list(range(10, 120, 10))
    log.rewind(100)
    run.refresh()
    assert run.history.step == 100
    log.close()


def test_a_recipe_that_changes_is_read_again(tmp_path: Path) -> None:
    write_recipe(tmp_path, "training.steps=1000")
    run = RunDirectory(tmp_path)
    assert run.planned == 1000
    (tmp_path / "new.yaml").write_text((tmp_path / "recipe.yaml").read_text().replace("steps: 1000", "steps: 2000"))
    os.replace(tmp_path / "new.yaml", tmp_path / "recipe.yaml")
    run.refresh()
    assert run.planned == 2000


def lasting(step: int) -> list[dict[str, Any]]:
    return [start(), *(train(at) for at in range(10, step + 1, 10))]


def ended(outcome: str) -> dict[str, Any]:
    return {"kind": "end", "step": 500, "outcome": outcome, "time": BEGAN + 2.1 * 500}


VALIDATION = {"kind": "validation", "step": 500, "nll": {"mms": 3.0}, "seconds": 50.0, "time": BEGAN + 2.1 * 500}


@pytest.mark.parametrize(
    ("records", "age", "phase", "words"),
    [
        ([], 5, "not begun", "not begun: its recipe is written"),
        ([start()], 5, "beginning", "beginning from step 0: last record"),
        (lasting(490), 15, "training", "training; last record 15 s ago"),
        (lasting(490), 300, "silent", "silent for 5 min (usually a record every 21 s)"),
        (lasting(500), 300, "evaluating", "evaluating, or silent, for 5 min: held-out stories of step 500"),
        ([*lasting(500), VALIDATION], 300, "silent", "silent for 5 min"),
        (lasting(1000), 100, "evaluating", "all steps are taken: evaluating, or silent, for 100 s"),
        ([*lasting(500), ended("stopped")], 60, "stopped", "stopped by a signal at step 500, 60 s ago"),
        ([*lasting(500), ended("failed")], 60, "failed", "failed at step 500"),
        ([*lasting(1000), ended("finished")], 60, "finished", "finished at step 1,000"),
        ([*lasting(500), ended("stopped"), start(500, 1, BEGAN + 2000)], 3, "beginning", "beginning from step 500"),
    ],
)
def test_the_state_in_words(tmp_path: Path, records: list[dict[str, Any]], age: float, phase: str, words: str) -> None:
    write_recipe(tmp_path, *CLOCK)
    write_records(tmp_path, records)
    last = records[-1]["time"] if records else BEGAN
    state = state_of(RunDirectory(tmp_path), last + age)
    assert state.phase == phase
    assert state.words.startswith(words)
    assert state.words in " ".join(shown(tmp_path, last + age).split())


def test_an_older_release_says_no_end_but_has_an_evaluation(tmp_path: Path) -> None:
    write_recipe(tmp_path, *CLOCK)
    write_records(tmp_path, lasting(1000))
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / "validation.json").write_text("{")
    (tmp_path / "evaluation" / "test.json").write_text(json.dumps({"step": 900}))
    assert state_of(RunDirectory(tmp_path), BEGAN + 3000).phase == "evaluating"
    (tmp_path / "evaluation" / "test.json").write_text(json.dumps({"step": 1000}))
    assert state_of(RunDirectory(tmp_path), BEGAN + 3000).phase == "finished"


def test_the_time_that_is_left(tmp_path: Path) -> None:
    """600 steps of the recent pace, not of the slow beginning, and 5 validations (at 500, 600 ... 1000: 6 of 50 s)."""
    write_recipe(tmp_path, *CLOCK)
    slow = [train(step, step_seconds=9.0) for step in range(10, 60, 10)]
    validation = VALIDATION | {"step": 400}
    write_records(tmp_path, [start(), *slow, *(train(step) for step in range(60, 410, 10)), validation])
    left = state_of(RunDirectory(tmp_path), BEGAN + 850).left_seconds
    assert left == pytest.approx(600 * 2.0 + 6 * 50.0)
    assert "eta 25 min" in shown(tmp_path, BEGAN + 850)


def test_languages_and_directions_are_ranked_by_recent_sums(tmp_path: Path) -> None:
    """Against sums written out; older records count no more."""
    write_recipe(tmp_path, *CLOCK)
    records: list[dict[str, Any]] = [start()]
    for step in range(10, 410, 10):
        nll = {"mms": {"hindi": 3 + step / 1000}, "mxls": {"hindi": 1.0, **({"urdu": 5.0} if step == 400 else {})}}
        records.append(train(step, nll_by_target=nll))
    records += [
        directions(100, {"hindi>urdu": 900.0}, 1000),
        directions(200, {"hindi>urdu": 2.0, "urdu>hindi": 8.0}, 30),
        directions(400, {"hindi>urdu": 4.0, "hindi>hindi": 1.0}, 30),
    ]
    # Once there are 50 examples a direction, older sums are left alone.
    records.append(directions(500, {"hindi>urdu": 6.0, "urdu>urdu": 7.0}, 40))
    write_records(tmp_path, records)
    history = RunDirectory(tmp_path).history
    last = list(range(90, 410, 10))
    assert history.by_target("mms") == {"hindi": pytest.approx(sum(3 + step / 1000 for step in last) / 32)}
    assert history.by_target("mxls") == {"hindi": 1.0, "urdu": 5.0}
    found = history.directions()
    assert found is not None
    # 500 has 2 directions and 80 examples, with 400 three of 140, with 200 four of 200: enough.
    assert (found.after, found.until) == (100, 500)
    nll = {f"{one.source}>{one.target}": one.nll for one in found.found}
    assert nll == {
        "hindi>urdu": pytest.approx((40 * 6 + 30 * 4 + 30 * 2) / 100),
        "urdu>urdu": pytest.approx(7),
        "hindi>hindi": pytest.approx(1),
        "urdu>hindi": pytest.approx(8),
    }
    assert [one.nll for one in found.worst(2)] == pytest.approx([8, 7])
    text = shown(tmp_path, BEGAN + 1000)
    assert re.search(r"mxls +urdu 5.00, hindi 1.00", text)
    assert re.search(r"direction +urdu→hindi 8.00, urdu→urdu 7.00, hindi→urdu 4.20", text)


def test_a_direction_of_few_examples_is_not_called_the_worst() -> None:
    history = History()
    record = directions(10, {"hindi>urdu": 3.0, "urdu>hindi": 9.0, "urdu>urdu": 4.0})
    record["examples"]["urdu>hindi"] = 4.0
    history.add(json.dumps(record).encode() + b"\n")
    found = history.directions()
    assert found is not None
    assert [(one.source, one.target) for one in found.worst(9)] == [("urdu", "urdu"), ("hindi", "urdu")]


def test_of_many_directions_records_only_the_newest_are_kept(tmp_path: Path) -> None:
    """A run of weeks has hundreds of MB of them."""
    write_records(tmp_path, [start(), *(directions(step, {"hindi>urdu": 4.0}, 0.5) for step in range(10, 1000, 10))])
    history = RunDirectory(tmp_path).history
    assert len(history._directions) == KEPT + 1
    found = history.directions()
    assert found is not None
    assert (found.after, found.until) == (990 - 10 * KEPT, 990)


@pytest.mark.parametrize("width", [40, 80, 81, 200])
def test_44_languages_fit_the_terminal(tmp_path: Path, width: int) -> None:
    run = tmp_path / "mt5"
    write_recipe(run, "training.steps=3000", "training.validate_every=500", "checkpoint.every=500")
    write_records(run, eventful_records(tuple(LANGUAGE_CODES)[:44], 2990, every=250)[:-1])
    text = shown(run, BEGAN + 20000, width)
    assert max(map(len, text.splitlines())) <= width
    if width >= 80:
        assert len(text.splitlines()) <= 24
        for said in (
            r"step 2,990 of 3,000  99\.7%  eta",
            r"16 ranks · 2 restarts",
            r"mxls_kd +\d",
            r"held-out mxls +\d",
            r"tokens/s, MFU \d\d\.\d%, data wait \d",
            r"slowest rank \d \(\+\d+ ms\), lr ",
            r"7 placeholders, 3 skipped steps",
            r"step 2,750, .* ago, 3.5 GB in 12 s; 1 could not be written",
            r"last spike +step 1,540, .*: loss 31, usually 9\.5; amharic→welsh",
            r"last rollback from step 1,630 to step 1,500",
        ):
            assert re.search(said, text), said


def test_a_run_of_an_older_release(tmp_path: Path) -> None:
    """Records without the newer keys, and a recipe with a key that is no longer known."""
    write_recipe(tmp_path, *CLOCK)
    with open(tmp_path / "recipe.yaml", "a") as file:
        file.write("gone: {key: 1}\n")
    validation = {"kind": "validation", "step": 500, "nll": {"mms": 3.0}}
    spike = {"kind": "spike", "step": 100, "loss": 9.0, "usual": 3.0, "directions": []}
    write_records(
        tmp_path, [{"kind": "start", "step": 0, "world_size": 2, "time": BEGAN}, *lasting(500)[1:], validation, spike]
    )
    text = shown(tmp_path, BEGAN + 1055)
    assert "training; last record 5.0 s ago" in text
    assert "last spike    step 100, 14 min ago: loss 9, usually 3" in text
    assert "MFU" not in text
    assert "highest NLL" not in text


def test_what_is_not_finite_is_shown_as_it_is(tmp_path: Path) -> None:
    write_recipe(tmp_path, *CLOCK)
    records = lasting(100)
    for place, value in ((3, math.nan), (7, math.inf), (10, math.nan)):
        records[place]["loss"]["tco"] = value
        records[place]["nll"] = {"mms": -value}
        records[place]["gradient_norm"] = value
    write_records(tmp_path, records)
    text = shown(tmp_path, BEGAN + 215)
    line = next(line for line in text.splitlines() if line.startswith("tco"))
    assert re.match(r"tco +nan +-0\.\d+ [▁-█]{2}×[▁-█]{3}×[▁-█]{2}×", line)
    assert "norm nan" in text


def test_sparklines() -> None:
    assert sparkline([], 8) == ""
    assert sparkline([2, 2, 2], 8) == "▄▄▄"
    assert sparkline([0.1] * 100, 7) == "▄" * 7
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([0, 0, 7, 7], 2) == "▁█"
    assert sparkline([math.nan, 1, math.inf, 2], 4) == "×▁×█"
    assert sparkline([-1.7e308, 1.7e308], 2) == "▁█"
    assert sparkline([math.nan], 4) == "×"


def test_names_give_a_terminal_no_orders(tmp_path: Path) -> None:
    """Control characters, markup and halves of characters in names that come from files."""
    strange = "\x1b]0;owned\x07[bold red]\n\r\x9b2J\ud800>"
    write_recipe(tmp_path / "run", *CLOCK)
    run = (tmp_path / "run").rename(tmp_path / "a\x1b[31m\n[b]")
    records: list[dict[str, Any]] = [
        start(),
        train(
            10,
            loss={"total": 1.0, strange: 2.0},
            nll={strange: 2.0},
            nll_by_target={"mms": {strange: 1.0, "urdu": 2.0}},
        ),
        directions(10, {f"{strange}>urdu": 2.0, "urdu>urdu": 1.0}),
        checkpoint(10, problem=strange),
        {"kind": "spike", "step": 10, "loss": 9.0, "usual": 3.0, "directions": [{"direction": strange, "nll": 5.0}]},
    ]
    write_records(run, records)
    text = shown(run, BEGAN + 30, 200)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]", text)
    assert "[bold red]" in text
    assert "[b]" in text


def test_records_that_are_none(tmp_path: Path) -> None:
    """Whatever else a line holds, it ends nothing."""
    write_recipe(tmp_path, *CLOCK)
    odd = [
        b"\xff\xfe\n",
        b"[]\n",
        b"{}\n",
        b'{"step": "7"}\n',
        b'{"kind": 5, "step": 1}\n',
        b'{"kind": "train", "step": 1, "loss": 4, "nll": {"mms": "x"}, "time": "now", "examples": []}\n',
        b'{"kind": "train", "step": 2, "loss": {"total": 1' + b"0" * 400 + b"}}\n",
        b'{"kind": "directions", "step": 2, "nats"\n',
        b'{"kind": "validation", "step": 2}\n',
        b'{"kind": "spike", "step": 2, "directions": [5]}\n',
        b'{"kind": "end", "step": 2}\n',
    ]
    (tmp_path / "metrics.jsonl").write_bytes(b"".join(odd))
    assert "failed at step 2, an unknown time ago" in shown(tmp_path, BEGAN)


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
        deadline = time.monotonic() + 60
        while text not in self.seen:
            assert self.process.poll() is None, self.seen
            assert time.monotonic() < deadline, self.seen
            self._read()

    def close(self, number: int) -> int:
        self.process.send_signal(number)
        deadline = time.monotonic() + 60
        while self.process.poll() is None:  # what it writes at the end must be taken from it
            assert time.monotonic() < deadline, self.seen
            self._read()
        self._read()
        os.close(self._end)
        return self.process.returncode

    def _read(self) -> None:
        time.sleep(0.02)
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
