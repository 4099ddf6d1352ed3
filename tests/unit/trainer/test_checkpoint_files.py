"""Which directories count as checkpoints, and what is found wrong with one."""

import dataclasses
import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.errors import InputError
from shards.format.changes import fingerprint
from tests.support.tiny import make_corpus
from trainer.checkpoint.directory import CORPUS, TrainState, check_resumable, damage, read_state, whole_checkpoints

STATE = TrainState(step=30, attempts=32, seed=4, slot=512, world_size=2, corpus="c0ffee")


def make_checkpoint(directory: Path, step: int = 30) -> Path:
    """The files of a checkpoint with their manifest, as trainer/checkpoint/directory.py describes them."""
    checkpoint = directory / f"step-{step:08d}"
    (checkpoint / "deepspeed").mkdir(parents=True)
    (checkpoint / "deepspeed" / "weights.pt").write_bytes(bytes(range(256)) * 3)
    (checkpoint / "recipe.yaml").write_text("run: x\n")
    (checkpoint / "state.json").write_text(json.dumps(dataclasses.asdict(STATE)))
    files = {}
    for path in sorted(p for p in checkpoint.rglob("*") if p.is_file()):
        content = path.read_bytes()
        files[str(path.relative_to(checkpoint))] = {
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
    (checkpoint / "manifest.json").write_text(json.dumps(files, indent=1) + "\n")
    return checkpoint


FILES = ("manifest.json", "recipe.yaml", "state.json", "deepspeed/weights.pt")


def test_an_untouched_checkpoint_is_sound(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path)
    assert damage(checkpoint) is None
    assert read_state(checkpoint) == STATE


@given(st.sampled_from(FILES), st.integers(0, 10_000), st.integers(0, 7))
def test_any_flipped_bit_is_found(tmp_path_factory: pytest.TempPathFactory, name: str, place: int, bit: int) -> None:
    checkpoint = make_checkpoint(tmp_path_factory.mktemp("flip"))
    content = bytearray((checkpoint / name).read_bytes())
    content[place % len(content)] ^= 1 << bit
    (checkpoint / name).write_bytes(content)
    problem = damage(checkpoint)
    shutil.rmtree(checkpoint)
    assert problem
    assert "\n" not in problem


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("harm", ["gone", "empty", "short", "long"])
def test_missing_cut_and_grown_files_are_found(tmp_path: Path, name: str, harm: str) -> None:
    checkpoint = make_checkpoint(tmp_path)
    path = checkpoint / name
    size = path.stat().st_size
    if harm == "gone":
        path.unlink()
    elif harm == "long":
        path.write_bytes(path.read_bytes() + b"x")
    else:
        os.truncate(path, 0 if harm == "empty" else size - 5)
    problem = damage(checkpoint)
    assert problem
    assert name in problem


def test_whole_ones_come_newest_first_and_half_ones_not_at_all(tmp_path: Path) -> None:
    for step in (9, 100, 20, 8_000_000):
        make_checkpoint(tmp_path, step)
    make_checkpoint(tmp_path / "other", 9)
    os.rename(tmp_path / "other" / "step-00000009", tmp_path / "step-00000009-good")  # a person's copy
    os.rename(make_checkpoint(tmp_path, 300), tmp_path / ".staging-00000300")
    assert [path.name for path in whole_checkpoints(tmp_path)] == [
        "step-08000000",
        "step-00000100",
        "step-00000020",
        "step-00000009",
    ]
    assert whole_checkpoints(tmp_path / "none") == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 5}, "training.seed 4, this run has 5"),
    ],
)
def test_a_run_does_not_go_on_with_another_seed(tmp_path: Path, change: dict[str, object], message: str) -> None:
    now = {"seed": 4, "manifest": {"content_hash": "c0ffee"}}
    check_resumable(STATE, tmp_path, **now)
    with pytest.raises(InputError, match=message):
        check_resumable(STATE, tmp_path, **(now | change))


