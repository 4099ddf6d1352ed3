"""TensorBoard and W&B through their own libraries, and read back through them."""

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from shards.errors import InputError
from tests.support.tiny import tiny_overrides
from tests.support.waiting import until
from trainer.events import Ended, Recorded, RolledBack
from trainer.recipe import Recipe, load_recipe
from trainer.recipe.sections import TrackingSection
from trainer.telemetry.trackers import Tracker, Trackers, check_trackers, open_trackers


def recipe(run: Path, *words: str) -> Recipe:
    return load_recipe("d2tv", [*tiny_overrides(Path("none"), run), *words])


ENDED = Ended(step=4, outcome="finished")


def train(step: int, loss: float) -> Recorded:
    return Recorded(
        record={
            "kind": "train",
            "step": step,
            "loss": {"total": loss, "mms": loss / 2},
            "nll_by_target": {"mms": {"urdu": 3.0}},
            "slowest_rank": 1,
            "time": 1.8e9,
        }
    )


def scalars(directory: Path, name: str) -> list[tuple[int, float]]:
    """What TensorBoard itself shows of a run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(directory))
    accumulator.Reload()
    return [(event.step, event.value) for event in accumulator.Scalars(name)]


def test_tensorboard_shows_the_course_of_a_run_that_went_back_and_was_started_again(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="pip install 'd2tv[tensorboard]'")
    words = "tracking.tensorboard=true"
    trackers = open_trackers(recipe(tmp_path, words), None)
    for step in (1, 2, 3):
        trackers.notify(train(step, 8.0 - step))
    trackers.notify(RolledBack(step=2, from_step=3, skipped=0))
    trackers.notify(train(3, 4.5))
    trackers.notify(Recorded(record={"kind": "validation", "step": 3, "nll": {"mms": math.nan}, "time": 1.0}))
    trackers.notify(Recorded(record={"kind": "directions", "step": 3, "nats": {"a>b": 1.0}, "time": 1.0}))
    trackers.notify(ENDED)
    again = open_trackers(recipe(tmp_path, words), 3)
    again.notify(train(4, 4.0))
    again.notify(ENDED)
    directory = tmp_path / "tensorboard"
    assert scalars(directory, "train/loss/total") == [(1, 7.0), (2, 6.0), (3, 4.5), (4, 4.0)]
    assert scalars(directory, "train/nll_by_target/mms/urdu")[0] == (1, 3.0)
    assert math.isnan(scalars(directory, "validation/nll/mms")[0][1])
    with pytest.raises(KeyError):
        scalars(directory, "directions/nats/a>b")
    with pytest.raises(KeyError):
        scalars(directory, "train/time")


def test_wandb_keeps_a_run_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="pip install 'd2tv[wandb]'")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    (tmp_path / "mine").mkdir()
    trackers = open_trackers(recipe(tmp_path / "mine", "tracking.wandb=d2tv"), None)
    assert trackers._trackers, "W&B did not start"
    for step in (1, 2):
        trackers.notify(train(step, 8.0 - step))
    trackers.notify(ENDED)
    (stored,) = (tmp_path / "mine" / "wandb").glob("offline-run-*/run-*.wandb")
    name = (tmp_path / "mine" / "wandb-id").read_text()
    assert name in stored.name  # the next start goes on in it
    until(lambda: len(history(stored)) == 2)  # W&B's own process writes it
    found = history(stored)
    assert [(row["step"], row["train/loss/total"]) for row in found] == [(1, 7.0), (2, 6.0)]


def history(path: Path) -> list[dict[str, Any]]:
    """The logged rows of a run that W&B keeps on the disk: records in the framing of LevelDB's log, in one block."""
    from wandb.proto import wandb_internal_pb2

    data, place, rows = path.read_bytes(), 7, []
    assert data.startswith(b":W&B"[: len(data)])
    assert len(data) < 32768
    while place + 7 <= len(data):
        length, kind = struct.unpack_from("<HB", data, place + 4)
        if place + 7 + length > len(data):
            break  # being written
        assert kind == 1, "a record in parts"
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data[place + 7 : place + 7 + length])
        place += 7 + length
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            rows.append({item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items})
    return rows


class Broken:
    """A destination that fails at its second record."""

    name = "broken"

    def __init__(self) -> None:
        self.steps: list[int] = []

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.steps.append(step)
        if len(self.steps) == 2:
            raise ConnectionError("the server\nhas gone")

    def rewind(self, step: int) -> None: ...

    def close(self, failed: bool) -> None:
        raise AssertionError("it was told of no more")


def test_one_that_fails_is_told_of_once_and_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    broken = Broken()

    def never() -> Tracker:
        raise RuntimeError("not logged in")

    trackers = Trackers([("broken", lambda: broken), ("other", never)])
    for step in (1, 2, 3):
        trackers.notify(train(step, 1.0))
    trackers.notify(RolledBack(step=1, from_step=3, skipped=0))
    trackers.notify(ENDED)
    assert broken.steps == [1, 2]
    assert capsys.readouterr().err.splitlines() == [
        "warning: other gets no more of this run: not logged in",
        "warning: broken gets no more of this run: the server has gone",
    ]


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    check_trackers(TrackingSection())
    with pytest.raises(InputError, match=r"pip install 'd2tv\[tensorboard\]'"):
        check_trackers(TrackingSection(tensorboard=True))
    with pytest.raises(InputError, match=r"pip install 'd2tv\[wandb\]'"):
        check_trackers(TrackingSection(wandb="mine"))
