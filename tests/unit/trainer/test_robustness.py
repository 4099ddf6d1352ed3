"""Perturb examples by `d2tv evaluate --perturb`: scores beside the clean ones, MMI, a table and a page."""

import json
import re
from pathlib import Path
from statistics import fmean
from typing import Any

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from launcher.cli import main
from launcher.robustness import robustness_table, show_robustness
from shards.errors import InputError
from shards.format.index import Corpus
from tests.support.checkpoints import recipe_in, write_checkpoint
from tests.support.pages import Page, says_nothing_to_the_console
from trainer import standalone
from trainer.evaluation.decoding import Predictions
from trainer.evaluation.predictions import read_predictions
from trainer.evaluation.robustness.impact import impact, mean_impacts
from trainer.evaluation.robustness.kinds import KINDS, parse_kinds
from trainer.evaluation.robustness.plan import parse_wanted


def test_mmi_by_hand() -> None:
    assert impact(20.0, 15.0) == 0.25
    assert impact(20.0, 25.0) == -0.25
    assert impact(20.0, 0.0) == 1.0
    assert impact(0.0, 0.0) is None
    assert impact(0.0, 3.0) is None
    assert mean_impacts([{"a": 0.5, "b": None}, {"a": 0.1, "b": None}]) == {"a": pytest.approx(0.3), "b": None}


def test_what_is_meant_by_a_list() -> None:
    def names(text: str) -> list[str]:
        return [kind.name for kind in parse_kinds(text)[0]]

    assert names("all") == list(KINDS)
    assert set(names("text")) | set(names("vision")) == set(KINDS)
    assert not set(names("text")) & set(names("vision"))
    assert names("no_images, sentence,keyboard") == ["keyboard", "sentence_shuffle", "sentence_drop", "no_images"]
    assert parse_kinds("word,ocr")[1] == {"ocr"}
    assert parse_wanted("word", "5,1,5").severities == (1, 5)
    with pytest.raises(InputError, match=r"--perturb 'keybord' is no perturbation \(did you mean 'keyboard'\?\): all"):
        parse_kinds("text,keybord")
    for wrong in ("0", "6", "", "1,,2", "1-3", "²"):
        with pytest.raises(InputError, match="give numbers from 1 to 5"):
            parse_wanted("text", wrong)


