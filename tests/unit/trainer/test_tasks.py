"""Evaluate one pre-trained network by every task, through the command line."""

import contextlib
import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from launcher.cli import main
from shards.batch.reader import Reader
from shards.errors import InputError
from shards.format.index import Corpus
from shards.printable import one_line
from shards.text.tokenizer import open_tokenizer
from tests.support.checkpoints import recipe_in, write_checkpoint
from tests.support.tiny import tiny_overrides
from trainer.assemble import build_evaluator
from trainer.evaluation.predictions import read_predictions
from trainer.ranks import Ranks
from trainer.recipe import Recipe, load_recipe
from trainer.trained import trained_network

ALONE = Ranks(rank=0, local_rank=0, world_size=1)

#: Of the objective and fusion that they change, recipes have their own.
_OWN = ("objective.alpha_steps", "objective.label_smoothing", "network.text.max_position_embeddings")


def rc3_recipe(name: str, run: Path, corpus: Corpus, *words: str) -> Recipe:
    """A recipe of RC³ for the tiny corpus."""
    tiny = [word for word in tiny_overrides(corpus.directory, run) if not word.startswith(_OWN)]
    return load_recipe(name, [*tiny, "network.text.max_position_embeddings=", *words])


@pytest.fixture(scope="module")
def pretrained(tiny_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = ("evaluation.task=summarization", "evaluation.directions=all")
    recipe = rc3_recipe("rc3_roi", tmp_path_factory.mktemp("tasks") / "rc3", tiny_corpus, *words)
    write_checkpoint(recipe, tiny_corpus)
    (recipe.run / "recipe.yaml").write_text(recipe.dump())
    return recipe.run


def report_in(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "test.json").read_text(encoding="utf-8")))


def test_evaluations_of_all_tasks_lie_side_by_side(
    pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(pretrained, tmp_path / "run"))
    for words in ([], ["--task", "translation"], ["--task", "retrieval", "evaluation.candidates=4"]):
        assert main(["evaluate", str(run), *words]) == 0
    places = sorted(path.parent.relative_to(run / "evaluation") for path in run.rglob("test.json"))
    assert list(map(str, places)) == [".", "task-retrieval--candidates-4", "task-translation"]
    summaries, retrieval, translation = (report_in(run / "evaluation" / place) for place in places)
    assert not {"task", "candidates"} & summaries["settings"].keys(), "as earlier releases wrote them"
    assert "baselines" in summaries
    assert "chrf" not in summaries["by_kind"]["mxls"]

    assert translation["settings"]["task"] == "translation"
    assert not {"baselines", "against_lead", "alignment"} & translation.keys()
    assert {"chrf", "bleu", "rouge1"} <= translation["by_kind"]["mxls"].keys()
    assert translation["translation"]["mxls"]["by_target"].keys() == translation["by_target"].keys()
    assert translation["nll"]["mxls"]["model"] != summaries["nll"]["mxls"]["model"], "it reads another text"
    assert (run / "evaluation" / "task-translation" / "test.html").is_file()

    output = capsys.readouterr().out
    assert "of each language's translations together (sacrebleu), the mean of 4 languages" in output
    found = retrieval["retrieval"]
    assert found["by_language"].keys() == {"english", "french", "hindi", "urdu"}
    assert all(2 <= of["candidates"] <= 4 for of in found["by_language"].values())
    assert found["means"].keys() == {"trained"}, "its mixture has every language"
    assert not (run / "evaluation" / places[1] / "test.html").exists()
    assert "recall@k in per cent" in output
    assert "trained on (4)" in output


