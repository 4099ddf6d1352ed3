"""Test `d2tv report`: pages of runs of all kinds, against sums written out, and opened in a browser."""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from launcher.cli import main
from shards.languages import LANGUAGE_CODES
from tests.support.pages import Page, says_nothing_to_the_console
from tests.support.runs import (
    BEGAN,
    checkpoint,
    directions,
    eventful_records,
    start,
    train,
    write_recipe,
    write_records,
)

FOUR = ("english", "french", "hindi", "urdu")
CLOCK = ("training.steps=2000", "training.validate_every=100", "checkpoint.every=100")
SECTIONS = ["Curves", "Course", "Directions", "Target languages", "Evaluation", "Placeholders", "Recipe"]


def page_of(run: Path) -> Page:
    """Return the page of a run by the command, after checking that it has all sections and loads nothing."""
    assert main(["report", str(run)]) == 0
    page = Page(run / "report.html")
    page.loads_nothing()
    assert [heading.content for heading in page.all("h2")] == SECTIONS
    links = [link.attributes["href"].removeprefix("#") for link in page.all("a")]
    assert links == [heading.attributes["id"] for heading in page.all("h2")]
    return page


def section(page: Page, title: str) -> str:
    """Return the source of a section."""
    begin = page.source.index(f">{title}</h2>")
    end = page.source.find("<h2", begin)
    return page.source[begin : end if end > 0 else None]


def tips(page: Page) -> list[str]:
    return [title.content for title in page.all("title")]


def evaluation(languages: Sequence[str]) -> dict[str, Any]:
    """Return a report of the first release; test_evaluation_page.py has those of this one."""

    def scores(value: float) -> dict[str, float]:
        return {"rouge1": value, "rouge2": value / 2, "rougeL": value - 1}

    pairs = [(source, target) for target in languages for source in languages]
    return {
        "split": "test",
        "settings": {"directions": "all", "batch_size": 32, "num_beams": 4, "length_penalty": 0.6},
        "step": 2000,
        "checkpoint": "0" * 64,
        "examples": 800,
        "unreadable": 1,
        "by_kind": {"mms": scores(30.0), "mxls": scores(25.0)},
        "by_target": {language: scores(20.0 + place) for place, language in enumerate(languages)},
        "by_direction": {f"{s}>{t}": scores(10.0 + place) for place, (s, t) in enumerate(pairs)},
        "nll": {kind: {"model": 3.0, "unigram": 6.0, "better_by": 0.5, "examples": 512} for kind in ("mms", "mxls")},
    }


def placeholder(
    step: int, source: str, target: str, problem: str = "train-000003.tar: CRC32C differs"
) -> dict[str, Any]:
    names = {"source": source, "target": target, "story": "bbc/1", "problem": problem}
    return {"kind": "unreadable", "step": step, "slot": step, **names}


@pytest.fixture(scope="module")
def eventful(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """Return the page of a finished run of four languages with every kind of event."""
    run = tmp_path_factory.mktemp("reports") / "eventful"
    write_recipe(run, *CLOCK)
    write_records(run, eventful_records(FOUR, 2000, every=100))
    (run / "evaluation").mkdir()
    (run / "evaluation" / "test.json").write_text(json.dumps(evaluation(FOUR)))
    (run / "evaluation" / "validation.json").write_text('{"split": "valid')
    unreadable = [placeholder(7, "hindi", "urdu"), placeholder(9, "hindi", "urdu"), placeholder(8, "urdu", "urdu")]
    (run / "unreadable.jsonl").write_text("".join(json.dumps(one) + "\n" for one in unreadable))
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "latest").write_text("step-00002000\n")
    (run / "checkpoints" / "best").write_text("step-00001900\n")
    return page_of(run)


def test_the_head(eventful: Page) -> None:
    assert eventful.all("h1")[0].content == "eventful"
    assert eventful.all("span", **{"class": "state finished"})[0].content.startswith("finished at step 2,000")
    terms = [term.content for term in eventful.all("dt")]
    facts = dict(zip(terms, (fact.content for fact in eventful.all("dd")), strict=True))
    assert facts["steps"] == "2,000 of 2,000"
    assert facts["time in steps"] == "66 min"
    # 2.1 s a step, an hour and two hours between starts, the evaluation.
    assert facts["since the first start"] == "4 h 25 min"
    assert facts["restarts"] == "2"
    assert facts["ranks"] == "16"
    assert facts["examples"] == "256,000"
    assert facts["target tokens"] == "4,480,000"
    assert (facts["skipped steps"], facts["placeholders"]) == ("3", "7")
    assert facts["held-out NLL mxls"] == f"{2.8 + 6 * math.exp(-4):.4g}"
    assert (facts["latest checkpoint"], facts["best checkpoint"]) == ("step-00002000", "step-00001900")
    assert "objective d2tv · corpus corpora/tiny" in eventful.all("p")[0].content