@pytest.fixture(scope="module")
def run(tiny_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a checkpoint."""
    recipe = recipe_in(tmp_path_factory.mktemp("robust") / "run", tiny_corpus, "evaluation.num_beams=1")
    write_checkpoint(recipe, tiny_corpus)
    return recipe.run


class KilledError(Exception):
    pass


def report_of(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "evaluation" / "test-robustness.json").read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def decoded(run: Path) -> list[str]:
    """Of which perturbation each batch was that a command decoded, which was killed, and the same command again."""
    arguments = ["evaluate", str(run), "--perturb", "char_replace,wrong_images", "--severities", "2,5"]
    batches: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        original = Predictions.add

        def add(self: Predictions, *arguments: Any) -> None:
            """Kills the process where a third part of the perturbations begins."""
            name = self._directory.name
            batches.append(name)
            if "killed" not in batches and name == "wrong_images-2":
                batches.append("killed")
                raise KilledError
            original(self, *arguments)

        patch.setattr(Predictions, "add", add)
        with pytest.raises(KilledError):
            main(arguments)
        assert not (run / "evaluation" / "test-robustness.json").exists()
        patch.setattr(standalone, "run_task", lambda *_: pytest.fail("the clean evaluation was there"))
        assert main(arguments) == 0
    return batches


def test_killed_and_started_again_it_goes_on(decoded: list[str], run: Path) -> None:
    first, again = decoded[: decoded.index("killed")], decoded[decoded.index("killed") + 1 :]
    assert {name for name in first if name != "test-parts"} == {"char_replace-2", "char_replace-5", "wrong_images-2"}
    assert set(again) == {"wrong_images-2", "wrong_images-5"}
    assert not (run / "evaluation" / "test-robustness-parts").exists()


def test_scores_are_of_the_same_examples(decoded: list[str], run: Path) -> None:
    report, rows = report_of(run), pq.read_table(run / "evaluation" / "test-robustness.parquet").to_pylist()
    clean = {row.number: row for row in read_predictions(run, "test")}
    assert report["severities"] == [2, 5]
    assert set(report["kinds"]) == {"char_replace", "wrong_images"}
    for name, kind in report["kinds"].items():
        assert kind["examples"] + kind["passed_over"] == len(clean)
        assert kind["examples"] == len(clean) if name == "char_replace" else 0 < kind["examples"] < len(clean)
        for severity, of in kind["severities"].items():
            changed = {r["number"]: r for r in rows if (r["kind"], r["severity"]) == (name, int(severity))}
            assert of["changed"] == len(changed) / kind["examples"]
            for measure in ("rouge1", "rougeL"):
                # Of the examples that it applies to, those that it left as they were have their clean score.
                total = sum(row[measure] for row in changed.values())
                if name == "char_replace":
                    total += sum(row.scores[measure] or 0 for n, row in clean.items() if n not in changed)
                    assert of["scores"][measure] == pytest.approx(total / kind["examples"])
                    assert kind["clean"][measure] == pytest.approx(
                        fmean(r.scores[measure] or 0 for r in clean.values())
                    )
                assert of["mmi"][measure] == impact(kind["clean"][measure], of["scores"][measure])
    assert report["kinds"]["wrong_images"]["severities"]["5"]["changed"] == 1


def files_of(where: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in where.iterdir() if path.is_file() and path.suffix != ".lock"}


def test_evaluations_of_something_else_stand_beside_each_other(tiny_corpus: Corpus, tmp_path: Path) -> None:
    """Neither a clean nor a perturbed one is overwritten by another, nor taken for it."""
    recipe = recipe_in(tmp_path / "run", tiny_corpus, "evaluation.num_beams=1", "evaluation.examples_per_kind=12")
    write_checkpoint(recipe, tiny_corpus)
    run, evaluation = str(recipe.run), recipe.run / "evaluation"
    assert main(["evaluate", run, "--directions", "hi-ur,*-hi"]) == 0
    other = files_of(evaluation)  # the first of any
    assert main(["evaluate", run]) == 0
    own, kept = files_of(evaluation), evaluation / "directions-hi-ur+any-hi"
    assert files_of(kept) == other
    tables = {f"test-{name}.parquet" for name in ("predictions", "lead", "oracle", "nearest")}
    assert set(own) == set(other) == {"test.json", "test.html", *tables}
    assert not set(own.values()) & set(other.values())
    for words in (
        ["--perturb", "char_replace", "--severities", "2", "mixture.languages=[en, fr]"],
        ["--perturb", "char_swap", "--severities", "2", "mixture.languages=[en, fr]"],
    ):
        assert main(["evaluate", run, *words]) == 0
    of_two = evaluation / "languages-en+fr"
    assert {row.source for row in read_predictions(of_two, "test")} == {"english", "french"}
    first = json.loads((of_two / "perturbed-char_replace--severities-2" / "test-robustness.json").read_text())
    assert list(first["kinds"]) == ["char_replace"]
    assert first["kinds"]["char_replace"]["languages"] == ["english", "french"]
    assert list(json.loads((of_two / "test-robustness.json").read_text())["kinds"]) == ["char_swap"]
    assert (files_of(evaluation), files_of(kept)) == (own, other)
    # The next checkpoint's takes the run's own place, and what lay there is called by its step.
    write_checkpoint(recipe, tiny_corpus, step=8)
    assert main(["evaluate", run]) == 0
    assert json.loads((evaluation / "test.json").read_text())["step"] == 8
    (earlier,) = evaluation.glob("step-*")
    assert files_of(earlier) == own
    assert main(["compare", run, str(earlier), str(kept), "--samples", "100"]) == 0


def test_a_table_and_a_page(
    decoded: list[str], run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    report = report_of(run)
    entry = report["kinds"]["char_replace"]
    entry["clean"]["rougeL"], entry["mean_mmi"]["rougeL"] = 0.0, None
    entry["sample"]["after"] = "<script>alert(1)</script> שלום"
    report["left_out"] = {"fog": "it keeps no pixels", "snow": "it keeps no pixels"}
    monkeypatch.setenv("COLUMNS", "80")
    show_robustness(run, report)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines[:-1])) <= 80
    (row,) = [line for line in lines if "char_replace" in line]
    assert row.split()[-1] == "–"
    path = run / "evaluation" / "test-robustness.html"
    page = Page(path)
    page.loads_nothing()
    assert [heading.content for heading in page.all("h1")] == ["Robustness of run, test"]
    assert len(page.all("figure")) == 2  # character, features
    assert any("severity 5: " in tip.content for tip in page.all("title"))
    assert "alert(1)" in "".join(cell.content for cell in page.all("td", dir="auto"))
    assert any("fog, snow: it keeps no pixels" in item.content for item in page.all("li"))
    says_nothing_to_the_console(path)


def test_ten_kinds_fit_80_columns(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    of = {"scores": {"rougeL": 99.99}}
    kind = {
        "examples": 1_707_068,
        "clean": {"rougeL": 99.99},
        "severities": {str(severity): of for severity in range(1, 6)},
        "mean_mmi": {"rougeL": -0.999},
    }
    report = {"step": 1_000_000, "severities": [1, 2, 3, 4, 5], "kinds": dict.fromkeys(KINDS, kind)}
    Console(highlight=False).print(robustness_table(report))
    lines = capsys.readouterr().out.splitlines()
    assert "…" not in "".join(lines)
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("kinds", "problem"),
    [
        ("fog", "--perturb fog: .* keeps features and no pixels: prepare it with `d2tv prepare SOURCE --pixels`"),
        ("pixels", "--perturb: no kind can be applied here; gaussian_noise: .* keeps features and no pixels"),
        ("nonsense", "'nonsense' is no perturbation"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_one_line(
    run: Path, capsys: pytest.CaptureFixture[str], kinds: str, problem: str
) -> None:
    assert main(["evaluate", str(run), "--perturb", kinds]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(problem, line)
