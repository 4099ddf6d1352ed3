"""`d2tv compare`: runs side by side in every form, and what cannot be compared."""

import random
from pathlib import Path

import pytest

from launcher.cli import main
from tests.pages import Page, says_nothing_to_the_console
from trainer.evaluation.predictions import Prediction, predictions_path, write_predictions

LANGUAGES = ("english", "urdu")


def write_run(folder: Path, gain: float, *, seed: int = 0, stories: int = 60, skip: int = 0, **others: float) -> Path:
    """An evaluated run whose cross-lingual scores are better by `gain`; monolingual ones are as good."""
    draw, rows = random.Random(seed), list[Prediction]()
    for story in range(skip, stories):
        base = random.Random(story).uniform(10, 40)
        for source in LANGUAGES:
            for target in LANGUAGES:
                score = base + draw.gauss(0, 1) + (gain if source != target else 0)
                scores = {"rouge1": score, "rouge2": score / 2, "rougeL": score - 1}
                rows.append(
                    Prediction(
                        number=len(rows),
                        story=f"s{story}",
                        source=source,
                        target=target,
                        prediction="x",
                        reference="y",
                        language=None,
                        scores=scores | others,
                    )
                )
    (folder / "evaluation").mkdir(parents=True)
    write_predictions(folder, "test", rows, list(rows[0].scores))
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    return [write_run(tmp_path / "base", 0.0), write_run(tmp_path / "better_", 2.0, seed=1)]


def out(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    assert main(["compare", *map(str, words)]) == 0
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    assert main(["compare", *map(str, words)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_markdown_marks_what_is_no_chance(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    head, _, everything, mms, mxls, empty, note = out(capsys, *runs, "--format", "markdown").splitlines()
    names = [cell.strip() for cell in head.strip("|").split("|")]
    assert names == ["kind", "examples", *(f"{m} {run}" for m in ("R-1", "R-2", "R-L") for run in ("base", "better_"))]
    assert [row.split("|")[1].strip() for row in (everything, mms, mxls)] == ["MMS", "MXLS", "all"]
    cells = [cell.strip() for cell in mms.strip("|").split("|")]
    assert cells[1] == "120"
    assert float(cells[3].rstrip("\\*")) - float(cells[2]) == pytest.approx(2.0, abs=0.5)
    assert cells[3].endswith(r"\*\*")
    assert "*" not in everything  # MMS is as good in both
    assert empty == ""
    assert "240 examples of test, 60 stories" in note
    assert note.endswith("10,000 samples, seed 0, corrected for 9 tests (Holm)")


def test_every_form_has_the_same_numbers(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    words = [*runs, "--by", "direction", "--measure", "rougeL", "--samples", "200"]
    markdown = out(capsys, *words, "--format", "markdown")
    number = next(line for line in markdown.splitlines() if "english>urdu" in line).split("|")[4].strip(" *\\")
    assert number in out(capsys, *words)
    latex = out(capsys, *words, "--format", "latex")
    assert number in latex
    assert r"english$\rightarrow$urdu" in latex
    assert r"R-L better\_" in latex
    assert latex.count(r"\\") == 1 + 5  # the heading, four directions, all
    out(capsys, *words, "--format", "latex", "--out", tmp_path / "table.tex")
    assert (tmp_path / "table.tex").read_text() == latex
    out(capsys, *words, "--format", "html", "--out", tmp_path / "page.html")
    page = Page(tmp_path / "page.html")
    page.loads_nothing()
    assert any(cell.content.startswith(number) for cell in page.all("td"))
    says_nothing_to_the_console(tmp_path / "page.html")


def test_too_few_samples_for_so_many_tests_are_told_of(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    """Else a person would read the missing marks as: no difference."""
    text = out(capsys, *runs, "--by", "direction", "--samples", "200", "--format", "markdown")
    *rows, _, note = text.splitlines()
    assert not any("*" in row for row in rows)
    assert "so few samples can mark none of so many tests: --samples 1000" in note


def test_only_what_all_have_is_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [write_run(tmp_path / "a" / "run", 0.0), write_run(tmp_path / "b" / "run", 0.0, seed=1, skip=20)]
    text = out(capsys, *runs, "--format", "markdown")
    assert "160 examples of test, 40 stories (80 examples are not in all of them and left out)" in text
    assert f"R-1 {runs[1]}" in text  # of one name: by their paths


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["{0}"], "name at least two runs"),
        (["{0}", "nowhere"], "nowhere has no evaluation of test"),
        (["{0}", "{1}", "--split", "validation"], "has no evaluation of validation"),
        (["{0}", "{1}", "--measure", "rougel"], "has no rougel (did you mean 'rougeL'?)"),
        (["{0}", "{1}", "--samples", "5"], "--samples 5: at least 100"),
        (["{0}", "{1}", "--format", "html"], "--format html wants --out FILE"),
        (["{0}", "{1}", "--format", "latex", "--out", "/proc/none/x"], "/proc/none/x cannot be written"),
        (["{0}", "{2}"], "have no example of test in common"),
        (["{0}", "{3}"], "test-predictions.parquet cannot be read"),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], error: str
) -> None:
    others = write_run(tmp_path / "others", 0.0, stories=90, skip=70)
    broken = write_run(tmp_path / "broken", 0.0)
    path = predictions_path(broken, "test")
    path.write_bytes(path.read_bytes()[:-20])
    assert error in refused(capsys, *(word.format(*runs, others, broken) for word in words))