def test_a_run_does_not_go_on_with_another_corpus_and_says_what_changed(tmp_path: Path) -> None:
    first = make_corpus(tmp_path / "first", stories=40)
    (tmp_path / CORPUS).write_text(json.dumps(fingerprint(first.manifest)))
    state = dataclasses.replace(STATE, corpus=first.content_hash)
    now = {"seed": 4}
    check_resumable(state, tmp_path, manifest=first.manifest, **now)
    fewer = make_corpus(tmp_path / "fewer", stories=39, languages=("english", "french", "hindi"))
    with pytest.raises(InputError, match=r"languages -urdu; train stories \d+ -> \d+") as caught:
        check_resumable(state, tmp_path, manifest=fewer.manifest, **now)
    assert "\n" not in str(caught.value)
    other = make_corpus(tmp_path / "other", stories=40, seed=1)  # the same in all numbers
    with pytest.raises(InputError, match=r"content of .*articles\.npy.*text\.bin"):
        check_resumable(state, tmp_path, manifest=other.manifest, **now)


@pytest.mark.parametrize(
    ("manifest", "problem"),
    [
        (b"", "is not one"),
        (b"{}", "does not name"),
        (b"[]", "is not one"),
        (b"null", "is not one"),
        (b'{"state.json": null}', "is not one"),
        (b'{"state.json": {"bytes": "1", "sha256": 3}}', "does not name"),
        (b'{"a":' * 50_000, "is not one"),
        (b"\xff", "is not one"),
    ],
)
def test_a_manifest_that_vouches_for_nothing_is_damage(tmp_path: Path, manifest: bytes, problem: str) -> None:
    checkpoint = make_checkpoint(tmp_path)
    (checkpoint / "manifest.json").write_bytes(manifest)
    assert problem in str(damage(checkpoint))
    assert damage(checkpoint, ("state.json",))


def test_a_file_that_is_read_and_not_vouched_for_is_damage(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path)
    files = json.loads((checkpoint / "manifest.json").read_text())
    for name in ("recipe.yaml", "state.json"):
        (checkpoint / "manifest.json").write_text(json.dumps({key: files[key] for key in files if key != name}))
        assert damage(checkpoint) == f"manifest.json does not name {name}"
    for name in ("added_tokens.json", "model.safetensors", "spiece.model"):
        (checkpoint / "manifest.json").write_text(json.dumps(files))
        (checkpoint / name).write_text("{}")
        assert damage(checkpoint) == f"manifest.json does not name {name}"
        (checkpoint / name).unlink()
    (checkpoint / "README.md").write_text("A person's own words.")
    assert damage(checkpoint) is None


@pytest.mark.parametrize("name", ["../x", "/etc/hostname", "a/../../b", "x" * 300])
def test_a_manifest_that_names_other_places_is_damage(tmp_path: Path, name: str) -> None:
    checkpoint = make_checkpoint(tmp_path)
    files = json.loads((checkpoint / "manifest.json").read_text())
    (checkpoint / "manifest.json").write_text(json.dumps(files | {name: {"bytes": 0, "sha256": ""}}))
    assert damage(checkpoint)


def test_a_fifo_in_a_checkpoint_is_damage(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path)
    for name in ("recipe.yaml", "manifest.json"):
        (checkpoint / name).unlink()
        os.mkfifo(checkpoint / name)
        assert damage(checkpoint)


@pytest.mark.parametrize(
    "change", [{"step": "1"}, {"step": -1}, {"seed": 10**400}, {"corpus": 3}, {"validation": [1]}, {"more": 1}]
)
def test_a_state_of_other_types_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    values = {"step": 1, "attempts": 1, "seed": 1, "slot": 0, "world_size": 1, "corpus": "x"} | change
    (tmp_path / "state.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"state\.json"):
        read_state(tmp_path)
