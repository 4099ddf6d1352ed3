"""The `d2tv` command in process: what it prints, and one line for what it cannot do."""

import hashlib
import json
from pathlib import Path

import pytest

from launcher.cli import main
from shards.format.index import Corpus
from tests.support.tiny import tiny_overrides
from trainer.recipe import load_recipe
from trainer.recipe.values import recipe_names


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1, error
    return error


def test_recipe_lists_and_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipe"]) == 0
    assert capsys.readouterr().out.split() == recipe_names()
    assert main(["recipe", "mms", "training.steps=7"]) == 0
    (tmp_path / "printed.yaml").write_text(capsys.readouterr().out)
    assert load_recipe(str(tmp_path / "printed.yaml")) == load_recipe("mms", ["training.steps=7"])


@pytest.mark.parametrize(
    ("arguments", "fix"),
    [
        (["recipe", "d2tw"], "did you mean 'd2tv'"),
        (["recipe", "d2tv", "training.stepps=3"], "did you mean 'steps'"),
        (["recipe", "d2tv", "steps"], "key=value"),
        (["evaluate", "nowhere"], "is nowhere a run directory?"),
        (["prepare", "emojis", "--out", "{tmp}/out"], "did you mean 'emoji'"),
        (["prepare", "emoji", "--out", "{tmp}"], "choose another --out"),
    ],
)
def test_what_cannot_work(tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], fix: str) -> None:
    (tmp_path / "something").write_text("not a corpus")
    assert fix in refusal([argument.format(tmp=tmp_path) for argument in arguments], capsys)


@pytest.fixture
def finished_run(tmp_path: Path, tiny_corpus: Corpus) -> Path:
    """A run directory with one checkpoint, as far as it is read before its weights are."""
    run = tmp_path / "run"
    checkpoint = run / "checkpoints" / "step-00000006"
    checkpoint.mkdir(parents=True)
    recipe = load_recipe("d2tv", tiny_overrides(tiny_corpus.directory, run))
    state = {
        "step": 6,
        "attempts": 6,
        "seed": 0,
        "slot": 96,
        "world_size": 1,
        "corpus": tiny_corpus.content_hash,
    }
    manifest = {}
    for name, text in (("recipe.yaml", recipe.dump()), ("state.json", json.dumps(state))):
        (checkpoint / name).write_text(text)
        manifest[name] = {"bytes": len(text.encode()), "sha256": hashlib.sha256(text.encode()).hexdigest()}
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))
    return run


@pytest.mark.parametrize(
    ("override", "fix"),
    [
        ("evaluation.num_beems=2", "did you mean 'num_beams'"),
        ("evaluation.directions=en>cy", "english, french, hindi, urdu"),
        ("evaluation.directions=some", "all, mms, mxls"),
        ("corpus.path=nowhere", "d2tv prepare"),
        ("corpus.tokenizer={run}", "no tokenizer"),
    ],
)
def test_an_evaluation_that_cannot_work(
    finished_run: Path, capsys: pytest.CaptureFixture[str], override: str, fix: str
) -> None:
    assert fix in refusal(["evaluate", str(finished_run), override.format(run=finished_run)], capsys)


def test_a_damaged_checkpoint_is_not_evaluated(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open(finished_run / "checkpoints" / "step-00000006" / "recipe.yaml", "a") as file:
        file.write(" ")
    assert "recipe.yaml is not what was written" in refusal(["evaluate", str(finished_run)], capsys)


def test_a_run_is_not_evaluated_on_another_corpus(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.support.tiny import make_corpus

    make_corpus(tmp_path / "other", seed=1, stories=40)
    assert "set corpus.path=" in refusal(["evaluate", str(finished_run), f"corpus.path={tmp_path / 'other'}"], capsys)


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    shown = capsys.readouterr().out
    assert all(
        command in shown
        for command in ("prepare", "train", "export", "inspect", "preview", "verify", "recipe", "evaluate")
    )


def test_a_star_is_any_language_and_options_may_stand_anywhere(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipe", "d2tv", "evaluation.directions=*-ur"]) == 0
    assert "directions: '*-ur'" in capsys.readouterr().out
    assert "no whole checkpoint" in refusal(["evaluate", "nowhere", "--split", "validation", "a.b=1"], capsys)
