"""Test the reading of a run's records from a file that grows, is replaced, cut or missing."""

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from tests.support.runs import checkpoint, directions, eventful_records, start, train, write_recipe, write_records
from trainer.runs.directions import KEPT
from trainer.runs.directory import RunDirectory
from trainer.runs.history import History
from trainer.runs.tail import Tail
from trainer.telemetry.metrics import MetricsLog

FOUR = ("english", "french", "hindi", "urdu")
CLOCK = {"training.steps=1000", "training.validate_every=100", "checkpoint.every=100"}


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
    assert (run.history.step, len(run.history.starts)) == (150, 1)
    log = MetricsLog(tmp_path / "metrics.jsonl", 100)
    log.write(start(100, restarts=1))
    log.write(train(110))
    run.refresh()
    assert (run.history.step, len(run.history.starts), run.history.restarts) == (110, 2, 1)
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
