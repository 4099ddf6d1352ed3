"""Test the directions and the page of `d2tv evaluate`, of real evaluations and of strange texts."""

import dataclasses
import json
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from launcher.cli import main
from launcher.evaluation_page import build_page
from launcher.examples import choose
from launcher.pages.colours import linear_levels
from launcher.pages.evaluation import Example
from shards.format.index import Corpus
from shards.languages import LANGUAGE_CODES
from tests.support.checkpoints import recipe_in, write_checkpoint
from tests.support.pages import Page, says_nothing_to_the_console
from tests.support.runs import start, write_recipe, write_records
from trainer.evaluation.alignment import figures_of
from trainer.evaluation.averages import languages_found, summarise
from trainer.evaluation.predictions import Prediction, read_predictions
from trainer.evaluation.scoring.measures import MEASURES
from trainer.evaluation.scoring.rouge import ROUGE

SECTIONS = [
    "Scores",
    "By source and target",
    "By direction",
    "By language",
    "By training pairs",
    "In another language",
    "Examples",
]


def predictions(languages: tuple[str, ...], each: int, text: str = "words") -> list[Prediction]:
    """`each` stories in every direction; the last target's are half in the first one's language."""
    draw, rows = random.Random(5), list[Prediction]()
    for story in range(each):
        for source in languages:
            for target in languages:
                wrong = target == languages[-1] and story % 2 == 0
                scores: dict[str, float | None] = {name: draw.uniform(0, 60) for name in MEASURES}
                scores |= {"wrong_language": 100.0 * wrong, "bertscore": draw.uniform(60, 80)}
                rows.append(
                    Prediction(
                        number=len(rows),
                        story=f"s{story}",
                        source=source,
                        target=target,
                        prediction=text,
                        reference=text,
                        language=languages[0] if wrong else target,
                        scores=scores,
                    )
                )
    return rows


def report_of(rows: list[Prediction], train_pairs: dict[str, int]) -> dict[str, Any]:
    """As an evaluation writes it. train_pairs: by source language."""
    languages = sorted({side for row in rows for side in (row.source, row.target)})
    pairs = {(source, target): train_pairs.get(source, 2000) for source in languages for target in languages}
    nll = {kind: {"model": 3.0, "unigram": 6.0, "better_by": 0.5, "examples": 9} for kind in ("mms", "mxls")}
    return {
        "split": "test",
        "step": 2000,
        "checkpoint": "ab" * 32,
        "settings": {"directions": "all", "num_beams": 4, "length_penalty": 0.6},
        "examples": len(rows),
        "unreadable": 0,
        **summarise(rows, [*MEASURES, "bertscore"], pairs),
        "languages_found": languages_found(rows),
        "nll": nll,
    }


def section(page: Page, title: str) -> str:
    begin = page.source.index(f">{title}</h2>")
    end = page.source.find("<h2", begin)
    return page.source[begin : end if end > 0 else None]