def test_translations_are_compared_with_significance(
    pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [Path(shutil.copytree(pretrained, tmp_path / name)) for name in ("one", "other")]
    for run, beams in zip(runs, (1, 3), strict=True):
        words = ["--task", "translation", "--directions", "mxls", f"evaluation.num_beams={beams}"]
        assert main(["evaluate", str(run), *words]) == 0
    capsys.readouterr()
    assert main(["compare", *map(str, runs), "--measure", "chrf", "--measure", "bleu", "--samples", "100"]) == 0
    output = capsys.readouterr().out
    assert "chrF" in output
    assert "paired bootstrap over stories" in " ".join(output.split())
    rows = read_predictions(runs[0], "test")
    assert all(0 <= (row.scores["chrf"] or 0) <= 100 for row in rows)


def test_summarize_has_a_name_translated(
    pretrained: Path, tiny_corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The text is read as a name, as in training: it is written as in an evaluation of the same example."""
    words = [f"references.pretrained.model={pretrained}", "evaluation.directions=en-fr"]
    recipe = rc3_recipe("rc3_translation", tmp_path / "run", tiny_corpus, *words)
    checkpoint, _ = write_checkpoint(recipe, tiny_corpus)
    blind = tmp_path / "name.txt"
    reader = Reader(tiny_corpus)
    evaluator = build_evaluator(recipe, tiny_corpus, open_tokenizer(tiny_corpus.tokenizer), ALONE, torch.device("cpu"))
    with contextlib.closing(reader), contextlib.closing(evaluator.reader):
        groups = evaluator.choose("test")
        batch = evaluator.collator(())(groups)
        network = trained_network(recipe, evaluator.tokenizer, checkpoint)
        batch = dataclasses.replace(batch, image_mask_BI=torch.zeros_like(batch.image_mask_BI))
        decoding = recipe.evaluation.decoding(recipe.lengths.summary)
        written = network.generate(batch, decoding, reads="source_summary").tolist()
        for row, source in enumerate(groups.source[:, 0].tolist()):
            blind.write_text(reader.article(source).summary)
            capsys.readouterr()
            assert main(["summarize", str(checkpoint), "--from", "en", "--to", "fr", str(blind)]) == 0
            assert capsys.readouterr().out.strip() == one_line(evaluator.tokenizer.decode(written[row])).strip()
    assert main(["summarize", str(checkpoint), "--to", "fr", str(blind)]) == 2
    assert "reads a text behind its language's code: say --from LANGUAGE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--task", "retrieval", "--directions", "mxls"], "leaves no two of test: set it to mms, or to pairs like"),
        (["--task", "translation", "--perturb", "text"], "--perturb changes documents and images of summaries"),
        (["--task", "retrieval", "evaluation.task=translation"], "--task retrieval and evaluation.task=translation"),
        (["--task", "retreival"], "retrieval"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(
    pretrained: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(["evaluate", str(pretrained), *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_retrieval_wants_an_objective_that_matches(
    pretrained: Path, tiny_corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A network of another objective has no head for it, and an export has none either."""
    checkpoint, _ = write_checkpoint(recipe_in(tmp_path / "d2tv", tiny_corpus), tiny_corpus)
    assert main(["evaluate", str(checkpoint), "--task", "retrieval"]) == 2
    message = "evaluation.task=retrieval wants a network of the objective rc3 or retrieval, and this one is of d2tv"
    assert message in capsys.readouterr().err
    assert main(["export", str(pretrained), str(tmp_path / "model")]) == 0
    assert main(["evaluate", str(tmp_path / "model"), "--task", "retrieval", "--directions", "mms"]) == 2
    assert f"scores by the objective's head, which {tmp_path / 'model'} has not" in capsys.readouterr().err


def test_a_recipe_of_retrieval_is_refused_what_it_cannot_have(tiny_corpus: Corpus, tmp_path: Path) -> None:
    for word, message in (
        ("checkpoint.keep_best=mms", "objective retrieval trains no writing: set it to null"),
        ("network.fusion.kind=late", "objective retrieval reads images and text with one encoder: set network.fusion"),
        ("references.pretrained.model=", "references.pretrained.model"),
    ):
        with pytest.raises(InputError, match=message):
            rc3_recipe("rc3_retrieval", tmp_path / "run", tiny_corpus, word)


def test_late_fusion_translates_too(tiny_corpus: Corpus, tmp_path: Path) -> None:
    checkpoint, _ = write_checkpoint(recipe_in(tmp_path / "d2tv", tiny_corpus, "evaluation.num_beams=1"), tiny_corpus)
    assert main(["evaluate", str(checkpoint), "--task", "translation", "--directions", "en-fr"]) == 0
    [path] = (tmp_path / "d2tv").rglob("test.json")
    assert json.loads(path.read_text())["translation"]["mxls"]["by_target"].keys() == {"french"}
