"""Refusals of `d2tv export`, and of all that reads an export: one line, and nothing half-made."""

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from launcher.cli import main
from models.objectives.base import Objective
from shards.errors import InputError
from shards.format.index import Corpus
from tests.support.checkpoints import recipe_in, write_checkpoint
from tests.support.forkserver import ROOT
from tests.support.pretrained import save_mt5
from tests.support.tiny import make_corpus
from trainer.checkpoint.directory import described, seal
from trainer.checkpoint.sharded_state import file_name
from trainer.trained import open_model
from trainer.trained_files import resolve_checkpoint, run_of


@pytest.fixture(scope="module")
def trained(tiny_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Objective]:
    """A checkpoint of the tiny network with vision. Read it."""
    return write_checkpoint(recipe_in(tmp_path_factory.mktemp("trained") / "run", tiny_corpus), tiny_corpus)


@pytest.fixture(scope="module")
def model(trained: tuple[Path, Objective], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its export. Read it."""
    directory = tmp_path_factory.mktemp("exported") / "model"
    assert main(["export", str(trained[0]), str(directory)]) == 0
    return directory


def refusal(arguments: Sequence[object], capsys: pytest.CaptureFixture[str]) -> str:
    assert main([str(argument) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1, error
    return error


def test_what_means_a_checkpoint(tiny_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    recipe = recipe_in(run, tiny_corpus)
    older, newer = (write_checkpoint(recipe, tiny_corpus, step)[0] for step in (3, 6))
    folder = older.parent
    (folder / "latest").write_text(f"{newer.name}\n")
    (folder / "best").write_text(f"{older.name}\n")
    for path in (run, folder, newer, folder / "latest"):
        assert resolve_checkpoint(path) == newer
    for path in (older, folder / "best"):
        assert resolve_checkpoint(path) == older
    for text, wrong in (
        ("step-00000007\n", r"names step-00000007, which is not there \(did you mean 'step-00000006'\?\)"),
        ("../../etc", "does not name a checkpoint"),
        ("", "does not name a checkpoint"),
    ):
        (folder / "best").write_text(text)
        with pytest.raises(InputError, match=wrong):
            resolve_checkpoint(folder / "best")
    assert {run_of(path) for path in (older, newer)} == {run}
    monkeypatch.chdir(folder)
    assert run_of(resolve_checkpoint(Path(newer.name))) == run.resolve()
    with pytest.raises(InputError, match="does not name a checkpoint"):
        resolve_checkpoint(newer / file_name(0, 1))
    with pytest.raises(InputError, match=r"did you mean 'step-00000003'\?"):
        resolve_checkpoint(folder / "step-0000003")
    with pytest.raises(InputError, match=r"is nowhere a run directory\?"):
        resolve_checkpoint(Path("nowhere"))
    (newer / "recipe.yaml").write_text("run: other\n")
    with pytest.raises(InputError, match=r"recipe.yaml is not what was written; there are step-00000003 beside it"):
        resolve_checkpoint(run)
    (older / "manifest.json").unlink()
    with pytest.raises(InputError, match=r"manifest.json is missing"):
        resolve_checkpoint(older)


def test_a_directory_that_cannot_be_written(
    trained: tuple[Path, Objective], model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint, _ = trained
    (tmp_path / "file").write_text("mine")
    before = sorted((path.name, path.stat().st_mtime_ns) for path in model.iterdir())
    capsys.readouterr()
    assert "is not empty" in refusal(["export", checkpoint, model], capsys)
    assert "is a file" in refusal(["export", checkpoint, tmp_path / "file"], capsys)
    assert "cannot export to" in refusal(["export", checkpoint, tmp_path / "file" / "below"], capsys)
    assert "cannot export to" in refusal(["export", checkpoint, "/proc/none/model"], capsys)
    wanted = ["export", checkpoint, tmp_path / "a" / "b"]
    assert "did you mean 'bf16'" in refusal([*wanted, "--dtype", "bf61"], capsys)
    assert "takes nothing but corpus.path=" in refusal([*wanted, "training.steps=3"], capsys)
    assert "is nowhere a run directory?" in refusal(["export", "nowhere", tmp_path / "a" / "b"], capsys)
    assert "is an exported model" in refusal(["export", model, tmp_path / "a" / "b"], capsys)
    assert "set corpus.path=" in refusal([*wanted, "corpus.path=nowhere"], capsys)
    assert "no tokenizer" in refusal([*wanted, "corpus.tokenizer=nowhere"], capsys)
    assert sorted((path.name, path.stat().st_mtime_ns) for path in model.iterdir()) == before
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_empty_directory_and_a_link_to_one_are_taken(trained: tuple[Path, Objective], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    assert main(["export", str(trained[0]), str(tmp_path / "link")]) == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "empty" / "README.md").is_file()


def test_another_tokenizer_than_the_runs_is_refused(
    trained: tuple[Path, Objective], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the same size, so that its weights would fit."""
    checkpoint, _ = trained
    other = make_corpus(tmp_path / "corpus", seed=3, stories=96)
    words = ["export", checkpoint, tmp_path / "model", f"corpus.tokenizer={other.directory}/tokenizer"]
    told = refusal(words, capsys)
    assert "spiece.model differs" in told or "holds other weights" in told
    mt5 = save_mt5(tmp_path / "mt5")
    assert "holds other weights" in refusal([*words[:3], f"corpus.tokenizer={mt5}"], capsys)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("kilobytes", [1, 20, 60])
def test_a_full_disk_leaves_nothing(trained: tuple[Path, Objective], tmp_path: Path, kilobytes: int) -> None:
    """As if it were full: no file may grow beyond a limit."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1024, kilobytes * 1024))

    command = [sys.executable, "-m", "launcher.cli", "export", str(trained[0]), str(tmp_path / "a" / "model")]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        preexec_fn=limit,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"error: cannot export to {tmp_path}/a/model: "), done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def empty(file: Path) -> None:
    file.write_text("{}")


def forget(name: str) -> Callable[[Path], None]:
    """A manifest that no longer vouches for a file."""

    def harm(file: Path) -> None:
        files = json.loads(file.read_text())
        file.write_text(json.dumps({key: files[key] for key in files if key != name}))

    return harm


def edit(file: Path) -> None:
    save_file({name: tensor for name, tensor in load_file(file).items() if "gate" not in name}, file)


@pytest.mark.parametrize(
    ("name", "harm", "told"),
    [
        ("model.safetensors", Path.unlink, "model.safetensors is missing"),
        ("model.safetensors", cut, "model.safetensors is not what was written"),
        ("vision.safetensors", Path.unlink, "vision.safetensors is missing"),
        ("vision.safetensors", cut, "vision.safetensors is not what was written"),
        ("config.json", Path.unlink, "config.json is missing"),
        ("manifest.json", Path.unlink, "manifest.json is not one"),
        ("manifest.json", cut, "manifest.json is not one"),
        ("manifest.json", empty, "manifest.json does not name"),
        ("manifest.json", forget("model.safetensors"), "manifest.json does not name model.safetensors"),
        ("manifest.json", forget("spiece.model"), "manifest.json does not name spiece.model"),
        ("manifest.json", forget("corpus.json"), "manifest.json does not name corpus.json"),
        ("spiece.model", flip, "spiece.model is not what was written"),
        ("d2tv_tokenizer.json", flip, "d2tv_tokenizer.json is not what was written"),
    ],
)
def test_a_damaged_model(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, harm: object, told: str
) -> None:
    copy = Path(shutil.copytree(model, tmp_path / "copy"))
    assert callable(harm)
    harm(copy / name)
    assert told in refusal(["evaluate", copy], capsys)


@pytest.mark.parametrize(
    ("name", "harm", "told"),
    [
        ("model.safetensors", cut, "model.safetensors cannot be read"),
        ("vision.safetensors", cut, "vision.safetensors cannot be read"),
        ("vision.safetensors", edit, r"vision.safetensors lacks 2 tensors, fusion.gate.bias first"),
        ("spiece.model", empty, "spiece.model is no SentencePiece model"),
    ],
)
def test_files_that_are_sealed_but_do_not_fit(model: Path, tmp_path: Path, name: str, harm: object, told: str) -> None:
    """Not by their own manifest's fault."""
    copy = Path(shutil.copytree(model, tmp_path / "copy"))
    assert callable(harm)
    harm(copy / name)
    files = json.loads((copy / "manifest.json").read_text())
    seal(copy, {file: described(copy / file) for file in files})
    with pytest.raises(InputError, match=told):
        open_model(copy)


def test_words_that_would_describe_another_network(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "decide the network" in refusal(["evaluate", model, "network.vision.enabled=false"], capsys)
    assert "holds its own tokenizer" in refusal(["evaluate", model, "corpus.tokenizer=x"], capsys)
    assert "d2tv prepare" in refusal(["evaluate", model, "corpus.path=nowhere"], capsys)


@pytest.mark.parametrize(
    ("name", "place", "value", "told"),
    [
        ("ds_config.json", (), [], "ds_config.json holds values of other types"),
        ("ds_config.json", ("bf16",), 3, "ds_config.json holds values of other types"),
        ("corpus.json", ("splits", "train", "stories"), "x", "corpus.json holds values of other types"),
        ("corpus.json", ("splits",), None, "corpus.json cannot be read"),
        ("tensors.json", ("facts", "aliases"), {"a": "b"}, "an alias is of 'b', which is no parameter"),
    ],
)
def test_a_checkpoint_whose_sealed_files_hold_other_values(
    trained: tuple[Path, Objective],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    place: tuple[str, ...],
    value: object,
    told: str,
) -> None:
    copy = Path(shutil.copytree(trained[0], tmp_path / trained[0].name))
    whole: dict[str, Any] = {"": json.loads((copy / name).read_text())}
    *keys, last = ("", *place)
    inner = whole
    for key in keys:
        inner = inner[key]
    inner[last] = value
    (copy / name).write_text(json.dumps(whole[""]))
    files = json.loads((copy / "manifest.json").read_text())
    seal(copy, {file: described(copy / file) for file in files})
    assert told in refusal(["export", copy, tmp_path / "model"], capsys)
    assert not (tmp_path / "model").exists()