@pytest.fixture(scope="module")
def evaluated(tiny_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that the command evaluated in the directions out of English and into Urdu."""
    recipe = recipe_in(tmp_path_factory.mktemp("evaluated") / "run", tiny_corpus)
    write_checkpoint(recipe, tiny_corpus)
    assert main(["evaluate", str(recipe.run), "--directions", "en-*,*-ur", "evaluation.num_beams=1"]) == 0
    return recipe.run


def test_the_command_writes_predictions_scores_and_a_page(evaluated: Path, tiny_corpus: Corpus) -> None:
    rows = read_predictions(evaluated, "test")
    report = json.loads((evaluated / "evaluation" / "test.json").read_text())
    assert report["settings"]["directions"] == "en-*,*-ur"
    assert {row.source for row in rows if row.target != "urdu"} == {"english"}
    assert {row.target for row in rows if row.source != "english"} == {"urdu"}
    assert report["directions"].keys() == report["by_direction"].keys() == {f"{r.source}>{r.target}" for r in rows}
    counts_TS, names = tiny_corpus.direction_counts("train"), tiny_corpus.languages
    trained = counts_TS[names.index("urdu"), names.index("english")]
    assert report["directions"]["english>urdu"]["train_pairs"] == trained
    page = Page(evaluated / "evaluation" / "test.html")
    page.loads_nothing()
    headings = [SECTIONS[0], "Baselines", *SECTIONS[1:-1], "Alignment", SECTIONS[-1]]
    assert [heading.content for heading in page.all("h2")] == headings
    assert [link.content for link in page.all("a") if link.attributes["href"].startswith("#")] == headings
    assert report["alignment"]["directions"].keys() == {
        name for name in report["directions"] if len({*name.split(">")}) > 1
    }
    assert f"Recall@1 {report['alignment']['recall1']:.2f} over 5 directions" in section(page, "Alignment")
    shown = page.all("article")
    assert 4 <= len(shown) <= 8  # best, middle, worst and drawn of MMS and of MXLS
    assert len(page.all("svg", **{"class": "canvas"})) >= 1
    texts = {row.prediction for row in rows} | {row.reference for row in rows}
    assert all(any(text in one.content for text in texts if text) for one in shown)
    says_nothing_to_the_console(evaluated / "evaluation" / "test.html")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (
            ["--directions", "en-*", "evaluation.directions=*-ur"],
            "--directions en-* and evaluation.directions=*-ur: give",
        ),
        (["--directions", "englsh-urdu"], "unknown language 'englsh' (did you mean 'english'?)"),
        (["--directions", "en-yo"], "language 'yoruba' is not in the corpus, which has 4"),
        (["--directions", "everything"], "directions: 'everything' is none of all, mms, mxls, or a pair like"),
    ],
)
def test_directions_that_cannot_be_meant_are_one_line(
    evaluated: Path, capsys: pytest.CaptureFixture[str], words: list[str], error: str
) -> None:
    capsys.readouterr()
    assert main(["evaluate", str(evaluated), *words]) == 2
    found = capsys.readouterr().err.splitlines()[-1]
    assert found.startswith("error: ")
    assert error in found


def test_the_page_says_how_rouge_was_counted_and_what_has_none(tmp_path: Path) -> None:
    rows = predictions(("english", "thai"), 3)
    rows[1] = dataclasses.replace(rows[1], scores={**rows[1].scores, **dict.fromkeys(ROUGE)})
    rouge = {
        "profile": "normalized",
        "empty_predictions": {"english": 2},
        "empty_references": {"thai": 1},
        "no_segmenter": {"<b>": {"references": 3, "documents": 0, "why": "<script>"}},
    }
    report = report_of(rows, {}) | {"rouge": rouge}
    (tmp_path / "page.html").write_text(build_page("run", report, rows, []), encoding="utf-8")
    page = Page(tmp_path / "page.html")
    page.loads_nothing()
    assert "ROUGE as normalized" in page.source
    assert "2 predictions without a word score 0 (english 2)" in page.source
    assert "1 references without a word" in page.source
    assert "3 examples have no ROUGE, 0 no novelty: &lt;b&gt;: &lt;script&gt;" in page.source
    assert "11 examples of test" in section(page, "By source and target")
    assert "1 examples have no ROUGE" in section(page, "By source and target")
    nothing = [dataclasses.replace(row, scores={**row.scores, **dict.fromkeys(ROUGE)}) for row in rows]
    assert "No example has ROUGE" in build_page("run", report_of(nothing, {}), nothing, [])
    assert choose(nothing, lambda row: row.target, 0) == [], "none is the best, the middle or the worst"
    assert "ROUGE as unicode" in build_page("run", report_of(rows, {}), rows, []), "of an earlier release"


def test_numbers_of_the_page(tmp_path: Path) -> None:
    rows = predictions(("english", "french", "urdu"), 4)
    report = report_of(rows, {"english": 9000, "french": 10})
    (tmp_path / "page.html").write_text(build_page("run", report, rows, []), encoding="utf-8")
    page = Page(tmp_path / "page.html")
    page.loads_nothing()
    macro = report["macro"]["by_class"]
    classes = re.findall("<tr>" + "<td>([^<]*)</td>" * 8 + "</tr>", section(page, "By training pairs"))
    assert [row[:3] for row in classes] == [
        ("under 1,000", "3", "12"),
        ("1,000 to 5,000", "3", "12"),
        ("over 5,000", "3", "12"),
    ]
    assert [float(row[3]) for row in classes] == pytest.approx(
        [macro[name]["rouge1"] for name in ("<1000", "1000-5000", ">5000")], abs=6e-3
    )
    table = section(page, "By source and target")
    cell = report["by_direction"]["english>urdu"]
    names = ("rouge1", "rouge2", "rougeL", "bertscore")
    assert " / ".join(f"{cell[name]:.2f}" for name in names) in table
    assert " / ".join(f"{report['macro']['by_target']['urdu'][name]:.2f}" for name in names) in table
    wrong = re.findall(r"<tr><td>(\w+ → \w+)</td><td>50\.00</td>", section(page, "In another language"))
    assert sorted(wrong) == ["english → urdu", "french → urdu", "urdu → urdu"]
    assert "<td>urdu</td><td>50.0%</td><td>english 6</td>" in page.source
    tips = [title.content for title in page.all("title")]
    told = f"R-L {cell['rougeL']:.2f}, R-1 {cell['rouge1']:.2f}"
    assert any(tip.startswith(f"english → urdu: {told}") and "4 examples, 9,000 training pairs" in tip for tip in tips)
    # One can choose what colours the cells: each button has its label and its scale.
    buttons = page.all("input", type="radio")
    assert [button.attributes["id"] for button in buttons] == [label.attributes["for"] for label in page.all("label")]
    assert len([button for button in buttons if "checked" in button.attributes]) == 1
    assert len(page.all("div", **{"class": "chosen"})) == 1


def alignment_of(*matrices: tuple[str, list[list[float]]]) -> dict[str, Any]:
    """As an evaluation writes it, of similarities by direction."""
    directions = {
        name: {"stories": len(rows), **figures_of(torch.tensor(rows, dtype=torch.float64))} for name, rows in matrices
    }
    return {
        "recall1": sum(of["recall1"] for of in directions.values()) / len(directions),
        "chance": sum(of["chance"] for of in directions.values()) / len(directions),
        "pairs": 0.71,
        "others": 0.34,
        "unreadable": 0,
        "directions": directions,
        "matrices": {
            name: {"stories": [f"s{number}" for number in range(len(rows))], "similarity": rows}
            for name, rows in matrices
        },
    }


def test_alignment_is_a_heat_map_whose_diagonal_holds_the_parallel_documents(tmp_path: Path) -> None:
    rows = predictions(("english", "urdu"), 2)
    aligned = [[0.9, 0.1, 0.2], [0.0, 0.8, 0.1], [0.3, 0.85, 0.7]]
    alignment = alignment_of(("english>urdu", aligned), ("urdu>english", [[0.5, 0.4], [0.6, 0.3]]))
    report = report_of(rows, {}) | {"alignment": alignment}
    (tmp_path / "page.html").write_text(build_page("run", report, rows, []), encoding="utf-8")
    page = Page(tmp_path / "page.html")
    page.loads_nothing()
    told = "Recall@1 0.58 over 2 directions, 2 to 3 stories each; chance 0.42. "
    assert f"{told}Mean similarity 0.710 of parallel documents, 0.340 of others." in section(page, "Alignment")
    first, second = (
        [svg for svg in page.all("svg", **{"class": "matrix"}) if svg.attributes["aria-label"].startswith(name)]
        for name in ("english → urdu, recall@1 0.67", "urdu → english, recall@1 0.50")
    )
    assert len(first) == len(second) == 1
    begin = page.elements.index(first[0])
    rects = [element for element in page.elements[begin : begin + 19] if element.tag == "rect"]
    places = [(int(rect.attributes["y"]) // 16, int(rect.attributes["x"]) // 16) for rect in rects]
    assert places == [(row, column) for row in range(3) for column in range(3)]
    steps = np.array([int(rect.attributes["class"].removeprefix("s")) for rect in rects]).reshape(3, 3)
    assert (steps == linear_levels(np.array(aligned))).all()
    assert steps[0, 0] == 9
    assert steps[1, 0] == 1
    assert rects[0].content == "story 1, its parallel: 0.900"
    assert rects[7].content == "stories 3 and 2: 0.850"
    cells = re.findall("<tr>" + "<td>([^<]*)</td>" * 6 + "</tr>", section(page, "Alignment"))
    assert cells == [
        ("english → urdu", "3", "0.67", "0.33", "0.800", "0.258"),
        ("urdu → english", "2", "0.50", "0.50", "0.400", "0.500"),
    ]


def test_without_two_stories_the_page_says_so_and_an_earlier_release_s_has_no_alignment(tmp_path: Path) -> None:
    rows = predictions(("english", "urdu"), 2)
    nothing = {"unreadable": 1, "directions": {}, "matrices": {}}
    (tmp_path / "page.html").write_text(build_page("run", report_of(rows, {}) | {"alignment": nothing}, rows, []))
    text = section(Page(tmp_path / "page.html"), "Alignment")
    assert "No cross-lingual direction that was evaluated has two stories to compare." in text
    assert "<svg" not in text
    assert "Alignment" not in build_page("run", report_of(rows, {}), rows, [])


def test_strange_texts_stay_texts_and_run_their_own_way(tmp_path: Path) -> None:
    strange = '</p><script>alert("1")</script>&amp; \x01 <img src=x onerror=alert(1)>'
    rows = predictions(("english", "urdu"), 2, strange)
    examples = [
        Example(group="MXLS", place="best", row=rows[1], name=strange, document=strange * 60, images=None),
        Example(group="MXLS", place="worst", row=rows[3], name="x", document=None, images=None, problem="torn"),
    ]
    (tmp_path / "page.html").write_text(build_page(strange, report_of(rows, {}), rows, examples), encoding="utf-8")
    page = Page(tmp_path / "page.html")
    page.loads_nothing()
    assert not page.all("img")
    first, second = page.all("article")
    assert first.content.count("<script>") >= 3
    assert "characters in all" in first.content
    assert "torn" in second.content
    # Two references and a document; what was written is in English.
    assert [text.attributes["dir"] for text in page.all("p", lang="ur")] == ["rtl"] * 3
    assert page.all("span", **{"class": "wrong"})[0].content == "found to be english"
    says_nothing_to_the_console(tmp_path / "page.html")


def test_44_languages_are_a_page_that_a_browser_opens_gladly(tmp_path: Path) -> None:
    rows = predictions(tuple(LANGUAGE_CODES)[:44], 1)
    similarity = np.random.default_rng(0).uniform(-1, 1, (50, 50)).tolist()
    alignment = alignment_of(*((f"english>{target}", similarity) for target in tuple(LANGUAGE_CODES)[1:5]))
    source = build_page("run", report_of(rows, {}) | {"alignment": alignment}, rows, [])
    assert len(source) < 2_500_000
    assert source.count("<title>") >= 44 * 44 + 4 * 50 * 50


def test_a_run_s_page_shows_the_same_parts(tmp_path: Path) -> None:
    write_recipe(tmp_path, "training.steps=2000")
    write_records(tmp_path, [start()])
    (tmp_path / "evaluation").mkdir()
    report = report_of(predictions(("english", "french", "urdu"), 2), {})
    (tmp_path / "evaluation" / "test.json").write_text(json.dumps(report))
    (tmp_path / "evaluation" / "test-robustness.json").write_text("{}")
    assert main(["report", str(tmp_path)]) == 0
    page = Page(tmp_path / "report.html")
    page.loads_nothing()
    text = section(page, "Evaluation")
    assert re.findall(r"<h3>(\w+)</h3>", text) == ["test"]
    for summary in ("By resource class", "By language", "By direction", "In another language"):
        assert f"<summary>{summary}</summary>" in text
    assert '<th scope="col">BERTScore</th>' in text
    assert "<td>urdu</td><td>50.0%</td><td>english 3</td>" in text


def test_nothing_wrong_is_not_the_same_as_not_evaluated() -> None:
    assert linear_levels(np.array([0.0, np.nan, 50.0, 100.0])).tolist() == [1, 0, 5, 9]
    assert linear_levels(np.array([7.0, np.nan])).tolist() == [5, 0]
