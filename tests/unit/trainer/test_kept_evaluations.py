"""Evaluations are kept by what they are of: labels, the run's own place, and who makes room for whom."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from launcher.pages.run import run_page
from tests.support.runs import start, write_recipe, write_records
from trainer.evaluation.kept import (
    choose,
    evaluation_folder,
    kept_evaluations,
    label,
    make_room,
    make_room_for_robustness,
    same,
)
from trainer.runs.directory import RunDirectory

OWN: dict[str, Any] = {
    "step": 600,
    "checkpoint": "c0ffee00" * 8,
    "settings": {"directions": "all", "num_beams": 4, "labse": None, "batch_size": 8},
    "languages": None,
    "lengths": {"document": 512, "summary": 84},
    "corpus": "feed" * 16,
}


def but(**changes: Any) -> dict[str, Any]:
    """The run's own facts with another step, checkpoint or setting."""
    top = {key: value for key, value in changes.items() if key in OWN}
    settings = {key: value for key, value in changes.items() if key not in OWN}
    return {**OWN, **top, "settings": {**OWN["settings"], **settings}}


def write(where: Path, facts: dict[str, Any], split: str = "test") -> None:
    where.mkdir(parents=True, exist_ok=True)
    for suffix in ("-predictions.parquet", ".html", "-robustness.json"):
        (where / f"{split}{suffix}").write_text(json.dumps([facts["step"], suffix]))
    (where / f"{split}.json").write_text(json.dumps(facts))


@pytest.mark.parametrize(
    ("facts", "name"),
    [
        (but(directions="en-*,*-ur"), "directions-en-any+any-ur"),
        (but(step=400, checkpoint="0badf00d" * 8, num_beams=1), "step-00000400--num_beams-1"),
        (but(checkpoint="0badf00d" * 8), "checkpoint-0badf00d"),
        (but(labse="/models/La BSE/"), "labse-LaBSE"),
        (but(languages=["english", "urdu"]), "languages-english+urdu"),
        (but(lengths={"document": 64, "summary": 84}), "document-64"),
        (but(corpus="0badf00d" * 8), "corpus-0badf00d"),
        (but(directions="../../x;rm -rf $HOME\n"), "directions-x_rm-rf_HOME_"),
        (but(directions="..%2f\0"), "directions-.._2f_"),
        ({"step": None}, "step-unknown--corpus-None"),
        (but(rouge="normalized"), "rouge-normalized"),
        (but(num_beams=1, no_repeat_ngram_size=0), "num_beams-1"),
        (but(no_repeat_ngram_size=2), "no_repeat_ngram_size-2"),
    ],
)
def test_a_label_says_what_differs(facts: dict[str, Any], name: str) -> None:
    assert label(facts, OWN) == name


def test_any_label_is_a_name_of_a_directory(tmp_path: Path) -> None:
    long = label(but(directions=",".join(f"english-{number:04d}" for number in range(400))), OWN)
    (tmp_path / long).mkdir()
    assert long != label(but(directions=",".join(f"english-{number:04d}" for number in range(401))), OWN)


def test_only_the_runs_own_has_its_place(tmp_path: Path) -> None:
    assert choose(tmp_path, "test", OWN, OWN) == tmp_path
    assert choose(tmp_path, "test", but(batch_size=64), OWN) == tmp_path  # changes no result
    other, third = but(directions="en-*"), but(directions="*-en")
    assert choose(tmp_path, "test", other, OWN) == tmp_path  # the first of any, as in earlier releases
    write(tmp_path / "evaluation", other)
    assert choose(tmp_path, "test", other, OWN) == tmp_path
    assert choose(tmp_path, "test", third, OWN) == tmp_path / "evaluation" / "directions-any-en"
    make_room(tmp_path, "test", OWN)
    write(tmp_path / "evaluation", OWN)
    for facts, name in ((other, "directions-en-any"), (third, "directions-any-en")):
        assert choose(tmp_path, "test", facts, OWN) == tmp_path / "evaluation" / name
    assert choose(tmp_path, "validation", third, OWN) == tmp_path


def test_two_of_one_label_stand_beside_each_other(tmp_path: Path) -> None:
    first, second = but(labse="/a/labse"), but(labse="/b/labse")
    write(tmp_path / "evaluation", OWN)
    place = choose(tmp_path, "test", first, OWN)
    write(place, first)
    other = choose(tmp_path, "test", second, OWN)
    assert other != place
    write(other, second)
    assert choose(tmp_path, "test", first, OWN) == place
    assert choose(tmp_path, "test", second, OWN) == other
    assert kept_evaluations(tmp_path, "test") == [place, other]
    assert {evaluation_folder(one) for one in (place, other)} == {place, other}
    assert evaluation_folder(tmp_path) == tmp_path / "evaluation"