def test_the_curves(eventful: Page) -> None:
    captions = [caption.content.split("  ")[0] for caption in eventful.all("figcaption")]
    assert captions == [
        "Loss J",
        "Loss by term before its weight",
        "NLL by kind nats a target token",
        "Learning rate ",
        "Gradient norm global, before clipping, in equal ratios",
        "Examples a second ",
        "Target tokens a second ",
        "Seconds a step ",
        "Data wait share of a step's time",
        "MFU model FLOP/s over the peak",
        "Slowest rank seconds a step over the median rank",
        "What the objective tells of itself ",
    ]
    charts = eventful.all("svg", **{"class": "chart"})
    assert len(charts) == 12
    assert len(eventful.all("path", **{"class": "spike"})) == 12 * 2 + 2  # in every chart, and in the course
    assert len(eventful.all("line", **{"class": "restart"})) == 12 * 3
    # The NaN of the loss, of a term and of the norm; one more cross stands for the checkpoint that failed.
    assert len(eventful.all("path", **{"class": "bad"})) == 4
    said = tips(eventful)
    assert "step 660: nan" in "\n".join(said)
    assert any("step 400: the loss jumped from 9.5 to 31" in tip and "mms_ce" in tip for tip in said)
    # Of one kind, training and held-out have one colour.
    nll = section(eventful, "Curves").split("NLL by kind", 1)[1].split("</figure>")[0]
    assert re.findall(r'<line class="(k\d)"[^>]*></line></svg> ([\w-]+) (mms|mxls) ', nll) == [
        ("k0", "training", "mms"),
        ("k1", "training", "mxls"),
        ("k0", "held-out", "mms"),
        ("k1", "held-out", "mxls"),
    ]


def test_the_directions(eventful: Page) -> None:
    """Compare NLL of the newest sums with the formula of the records."""
    last = [record for record in eventful_records(FOUR, 2000, every=100) if record["kind"] == "directions"][-1]
    expected = {name: last["nats"][name] / last["tokens"][name] for name in last["nats"]}
    found = {
        match[1]: float(match[2])
        for tip in tips(eventful)
        if (match := re.fullmatch(r"(.*): ([\d.]+) nats a token, 600 tokens of 60 examples", tip))
    }
    assert found == {name.replace(">", " → "): pytest.approx(value, abs=1e-3) for name, value in expected.items()}
    text = section(eventful, "Directions")
    assert "over steps 1,901 to 2,000, 16 directions" in text
    rows = re.findall(r"<tr><td>(\w+ → \w+)</td><td>([\d.]+)</td>", text)
    ranked = sorted(expected.items(), key=lambda item: -item[1])
    assert rows == [(name.replace(">", " → "), f"{value:.3f}") for name, value in ranked]


def test_the_course(eventful: Page) -> None:
    text = section(eventful, "Course")
    starts = [
        ("2027-01-15 08:00:00", "0", "400", "14 min", "8", "died"),
        ("2027-01-15 09:14:00", "400", "800", "14 min", "8", "stopped"),
        ("2027-01-15 11:28:00", "800", "2,000", "57 min", "16", "finished"),
    ]
    assert re.findall(r"<tr>" + r"<td>([^<]*)</td>" * 6 + "</tr>", text) == starts
    assert text.count('<circle class="saved"') == 19
    assert text.count('<path class="bad"') == 1
    assert text.count('<path class="back"') == 1
    for end in ("died", "stopped", "finished"):
        assert text.count(f'<rect class="{end}"') == 1
    assert "23 events" in text
    assert "no checkpoint could be written: [Errno 28] No space left on device" in text
    assert "back to step 600 from step 730" in text
    assert "NLL of the worst directions: english → urdu 19.5 (usually 4.2)" in text


def test_target_languages(eventful: Page) -> None:
    records = eventful_records(FOUR, 2000, every=100)
    validations = [record["nll_by_target"] for record in records if record["kind"] == "validation"]
    trained = [record["nll_by_target"] for record in records if record["kind"] == "train"][-32:]
    rows = re.findall("<tr>" + "<td>([^<]*)</td>" * 7 + "</tr>", section(eventful, "Target languages"))
    assert {row[0] for row in rows} == set(FOUR)
    for language, *cells in rows:
        expected = []
        for kind in ("mms", "mxls"):
            now, then = validations[-1][kind][language], validations[0][kind][language]
            expected += [now, now - then, sum(of[kind][language] for of in trained) / 32]
        assert [float(cell) for cell in cells] == pytest.approx(expected, abs=6e-4)
    held_out = [max(float(row[1]), float(row[4])) for row in rows]
    assert held_out == sorted(held_out, reverse=True)
    assert section(eventful, "Target languages").count('<circle class="k0 "') == 4 + 1  # and one in the legend


