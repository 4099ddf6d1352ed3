"""A run directory in which something of others lies: it is refused before it is replaced."""

from pathlib import Path

import pytest

from launcher.train import main
from shards.errors import InputError
from shards.format.index import Corpus
from tests.unit.launcher.test_train_refusals import Setup
from trainer.recipe import load_recipe
from trainer.runs.files import check_run_files

START = '{"kind": "start", "step": 0, "time": 1.0}\n'


def test_what_a_run_has_written_is_its_own(tmp_path: Path) -> None:
    check_run_files(tmp_path / "new")
    recipe = load_recipe("d2tv", [f"run={tmp_path}", "training.steps=7"])
    (tmp_path / "recipe.yaml").write_text(recipe.dump())
    check_run_files(tmp_path)  # killed before its first record
    (tmp_path / "metrics.jsonl").touch()
    check_run_files(tmp_path)
    (tmp_path / "metrics.jsonl").write_bytes(b"\xff\n{\n" + START.encode() + b'{"step": 1')
    check_run_files(tmp_path)
    (tmp_path / "recipe.yaml").write_text("of another release")
    check_run_files(tmp_path)


@pytest.mark.parametrize("text", ["extends: d2tv\n# mine\n", "cake: [flour, eggs]\n", "\x00", "{", ""])
def test_a_recipe_of_a_persons_own_is_not_replaced(tmp_path: Path, text: str) -> None:
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(InputError, match=r"recipe\.yaml was not written by a run, .*choose another run=") as caught:
        check_run_files(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ['{"step": 1, "loss": 2.5}\n', "epoch,loss\n", "\x00"])
def test_metrics_of_another_program_are_not_replaced(tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics.jsonl").write_text(text)
    with pytest.raises(InputError, match=r"metrics\.jsonl was not written by a run"):
        check_run_files(tmp_path)


def test_a_training_does_not_begin_over_a_recipe_of_a_persons_own(
    tiny_corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    setup = Setup(tmp_path, tiny_corpus)
    setup.run.mkdir()
    mine = setup.run / "recipe.yaml"
    mine.write_text("extends: d2tv\n# tuned by hand\n")
    setup.recipe = str(mine)
    assert main(setup.arguments()) == 2
    assert capsys.readouterr().err.startswith(f"error: {mine} was not written by a run")
    assert mine.read_text() == "extends: d2tv\n# tuned by hand\n"
