"""Test `d2tv compare`: runs side by side in every form, and refusals."""

import random
import re
from pathlib import Path

import pytest

from launcher.cli import main
from tests.support.pages import Page, says_nothing_to_the_console
from trainer.evaluation.predictions import Prediction, predictions_path, read_predictions, write_predictions

LANGUAGES = ("english", "urdu")


def write_run(
    folder: Path,
    gain: float,
    *,
    seed: int = 0,
    stories: int = 60,
    skip: int = 0,
    profile: str | None = None,
    unscored: str = "",
    corpus: str = "",
    **others: float,
) -> Path:
    """An evaluated run whose cross-lingual scores are better by `gain`; monolingual ones are as good.

    profile: of its ROUGE, None as of a release that did not say it. unscored: a story without ROUGE.  corpus: what its
    references are.
    """
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
                        reference=f"y {corpus}",
                        language=None,
                        scores={} if f"s{story}" == unscored else scores | others,
                    )
                )
    (folder / "evaluation").mkdir(parents=True)
    facts = None if profile is None else {"settings": {"rouge": profile}, "corpus": f"{folder.name} {corpus}"}
    write_predictions(folder, "test", rows, list(rows[0].scores), facts)
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


def test_no_number_is_cut_where_the_output_is_no_terminal(
    runs: list[Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    words = [*runs, "--by", "blocks", "--measure", "rouge1", "--measure", "rougeL"]
    shown = out(capsys, *words)
    markdown = out(capsys, *words, "--format", "markdown")
    numbers = re.findall(r"\d+\.\d\d / \d+\.\d\d", re.sub(r"[*\\]", "", markdown.split("R-1")[0]))
    assert len(numbers) > 6
    assert all(number in shown.replace("*", "") for number in numbers)


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


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_blocks_are_laid_out_as_in_the_papers_table(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    words = [*runs, "--by", "blocks", "--languages", "ur,en", "--measure", "rouge1", "--measure", "rougeL"]
    lines = out(capsys, *words, "--format", "markdown").splitlines()
    head, _, *rows, empty, note = map(cells, lines)
    assert head == ["source", "model", "urdu", "english", "Avg."]  # in the order in which they were asked for
    assert [row[:2] for row in rows] == [
        ["urdu →", "base"], ["", "better_"], ["english →", "base"], ["", "better_"], ["Avg.", "base"], ["", "better_"]
    ]  # fmt: skip
    assert note[0].startswith("R-1 / R-L; 240 examples of test, 60 stories; ROUGE as unicode; \\* p < 0.05")
    assert "corrected for 18 tests" in note[0]
    assert empty == [""]
    # Cross-lingual scores are better by 2, and so bold and marked; monolingual ones are as good.
    for row, other in ((rows[1], 3), (rows[3], 2)):
        own = 5 - other
        assert row[other].count(r"\*\*") == 2
        assert r"\*" not in row[own]
    # The average of a block is that of its directions.
    means = [float(part.strip("*\\")) for part in (cell.split(" / ")[0] for cell in rows[0][2:])]
    assert means[2] == pytest.approx((means[0] + means[1]) / 2, abs=0.006)


def test_a_directions_weight_in_an_average_is_not_its_number_of_examples(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A language with few examples counts as much as another, as in the paper's Avg."""
    runs = []
    for number in (0, 1):
        run = write_run(tmp_path / f"r{number}", 0.0, seed=number)
        rows = [
            row
            for row in read_predictions(run, "test")
            if (row.source, row.target) != ("english", "urdu") or row.story < "s2"
        ]
        write_predictions(run, "test", rows, list(rows[0].scores))
        runs.append(run)
    text = out(capsys, *runs, "--by", "blocks", "--measure", "rouge1", "--format", "markdown")
    row = cells(text.splitlines()[2])
    english, urdu, average = (float(cell.strip("*")) for cell in row[2:])
    assert abs(english - urdu) > 0.05
    assert average == pytest.approx((english + urdu) / 2, abs=0.006)


def test_seeds_of_a_model_are_compared_as_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = [write_run(tmp_path / f"a{seed}", 0.0, seed=seed) for seed in (0, 1)]
    b = [write_run(tmp_path / f"b{seed}", 3.0 * seed, seed=seed + 2) for seed in (0, 1)]
    words = [f"A={a[0]},{a[1]}", f"B={b[0]},{b[1]}", "--measure", "rouge1", "--format", "markdown", "--baseline", "B"]
    head, _, _, mxls, _, _, note = out(capsys, *words).splitlines()
    assert cells(head) == ["kind", "examples", "R-1 A", "R-1 B"]
    a_mean, b_mean = (float(cell.strip("\\*")) for cell in cells(mxls)[2:])
    assert b_mean - a_mean == pytest.approx(1.5, abs=0.4)
    assert cells(mxls)[2].endswith(r"\*\*")  # A is what is tested now
    assert "against B" in note


def test_the_best_of_a_measure_may_be_the_lowest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few, many = (write_run(tmp_path / name, 0.0, wrong_language=rate) for name, rate in (("few", 1.0), ("many", 90.0)))
    text = out(capsys, many, few, "--by", "blocks", "--measure", "wrong_language", "--format", "markdown")
    assert "**1.00**" in text
    assert "**90.00**" not in text


def test_one_run_alone_has_blocks(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    lines = out(capsys, runs[0], "--by", "blocks", "--languages", "en,en", "--format", "markdown").splitlines()
    assert cells(lines[0]) == ["source", "model", "english", "Avg."]
    assert "**" not in "".join(lines)
    assert "bootstrap" not in lines[-1]


def test_blocks_in_every_form(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    words = [*runs, "--by", "blocks", "--samples", "1000"]
    number = cells(out(capsys, *words, "--format", "markdown").splitlines()[2])[4].split(" / ")[0].strip("*")
    assert number in out(capsys, *words)
    latex = out(capsys, *words, "--format", "latex")
    assert number in latex
    assert latex.count(r"\midrule") == 3
    assert r"english $\rightarrow$ & base" in latex
    assert r"\textbf{" in latex
    out(capsys, *words, "--format", "html", "--out", tmp_path / "page.html")
    page = Page(tmp_path / "page.html")
    page.loads_nothing()
    assert len(page.all("tr")) == 1 + 6
    assert page.all("b")
    says_nothing_to_the_console(tmp_path / "page.html")


def test_two_profiles_of_rouge_are_not_mixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = {"old": None, "one": "xlsum", "two": "xlsum", "norm": "normalized"}
    old, one, two, norm = (
        write_run(tmp_path / name, 0.0, profile=profile, bertscore=70.0) for name, profile in names.items()
    )
    assert "ROUGE as xlsum" in out(capsys, one, two, "--format", "markdown")
    assert "ROUGE as unicode" in out(capsys, old, f"same={old}", "--format", "markdown")
    assert refused(capsys, one, norm) == (
        f"error: {norm} was scored by ROUGE's profile normalized, {one} by xlsum, and the two do not compare: "
        f"d2tv evaluate {norm} --split test evaluation.rouge=xlsum\n"
    )
    error = refused(capsys, old, two)
    assert f"{old} was scored by ROUGE's profile unicode (an earlier release's), {two} by xlsum" in error
    assert f"d2tv evaluate {old} --split test evaluation.rouge=xlsum" in error
    assert "xlsum" in refused(capsys, f"seeds={one},{old}", two), "the seeds of a model, too"
    assert "xlsum" in refused(capsys, one, norm, "--measure", "novelty1"), "its words are counted by the profile"
    shown = out(capsys, one, norm, "--measure", "bertscore", "--format", "markdown")
    assert "70.00" in shown
    assert "ROUGE" not in shown


def test_evaluations_of_other_references_are_not_mixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An augmented corpus has another hash, and the same references."""
    first, augmented = (write_run(tmp_path / name, 0.0, profile="xlsum") for name in ("first", "augmented"))
    other = write_run(tmp_path / "other", 0.0, profile="xlsum", corpus="other")
    assert "240 examples" in out(capsys, first, augmented, "--samples", "200")
    said = refused(capsys, first, augmented, other)
    assert (
        f"{other} was evaluated on another corpus than {first}: the summary of s0 in english is another there" in said
    )


def test_a_measure_that_is_named_twice_counts_once(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    words = [*runs, "--samples", "1000", "--measure", "rouge1"]
    assert out(capsys, *words) == out(capsys, *words, "--measure", "rouge1", "--measure", "rouge1")


def test_what_is_read_is_not_replaced(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    table = predictions_path(runs[1], "test")
    before = table.read_bytes()
    said = refused(capsys, *runs, "--out", table, "--format", "markdown")
    assert f"error: {table} is part of what this command reads: name another file" in said
    assert table.read_bytes() == before
    out(capsys, *runs, "--samples", "200", "--out", runs[0] / "table.md", "--format", "markdown")
    out(capsys, *runs, "--samples", "200", "--out", runs[0] / "table.md", "--format", "markdown")


def test_examples_without_rouge_are_counted_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = write_run(tmp_path / "whole", 0.0, profile="xlsum")
    part = write_run(tmp_path / "part", 0.0, profile="xlsum", unscored="s7")
    shown = out(capsys, whole, part, "--format", "markdown")
    assert "236 examples of test, 59 stories" in shown
    assert "4 examples have no ROUGE" in shown


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["{0}"], "name at least two runs"),
        (["{0}", "{1}", "--baseline", "bas"], "--baseline bas: no such run (did you mean 'base'?)"),
        (["{0}", "x={1},", "x={1}"], "two have one name"),
        (["{0}", "{1}", "--languages", ""], "--languages names none"),
        (["{0}", "{1}", "--seed", "-1"], "--seed -1: at least 0"),
        (["{0}", "={1}"], "name runs as RUN, or as NAME=RUN,RUN,..."),
        (["{0}", "{1}", "--languages", "en,ru"], "russian"),
        (["{0}", "{1}", "--languages", "en,englsh"], "englsh"),
        (["{0}", "nowhere"], "nowhere has no evaluation of test"),
        (["{0}", "{1}", "--split", "validation"], "has no evaluation of validation"),
        (["{0}", "{1}", "--measure", "rougel"], "has no rougel (did you mean 'rougeL'?)"),
        (["{0}", "{1}", "--samples", "5"], "--samples 5: at least 100"),
        (["{0}", "{1}", "--samples", "99999999999"], "--samples 99999999999: at most 10,000,000"),
        (["{0}", "{0}/evaluation/test-predictions.parquet"], "parquet is a file and no run: predictions of another"),
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
