"""Test `d2tv watch`: the state in words, and a screen of 80 columns."""

import io
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from launcher.terminal.run_view import view
from launcher.terminal.sparkline import sparkline
from shards.languages import LANGUAGE_CODES
from tests.support.runs import (
    BEGAN,
    checkpoint,
    directions,
    eventful_records,
    start,
    train,
    write_recipe,
    write_records,
)
from trainer.runs.directory import RunDirectory
from trainer.runs.state import state_of

CLOCK = {"training.steps=1000", "training.validate_every=100", "checkpoint.every=100"}


def shown(run: Path, now: float, width: int = 80) -> str:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(view(RunDirectory(run), now, width))
    return out.getvalue()


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
        (lasting(10), 65, "training", "training; last record 65 s ago"),
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
    assert history.training_by_target()["mms"] == {"hindi": pytest.approx(sum(3 + step / 1000 for step in last) / 32)}
    assert history.training_by_target()["mxls"] == {"hindi": 1.0, "urdu": 5.0}
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