def test_what_lies_in_the_own_place_moves_with_all_its_files(tmp_path: Path) -> None:
    folder, earlier = tmp_path / "evaluation", but(step=400, checkpoint="0badf00d" * 8)
    write(folder, earlier)
    write(folder, OWN, "validation")
    before = {path.name: path.read_bytes() for path in folder.glob("test*")}
    line = make_room(tmp_path, "test", OWN)
    assert line is not None
    assert "step-00000400" in line
    assert {path.name: path.read_bytes() for path in (folder / "step-00000400").iterdir()} == before
    assert not list(folder.glob("test*"))
    assert len(list(folder.glob("validation*"))) == 4
    write(folder, OWN)
    assert make_room(tmp_path, "test", but(batch_size=1)) is None


def test_a_report_that_cannot_be_read_is_kept_too(tmp_path: Path) -> None:
    for _ in range(2):
        write(tmp_path / "evaluation", OWN)
        (tmp_path / "evaluation" / "test.json").write_text("{")
        assert make_room(tmp_path, "test", OWN) is not None
    assert len(list((tmp_path / "evaluation").glob("unreadable*/test.json"))) == 2


def test_a_fifo_in_place_of_a_report_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "evaluation").mkdir()
    os.mkfifo(tmp_path / "evaluation" / "test.json")
    assert choose(tmp_path, "test", but(checkpoint="other"), OWN) != tmp_path


def test_perturbed_evaluations_of_other_kinds_severities_or_seeds_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "evaluation"

    def report(*kinds: str, severities: tuple[int, ...] = (1, 3), seed: int = 0) -> dict[str, Any]:
        return {**OWN, "kinds": {k: {"family": "word"} for k in kinds}, "severities": [*severities], "seed": seed}

    def write_robustness(of: dict[str, Any]) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "test-robustness.json").write_text(json.dumps(of))
        (folder / "test-robustness.parquet").write_text("rows")

    all_of_them = [
        report("word_drop"),
        report("word_drop", "word_swap"),
        report("word_drop", severities=(5,)),
        report("word_drop", seed=1),
        report("word_drop", "word_swap", severities=(5,)),
    ]
    for of in all_of_them:
        make_room_for_robustness(tmp_path, "test", of)
        write_robustness(of)
    assert make_room_for_robustness(tmp_path, "test", all_of_them[-1]) is None
    found = [json.loads(path.read_text()) for path in folder.rglob("test-robustness.json")]
    assert sorted(map(json.dumps, found)) == sorted(map(json.dumps, all_of_them))
    assert (folder / "perturbed-word_drop--severities-1+3" / "test-robustness.parquet").exists()
    assert len(list(folder.rglob("*.parquet"))) == len(all_of_them)


def test_the_report_shows_them_behind_the_runs_own(tmp_path: Path) -> None:
    write_recipe(tmp_path)
    write_records(tmp_path, [start()])
    kept = tmp_path / "evaluation" / "directions-en-any"
    report = {**OWN, "split": "test", "by_kind": {}, "examples": 3, "unreadable": 0}
    write(tmp_path / "evaluation", report)
    write(kept, report)
    write(tmp_path / "evaluation" / "<script>", report)
    (tmp_path / "evaluation" / "<script>" / "validation.json").write_text("{")
    run = RunDirectory(tmp_path)
    assert list(run.evaluations()) == ["test"]
    assert list(run.kept_evaluations()) == ["<script>/test", "<script>/validation", "directions-en-any/test"]
    page = run_page(run)
    assert page.index("<h3>test</h3>") < page.index("<h3>directions-en-any/test</h3>")
    assert "evaluation/directions-en-any/test.html has" in page
    assert "<script>" not in page


def test_facts_of_an_earlier_release_are_not_taken_for_the_same() -> None:
    assert not same({"checkpoint": OWN["checkpoint"]}, OWN)
    assert same(json.loads(json.dumps(OWN)), OWN)
    assert same(OWN, but(no_repeat_ngram_size=0))
    assert not same(OWN, but(no_repeat_ngram_size=2))
    assert not same(OWN, but(rouge="xlsum"))
    assert label(OWN, but(rouge="xlsum")) == "rouge-unicode"
