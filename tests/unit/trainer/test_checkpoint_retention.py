"""Which checkpoints stay, which one is the best, and what half-made or half-removed ones leave behind."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.checkpoint.directory import (
    TrainState,
    damage,
    described,
    find_identity,
    identity,
    seal,
    state_json,
    whole_checkpoints,
)
from trainer.checkpoint.retention import best_checkpoint, commit, recover, retire, sweep
from trainer.recipe.sections import CheckpointSection

STATE = TrainState(seed=0, slot=0, world_size=1, corpus="c0ffee")


def make(directory: Path, step: int, **validation: float) -> Path:
    staging = directory / f".staging-{step:08d}"
    staging.mkdir(parents=True)
    state = dataclasses.replace(STATE, step=step, validation=validation or None)
    (staging / "state.json").write_text(state_json(state))
    (staging / "tensors").write_bytes(bytes(100))
    seal(staging, {name: described(staging / name) for name in ("state.json", "tensors")})
    final = directory / f"step-{step:08d}"
    commit(staging, final)
    return final


def steps(directory: Path) -> list[int]:
    return sorted(int(path.name[5:]) for path in whole_checkpoints(directory))


@settings(deadline=None, max_examples=25)  # every checkpoint is synced to the disk
@given(
    all_steps=st.lists(st.integers(1, 60), min_size=1, max_size=12, unique=True).map(sorted),
    keep_last=st.integers(1, 4),
    keep_every=st.none() | st.integers(1, 20),
)
def test_the_newest_and_the_multiples_stay(
    tmp_path_factory: pytest.TempPathFactory, all_steps: Sequence[int], keep_last: int, keep_every: int | None
) -> None:
    directory = tmp_path_factory.mktemp("keep")
    kept_by = CheckpointSection(keep_last=keep_last, keep_every=keep_every)
    seen: list[int] = []
    for step in all_steps:
        newest = make(directory, step)
        retire(directory, newest, kept_by)
        seen.append(step)
        kept = set(seen[-keep_last:]) | {step for step in seen if keep_every and step % keep_every == 0}
        assert steps(directory) == sorted(kept)
        assert all(damage(path) is None for path in whole_checkpoints(directory))


def test_the_best_stays_and_is_named(tmp_path: Path) -> None:
    kept_by = CheckpointSection(keep_last=1, keep_best="mean")
    for step, (mms, mxls) in {1: (4.0, 5.0), 2: (2.0, 3.5), 3: (2.5, 2.9), 4: (3.0, 3.1)}.items():
        retire(tmp_path, make(tmp_path, step, mms=mms, mxls=mxls), kept_by)
    assert steps(tmp_path) == [3, 4]
    assert (tmp_path / "best").read_text() == "step-00000003\n"
    for path in [make(tmp_path, 5), make(tmp_path, 6, mms=2.0, mxls=9.0)]:
        retire(tmp_path, path, kept_by)
    assert steps(tmp_path) == [3, 6]
    everything = whole_checkpoints(tmp_path)
    assert best_checkpoint(everything, "mms") == tmp_path / "step-00000006"
    assert best_checkpoint([make(tmp_path, 7)], "mms") is None  # not validated at that step
    assert best_checkpoint([make(tmp_path, 8, mms=float("nan"))], "mms") is None


def test_a_damaged_state_is_never_the_best(tmp_path: Path) -> None:
    broken = make(tmp_path, 1, mms=1.0)
    (broken / "state.json").write_text(json.dumps({"step": 1}))
    assert best_checkpoint([broken, make(tmp_path, 2, mms=2.0)], "mms") == tmp_path / "step-00000002"


def test_only_older_ones_go(tmp_path: Path) -> None:
    """After a return to step 2 the (damaged) checkpoints of later steps stay until training has replaced them."""
    for step in (1, 2, 7, 8):
        make(tmp_path, step)
    retire(tmp_path, make(tmp_path, 3), CheckpointSection(keep_last=2))
    assert steps(tmp_path) == [2, 3, 7, 8]


def test_a_checkpoint_of_the_same_step_takes_the_place(tmp_path: Path) -> None:
    make(tmp_path, 4, mms=1.0)
    final = make(tmp_path, 4, mms=2.0)
    assert json.loads((final / "state.json").read_text())["validation"] == {"mms": 2.0}
    assert damage(final) is None
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000004"]


def test_what_a_kill_left_is_swept(tmp_path: Path) -> None:
    whole = make(tmp_path, 4)
    for name in (".staging-00000008", ".discarded-step-00000002", ".replaced-step-00000004"):
        (tmp_path / name / "folder").mkdir(parents=True)
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == [whole]


def test_a_file_that_is_not_to_be_seen_is_no_checkpoint(tmp_path: Path) -> None:
    """What another host wrote to a disk of its own."""
    (tmp_path / "here").write_text("x")
    entry = described(tmp_path / "here")
    with pytest.raises(OSError, match="all hosts share"):
        seal(tmp_path, {"here": entry, "elsewhere": entry})
    assert not (tmp_path / "manifest.json").exists()


def test_a_kill_between_making_room_and_renaming_loses_nothing(tmp_path: Path) -> None:
    final = make(tmp_path, 4, mms=1.0)
    other = make(tmp_path / "elsewhere", 4, mms=2.0)
    final.rename(tmp_path / ".replaced-step-00000004")
    other.rename(tmp_path / ".staging-00000004")
    (tmp_path / ".staging-00000008").mkdir()  # not sealed: half written
    recover(tmp_path)
    assert steps(tmp_path) == [4]
    assert damage(final) is None
    assert json.loads((final / "state.json").read_text())["validation"] == {"mms": 2.0}
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "step-00000004"]


def test_a_report_names_the_checkpoint_it_is_of_whichever_is_the_newest(tmp_path: Path) -> None:
    evaluated = make(tmp_path, 4, mms=1.0)
    make(tmp_path, 8, mms=2.0)
    (make(tmp_path, 12) / "manifest.json").unlink()
    assert find_identity(tmp_path, identity(evaluated)) == evaluated
    assert find_identity(tmp_path, "c0ffee") is None
    assert find_identity(tmp_path / "nowhere", None) is None


def test_a_copy_under_another_name_is_left_alone(tmp_path: Path) -> None:
    make(tmp_path, 1).rename(tmp_path / "step-00000001-good")
    for step in (2, 3):
        retire(tmp_path, make(tmp_path, step), CheckpointSection(keep_last=1, keep_every=1000))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000001-good", "step-00000003"]


def test_what_lost_its_manifest_is_damaged_and_not_gone(tmp_path: Path) -> None:
    (make(tmp_path, 4) / "manifest.json").unlink()
    (found,) = whole_checkpoints(tmp_path)
    assert "manifest.json" in str(damage(found))


def test_the_best_is_no_more_named_where_none_is_kept(tmp_path: Path) -> None:
    retire(tmp_path, make(tmp_path, 1, mms=1.0), CheckpointSection(keep_best="mms"))
    assert (tmp_path / "best").exists()
    retire(tmp_path, make(tmp_path, 2), CheckpointSection())
    assert not (tmp_path / "best").exists()
