"""Predictions of any system from JSONL: scored, compared with runs and baselines, and refused line by line."""

import json
from pathlib import Path
from typing import Any

import pytest

from launcher.cli import main
from shards.batch.reader import Reader, ReaderConfig
from shards.format.index import Corpus
from tests.support.checkpoints import recipe_in, write_checkpoint
from tests.support.pages import Page, says_nothing_to_the_console
from trainer.evaluation.predictions import read_predictions


@pytest.fixture(scope="module")
def run(tiny_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluated run."""
    recipe = recipe_in(tmp_path_factory.mktemp("foreign") / "run", tiny_corpus, "evaluation.num_beams=1")
    write_checkpoint(recipe, tiny_corpus)
    assert main(["evaluate", str(recipe.run)]) == 0
    return recipe.run


def lines_of(corpus: Corpus, run: Path) -> list[dict[str, Any]]:
    """The references of the run's examples as a system's predictions, by story and by URL in turn."""
    keys, reader = corpus.story_keys(), Reader(corpus, ReaderConfig(io_threads=0))
    row_of = {
        (keys[story], corpus.languages[language]): row
        for row, (story, language) in enumerate(
            zip(corpus.articles["story"].tolist(), corpus.articles["language"].tolist(), strict=True)
        )
    }
    found = []
    for number, row in enumerate(read_predictions(run, "test")):
        side = row.source if number % 4 == 1 else row.target
        of = {"url": reader.article(row_of[row.story, side]).url} if number % 2 else {"story": row.story}
        found.append({**of, "source": row.source, "target": row.target[:2], "prediction": row.reference, "by": "gpt"})
    return found


def write(path: Path, lines: list[Any]) -> Path:
    path.write_text(
        "".join((line if isinstance(line, str) else json.dumps(line, ensure_ascii=False)) + "\n" for line in lines),
        encoding="utf-8",
    )
    return path


def test_a_file_stands_in_one_table_with_runs_and_baselines(
    run: Path, tiny_corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = lines_of(tiny_corpus, run)
    file = write(tmp_path / "preds.jsonl", [*lines[:-2], "", {**lines[0], "story": "no such story", "url": None}])
    capsys.readouterr()
    words = ["compare", "lead", f"gpt={file}", str(run), "oracle", "nearest", "--format", "markdown"]
    assert main([*words, "--measure", "rouge1", "--measure", "rougeL", "--samples", "200"]) == 0
    head, _, *rows, _, note = capsys.readouterr().out.splitlines()
    assert [cell.strip() for cell in head.strip("|").split("|")][:7] == [
        "kind", "examples", "R-1 lead", "R-1 gpt", "R-1 run", "R-1 oracle", "R-1 nearest"
    ]  # fmt: skip
    mms = next(row for row in rows if row.startswith("| MMS"))
    cells = [cell.strip().replace("\\", "") for cell in mms.strip("|").split("|")]
    assert cells[3].startswith("100.00")
    assert cells[4].endswith("↓")  # an untrained network
    assert not cells[2].endswith("↓")
    assert f"{len(lines) - 2} examples of test" in note
    assert "2 examples are not in all of them" in note
    assert "↓ below LEAD" in note
    assert "gpt: 1 lines of no story of the split" in note
    assert "lead: k = " in note


def test_baselines_of_files_alone_are_computed_as_those_that_are_kept(
    run: Path, tiny_corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "preds.jsonl", lines_of(tiny_corpus, run))
    tables = []
    for beside in ([str(run)], ["--corpus", str(tiny_corpus.directory)]):
        capsys.readouterr()
        words = ["compare", "nearest", "lead", "oracle", str(file), *beside]
        assert main([*words, "--format", "markdown", "--measure", "rouge1", "--by", "direction"]) == 0
        _, _, *rows, _, _ = capsys.readouterr().out.splitlines()
        tables.append([[cell.split("\\")[0] for cell in row.split("|")[1:7]] for row in rows])
    assert tables[0] == tables[1]
    assert main(["compare", "lead", str(file)]) == 2
    assert "name the corpus that the predictions are of by --corpus DIR" in capsys.readouterr().err
    assert main(["compare", "lead", "oracle", "--corpus", str(tiny_corpus.directory)]) == 2
    assert "name a run or a file of predictions beside the baselines" in capsys.readouterr().err


def test_a_directory_called_lead_is_named_by_its_path(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lead").symlink_to(run)
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert main(["compare", "baseline=lead", "./lead", "--format", "markdown", "--measure", "rouge1"]) == 0
    assert "R-1 baseline" in capsys.readouterr().out
    assert main(["compare", f"x=lead,{run}", str(run)]) == 2
    assert "lead is a baseline, not a run (a directory of that name is ./lead)" in capsys.readouterr().err


def test_a_file_is_evaluated_like_a_run(
    run: Path, tiny_corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = lines_of(tiny_corpus, run)
    lines[3]["prediction"] = " "
    file = write(tmp_path / "gpt.jsonl", [*lines, lines[0]])
    corpus = str(tiny_corpus.directory)
    assert main(["evaluate", str(file), "--corpus", corpus]) == 0
    told = capsys.readouterr().out
    assert "1 lines said again" in told
    assert "1 predictions empty (scored as such)" in told
    assert "examples of its directions without a line" in told
    assert "nearest story" in told
    report = json.loads((tmp_path / "gpt" / "evaluation" / "test.json").read_text())
    assert report["system"]["lines"] == {
        "lines": len(lines) + 1,
        "repeated": 1,
        "empty": 1,
        "missing": report["system"]["lines"]["missing"],
    }
    assert report["examples"] == len(lines)
    page = Page(tmp_path / "gpt" / "evaluation" / "test.html")
    page.loads_nothing()
    assert "Baselines" in [heading.content for heading in page.all("h2")]
    says_nothing_to_the_console(tmp_path / "gpt" / "evaluation" / "test.html")
    assert main(["compare", "lead", str(tmp_path / "gpt"), str(run), "--samples", "100"]) == 0
    # Directions may be chosen, and those that are not are counted.
    assert main(["evaluate", str(file), "--directions", "mms", f"corpus.path={corpus}"]) == 0
    assert "lines of a direction that is not asked for" in capsys.readouterr().out


def test_a_story_without_images_is_counted(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = json.loads((run / "evaluation" / "test.json").read_text())
    assert sum(report["without_images"].values()) > 0
    assert f"{sum(report['without_images'].values())} of {report['examples']} examples had no image" in (
        (run / "evaluation" / "test.html").read_text()
    )


GOOD = {"story": "{story}", "source": "english", "target": "en", "prediction": "x"}


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        (["{"], "line 1 is not JSON"),
        ([GOOD, "[]"], "line 2 is not a JSON object"),
        ([{**GOOD, "prediction": None}], 'line 1 has no "prediction" that is a text'),
        ([{"source": "en", "target": "en", "prediction": "x"}], 'line 1 has no "story" or "url" that is a text'),
        ([{**GOOD, "target": "englsh"}], "line 1: unknown language 'englsh' (did you mean 'english'?)"),
        ([GOOD, {**GOOD, "prediction": "y"}], "line 2: line 1 has another prediction of the same example"),
        ([{**GOOD, "prediction": "\ud800"}], "line 1 holds half a surrogate pair"),
        ([""], "holds no line"),
        ([{**GOOD, "story": "else"}], "none of its 1 lines is an example of test"),
        ([{**GOOD, "target": "yoruba"}], "1 of a direction that the story does not have"),
        ([{**GOOD, "story": "{train}"}], "1 of a story of another split"),
    ],
)
def test_what_is_no_prediction_is_one_line(
    run: Path,
    tiny_corpus: Corpus,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    lines: list[Any],
    error: str,
) -> None:
    story = next(row.story for row in read_predictions(run, "test") if row.source == row.target == "english")
    keys = tiny_corpus.story_keys()
    trained = keys[int(tiny_corpus.articles["story"][tiny_corpus.edges["train"][0, 0]])]
    written = [
        line if isinstance(line, str) else json.dumps(line).replace("{story}", story).replace("{train}", trained)
        for line in lines
    ]
    file = write(tmp_path / "preds.jsonl", written)
    for words in (["evaluate", str(file), "--corpus", str(tiny_corpus.directory)], ["compare", str(run), str(file)]):
        capsys.readouterr()
        assert main(words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert error in line
        assert "preds.jsonl" in line


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ([], "does not say what it is of: name the corpus by --corpus DIR"),
        (["--corpus", "{corpus}", "--perturb", "sources"], "there is no model to perturb the input of"),
        (["--corpus", "{corpus}", "training.steps=3"], "training.steps: predictions in a file are scored, not decoded"),
        (["--corpus", "{corpus}", "corpus.path=elsewhere"], "give one of them"),
        (["--corpus", "/nowhere"], "/nowhere"),
    ],
)
def test_what_cannot_be_evaluated_of_a_file_is_one_line(
    tiny_corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], error: str
) -> None:
    file = write(tmp_path / "preds.jsonl", [GOOD])
    assert main(["evaluate", str(file), *(word.format(corpus=tiny_corpus.directory) for word in words)]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert error in line


def test_scores_never_go_into_a_run_of_the_same_name(
    run: Path, tiny_corpus: Corpus, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(run.with_suffix(".jsonl"), [GOOD])
    assert main(["evaluate", str(file), "--corpus", str(tiny_corpus.directory)]) == 2
    assert "is something else: rename it" in capsys.readouterr().err
    assert main(["evaluate", str(run), "--corpus", str(tiny_corpus.directory)]) == 2
    assert "--corpus is for a file of predictions" in capsys.readouterr().err
