"""An objective of two networks: `--product` evaluates, exports and summarizes with the second one."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from transformers import MT5ForConditionalGeneration

from launcher.cli import main
from models.objectives import OBJECTIVES
from models.objectives.base import Objective
from models.objectives.d2tv_config import D2TVConfig
from shards.format.index import Corpus
from tests.support.checkpoints import write_checkpoint
from tests.support.tiny import tiny_overrides
from trainer.recipe import load_recipe
from trainer.trained import open_model, trained_network
from trainer.trained_files import trained_recipe


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    run: Path
    objective: Objective
    corpus: Corpus


@pytest.fixture(scope="module")
def trained(tiny_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run of the toy objective, which trains `seeing` and `plain`. Its evaluations are the tests' own."""
    folder = tmp_path_factory.mktemp("products")
    (folder / "toy.yaml").write_text("extends: d2tv\nobjective: {name: toy}\n")
    words = [word for word in tiny_overrides(tiny_corpus.directory, folder / "run") if not word.startswith("objective")]
    with pytest.MonkeyPatch.context() as patch:
        register(patch)
        recipe = load_recipe(str(folder / "toy.yaml"), words)
        _, objective = write_checkpoint(recipe, tiny_corpus)
    (folder / "run" / "recipe.yaml").write_text(recipe.dump())
    return Trained(run=folder / "run", objective=objective, corpus=tiny_corpus)


def register(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(OBJECTIVES, "toy", D2TVConfig)  # what the module adds when it is imported is taken away again
    from tests.support.toy_objective import ToyConfig

    patch.setitem(OBJECTIVES, "toy", ToyConfig)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch)


def test_an_unknown_product_is_refused_in_one_line(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("sun moon star")
    for words in (
        ["evaluate", trained.run],
        ["export", trained.run, tmp_path / "model"],
        ["summarize", trained.run, "--to", "en", text],
    ):
        assert main([*map(str, words), "--product", "plane"]) == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert (
            "--product plane: objective 'toy' trains seeing, plain (did you mean 'plain'?): give one of these" in error
        )
    assert not (tmp_path / "model").exists()
    (tmp_path / "predictions.jsonl").write_text("")
    assert main(["evaluate", str(tmp_path / "predictions.jsonl"), "--product", "plain"]) == 2
    assert "is a file of predictions, there is no network to choose" in capsys.readouterr().err


def test_another_product_is_evaluated_beside_the_first(trained: Trained, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained.run, tmp_path / "run"))
    # The place of the run's own evaluation is its first product's, also while that is not evaluated.
    for words in (["--product", "plain"], []):
        assert main(["evaluate", str(run), "--directions", "mms", *words]) == 0
    places = sorted(path.parent.relative_to(run) for path in run.rglob("test.json"))
    assert places == [Path("evaluation"), Path("evaluation/product-plain--directions-mms")]
    seeing, plain = (json.loads((run / place / "test.json").read_text()) for place in places)
    assert (seeing["product"], plain["product"]) == ("seeing", "plain")
    assert "without_images" in seeing
    assert "without_images" not in plain, "it looks at none"
    assert seeing["nll"]["mms"]["model"] != plain["nll"]["mms"]["model"]
    assert "product <code>plain</code>" in (run / places[1] / "test.html").read_text()
    # A card has the scores of its own network.
    cards = []
    for name in ("seeing", "plain"):
        assert main(["export", str(run), str(tmp_path / name), "--product", name]) == 0
        cards.append((tmp_path / name / "README.md").read_text())
    for card, report in zip(cards, (seeing, plain), strict=True):
        assert f"| product | `{report['product']}` |" in card
        assert card.count("The test split: ") == 1
        assert f"| {report['nll']['mms']['model']:.3f} |" in card


@pytest.mark.parametrize("name", ["seeing", "plain"])
def test_an_export_is_of_one_product(
    trained: Trained, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model"
    assert main(["export", str(trained.run), str(model), "--product", name]) == 0
    wanted = trained.objective.products()[name]
    opened = open_model(model)
    assert opened.product == name
    assert (opened.network.vision is None) == (name == "plain") == (not (model / "vision.safetensors").exists())
    found = opened.network.state_dict()
    assert found.keys() == wanted.state_dict().keys()
    assert all(torch.equal(found[key], tensor) for key, tensor in wanted.state_dict().items())
    assert (model / "recipe.yaml").read_bytes() == next(trained.run.glob("checkpoints/*/recipe.yaml")).read_bytes()

    other = {"seeing": "plain", "plain": "seeing"}[name]
    words = [str(model), f"corpus.path={trained.corpus.directory}", "--directions", "mms"]
    assert main(["evaluate", *words, "--product", other]) == 2
    assert f"--product {other}: {model} is an export of the product {name}: leave it out" in capsys.readouterr().err
    reference = trained_network(trained_recipe(model), opened.tokenizer, model)  # as a frozen network
    assert (reference.vision is None) == (name == "plain")
    if name == "plain":
        assert main(["evaluate", *words]) == 0
        assert json.loads((model / "evaluation" / "test.json").read_text())["product"] == "plain"
        stock = MT5ForConditionalGeneration.from_pretrained(model)
        ours = opened.network.backbone.model.state_dict()
        assert all(torch.equal(tensor, ours[key]) for key, tensor in stock.state_dict().items() if key in ours)


def test_summaries_are_those_of_the_product(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("sun moon star sea rain")
    found = []
    for name in ("seeing", "plain"):
        model = tmp_path / name
        assert main(["export", str(trained.run), str(model), "--product", name]) == 0
        capsys.readouterr()
        for words in ([str(trained.run), "--product", name], [str(model)]):
            assert main(["summarize", *words, "--to", "en", str(text)]) == 0
            found.append(capsys.readouterr().out)
    assert found[0] == found[1] != found[2] == found[3]