def test_evaluations(eventful: Page) -> None:
    text = section(eventful, "Evaluation")
    assert "step 2000, 800 summaries decoded, 1 examples unreadable, directions all, num_beams 4" in text
    assert "<td>MXLS</td><td>3.000</td><td>6.000</td><td>50.0%</td><td>25.00</td><td>12.50</td><td>24.00</td>" in text
    assert "<td>urdu</td><td>23.00</td><td>11.50</td><td>22.00</td>" in text
    assert "english → urdu: R-L 21.00, R-1 22.00, R-2 11.00" in tips(eventful)
    assert "evaluation/validation.json cannot be read" in text


def test_placeholders_and_recipe(eventful: Page) -> None:
    text = section(eventful, "Placeholders")
    assert "3 examples that could not be read, in 2 directions" in text
    rows = re.findall("<tr>" + "<td>([^<]*)</td>" * 4 + "</tr>", text)
    assert [row[:3] for row in rows] == [("hindi → urdu", "2", "9"), ("urdu → urdu", "1", "8")]
    assert rows[0][3] == "train-000003.tar: CRC32C differs"
    assert "steps: 2000" in eventful.all("pre")[0].content


def test_a_browser_shows_it_without_a_word(eventful: Page, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(eventful.source, encoding="utf-8")
    says_nothing_to_the_console(tmp_path / "page.html")


def test_44_languages_and_20_000_intervals(tmp_path: Path) -> None:
    """Keep the page small, with every extreme in it."""
    languages = tuple(LANGUAGE_CODES)[:44]
    write_recipe(tmp_path, "training.steps=200000")
    records: list[dict[str, Any]] = [start()]
    for step in range(10, 200_010, 10):
        records.append(train(step, gradient_norm=77.0 if step == 123_450 else 1 + step % 70 / 100))
    records.append(directions(200_000, {f"{s}>{t}": 3.0 for s in languages for t in languages}))
    write_records(tmp_path, records)
    page = page_of(tmp_path)
    assert len(page.source) < 2_000_000
    norm = section(page, "Curves").split("Gradient norm", 1)[1].split("</figure>")[0]
    pale = re.search(r'<path class="k0 pale" d="M([^"]*)"', norm)
    assert pale is not None
    heights = [float(point.split()[1]) for point in pale[1].split("L")]
    assert sorted(heights)[0] < sorted(heights)[1] - 50  # the one that stands out
    assert len([tip for tip in tips(page) if "nats a token" in tip]) == 44 * 44
    says_nothing_to_the_console(tmp_path / "report.html")


def test_a_run_that_has_not_begun(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = page_of(tmp_path)
    assert capsys.readouterr().out == f"page: {tmp_path / 'report.html'}\n"
    assert "not begun: the directory holds no records yet" in page.source
    for title in SECTIONS:
        assert re.search(r"<p>.*\.</p>", section(page, title)), title
    assert "not begun" in page_of(tmp_path).source  # the page of before makes it no other directory
    write_recipe(tmp_path, *CLOCK)
    write_records(tmp_path, [start()])
    page = page_of(tmp_path)
    assert "beginning from step 0" in page.source
    assert "No step is logged yet" in page.source
    says_nothing_to_the_console(tmp_path / "report.html")


def test_a_run_of_an_older_release(tmp_path: Path) -> None:
    """Show a run without sums by direction, languages, times of spikes and validations, and ends."""
    write_recipe(tmp_path, *CLOCK)
    new = ("nll_by_target", "mfu", "slowest_rank", "slowest_rank_lag_seconds", "target_tokens_per_second", "restarts")
    records = []
    for record in eventful_records(FOUR, 2000, every=100):
        if record["kind"] in ("start", "train", "validation", "checkpoint", "spike"):
            record = {key: value for key, value in record.items() if key not in new}
            if record["kind"] in ("validation", "spike"):
                del record["time"]
            records.append(record)
    write_records(tmp_path, records)
    page = page_of(tmp_path)
    assert "No sums by direction are recorded yet" in section(page, "Directions")
    assert "No NLL by target language is recorded yet" in section(page, "Target languages")
    assert [caption.content for caption in page.all("figcaption") if "MFU" in caption.content] == []
    course = section(page, "Course")
    assert course.count("died") >= 2
    assert "not ended" in course
    assert course.count('<path class="spike"') == 2  # at the times of their steps
    assert dict(re.findall(r"<dt>(restarts)</dt><dd>(\d+)</dd>", page.source)) == {"restarts": "2"}


def test_a_kind_without_data_is_shown_nowhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Follow the kinds of the records, as of the recipe `mms`."""
    write_recipe(tmp_path, *CLOCK)
    of_kind = {"nll": {"mms": 2.0}, "nll_by_target": {"mms": {"urdu": 2.0, "hindi": 3.0}}}
    counts = {"examples": {"mms": 320.0}, "target_tokens": {"mms": 12800.0}, "loss": {"total": 2.0, "mms_ce": 2.0}}
    validation = {"kind": "validation", "step": 10, **of_kind, "time": BEGAN + 30}
    write_records(tmp_path, [start(), train(10, **of_kind, **counts), validation])
    page = page_of(tmp_path)
    assert main(["watch", str(tmp_path), "--once"]) == 0
    shown = capsys.readouterr().out
    without_recipe = page.source[: page.source.index('id="recipe"')]
    for text in (shown, without_recipe):
        assert "mxls" not in text.lower()
    assert "held-out mms" in shown
    assert "<td>urdu</td><td>2.000</td><td>+0.000</td><td>2.000</td></tr>" in without_recipe


def test_nothing_is_finite(tmp_path: Path) -> None:
    write_recipe(tmp_path, *CLOCK)
    lost = {"total": math.nan, "tco": math.inf, "mms_ce": -math.inf}
    by_target = {"mms": {"urdu": math.nan, "hindi": math.inf}, "mxls": {"urdu": 1.0}}
    records: list[dict[str, Any]] = [start()]
    for step in range(10, 5010, 10):
        nll = {"mms": math.nan, "mxls": math.inf}
        records.append(train(step, loss=lost, nll=nll, gradient_norm=math.nan, nll_by_target=by_target))
    nats = directions(5000, {"urdu>urdu": math.nan, "hindi>urdu": math.inf, "urdu>hindi": 2.0})
    validation = {"kind": "validation", "step": 5000, "nll": nll, "nll_by_target": by_target, "time": math.nan}
    write_records(tmp_path, [*records, nats, validation, checkpoint(5000, time=math.inf)])
    page = page_of(tmp_path)
    said = "\n".join(tips(page))
    assert "step 5,000: nan" in said
    assert "tco inf" in said
    assert "urdu → urdu: nan nats a token" in said
    assert "hindi → urdu: inf nats a token" in said
    worst = re.findall(r"<tr><td>(\w+ → \w+)</td><td>(\w+)", section(page, "Directions"))
    assert worst == [("urdu → urdu", "nan"), ("hindi → urdu", "inf"), ("urdu → hindi", "2")]
    assert not re.search(r'="[^"]*\b(nan|inf)\b', section(page, "Curves").replace("<title>", "\n"))
    says_nothing_to_the_console(tmp_path / "report.html")


def test_names_that_look_like_markup(tmp_path: Path) -> None:
    strange = '</title><script>alert("1")</script>&amp; \x01\x1b\n\ud800 \'"'
    write_recipe(tmp_path / "run", *CLOCK)
    run = (tmp_path / "run").rename(tmp_path / "<b>run & 'co'\"")
    recipe = run / "recipe.yaml"
    recipe.write_text(recipe.read_text() + "extra: '</pre><script>1</script>'\n")
    spike = [{"direction": f"{strange}>x", "nll": 9.0, "usual": 3.0}]
    records = [
        start(),
        train(10, loss={"total": 1.0, strange: 2.0}, nll={strange: 2.0}, nll_by_target={"mms": {strange: 1.0}}),
        {"kind": "validation", "step": 10, "nll": {strange: 1.0}, "nll_by_target": {"mms": {strange: 1.0}}},
        {"kind": "spike", "step": 10, "loss": 9.0, "usual": 3.0, "directions": spike, "time": BEGAN},
        {"kind": "mixture", "step": 11, "mixture": {strange: 1}},
        directions(10, {f"{strange}>urdu": 3.0}),
        checkpoint(10, problem=strange),
        {"kind": "end", "step": 10, "outcome": strange, "time": BEGAN + 60},
    ]
    write_records(run, records)
    (run / "unreadable.jsonl").write_text(json.dumps(placeholder(3, strange, "urdu", problem=strange)) + "\n")
    (run / "evaluation").mkdir()
    (run / "evaluation" / "test.json").write_text(json.dumps(evaluation((strange, "urdu"))))
    page = page_of(run)
    assert page.all("h1")[0].content == "<b>run & 'co'\""
    assert not page.all("script")
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", page.source)
    assert len([label for label in page.all("text") if "<script>" in label.content]) >= 5
    says_nothing_to_the_console(run / "report.html")


def test_a_page_elsewhere_and_one_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_recipe(tmp_path / "run", *CLOCK)
    assert main(["report", str(tmp_path / "run"), "--out", str(tmp_path / "page.html")]) == 0
    assert "d2tv report" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert not (tmp_path / "run" / "report.html").exists()
    assert main(["report", str(tmp_path / "run"), "--out", str(tmp_path / "no" / "page.html")]) == 2
    error = capsys.readouterr().err
    assert "cannot be written" in error
    assert error.count("\n") == 1
