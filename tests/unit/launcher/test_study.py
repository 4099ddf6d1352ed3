"""`d2tv study`: its file, its trainings, and what it makes of their evaluations."""

import json
import os
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from launcher.cli import main
from launcher.study.claims import check_claims
from launcher.study.definition import Claim, Definition, Trial, load_study, slug, study_names, trials
from launcher.study.results import COSTS, write_results
from launcher.study.run import is_finished
from shards.errors import InputError
from shards.index import Corpus
from tests.checkpoints import write_checkpoint
from tests.distributed.harness import FP32
from tests.pages import Page
from tests.tiny import tiny_overrides
from tests.unit.launcher.test_compare import write_run
from trainer.checkpoint import identity

DEFINITION = {
    "models": {"MMS": "mms", "Both": "mms_mxls", "D²TV": "d2tv"},
    "baseline": "Both",
    "seeds": [0, 1],
    "claims": [
        {"better": "D²TV", "than": "Both", "kind": "mxls"},
        {"better": "MMS", "than": "Both", "kind": "mxls"},
        {"better": "D²TV", "than": "Both", "kind": "mms"},
    ],
}


def test_the_shipped_study_is_the_papers_table() -> None:
    study = load_study("table1")
    assert study_names() == ["table1"]
    assert list(study.models) == ["MMS", "MXLS", "MMS+MXLS", "Vanilla-KD", "D²TV"]
    assert (study.baseline, len(study.seeds)) == ("Vanilla-KD", 3)
    planned = trials(study, Path("out"), ds_config=FP32, ranks=2, overrides=["training.steps=7"])
    assert len({trial.run for trial in planned}) == len(planned) == 15
    for trial in planned:
        assert trial.recipe.training.seed == trial.seed
        assert trial.recipe.training.steps == 7
        assert trial.recipe.mixture.languages == ("english", "indonesian", "russian", "urdu")
    assert [trial.recipe.mixture.kinds for trial in planned[:3]] == [("mms",), ("mxls",), ("mms", "mxls")]
    assert [trial.recipe.objective.settings().distillation for trial in planned[3:5]] == ["vanilla", "dual"]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"basline": "MMS"}, "unknown key 'basline' (did you mean 'baseline'?)"),
        ({"baseline": "MXLS"}, "'MXLS' is no model of it"),
        ({"claims": [{"better": "D2TV", "than": "MMS"}]}, "'D2TV' is no model of it (did you mean 'D²TV'?)"),
        ({"seeds": [1, 1]}, "seeds [1, 1]: each once"),
        ({"seeds": []}, "seeds: has too few values"),
        ({"models": {"A b": "mms", "a-b": "mxls"}, "baseline": "a-b", "claims": []}, "two would have one directory"),
        ({"models": {"MMS": "mms", "Both": "mms_mxl", "D²TV": "d2tv"}}, "no recipe 'mms_mxl'"),
        ({"overrides": ["training.stps=3"]}, "training.stps"),
    ],
)
def test_a_study_that_does_not_fit_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, object], error: str
) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(DEFINITION | change))
    assert main(["study", str(path), "--ds_config", str(FP32), "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert error in told
    assert told.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_fifo_in_place_of_a_study_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "study.yaml")
    with pytest.raises(InputError, match="not a regular file"):
        load_study(str(tmp_path / "study.yaml"))


def test_words_that_a_study_owns_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for word in ("run=x", "training.seed=3"):
        assert main(["study", "table1", "--ds_config", str(FP32), word]) == 2
        assert "a study chooses run and training.seed itself" in capsys.readouterr().err
    assert main(["study", "table1", "--ds_config", str(FP32), "--samples", "50"]) == 2
    assert "--samples 50: at least 100" in capsys.readouterr().err
    assert main(["study", "table2", "--ds_config", str(FP32)]) == 2
    assert "no study 'table2' (did you mean 'table1'?)" in capsys.readouterr().err


def test_results_say_what_holds(tmp_path: Path) -> None:
    definition = Definition.model_validate(DEFINITION)
    out = tmp_path / "mini"
    words = [word for word in tiny_overrides(tmp_path / "corpus", tmp_path / "run") if not word.startswith("run=")]
    words = [word for word in words if not word.startswith("training.seed")]
    planned = trials(definition, out, ds_config=FP32, ranks=2, overrides=words)
    for trial in planned:
        gain = {"MMS": -2.0, "Both": 0.0, "D²TV": 1.0}[trial.model]
        write_run(trial.run, gain, seed=10 * trial.seed + len(trial.model))
    costs = [{"run": trial.run.name, "wall_seconds": 600.0, "cpu_seconds": 1000.0} for trial in planned[1:]]
    costs.append({"run": "of another study", "wall_seconds": 1e6, "cpu_seconds": 1e6})
    (out / COSTS).write_text("".join(json.dumps(cost) + "\n" for cost in costs) + '{"run": "d2t')  # cut by a kill
    write_results(definition, planned, out, samples=1000, command="d2tv study mini", console=Console(quiet=True))

    text = (out / "study.md").read_text()
    assert "`d2tv study mini`" in text
    took = "6 trainings with their evaluations took 0.83 hours and 83 CPU minutes, in 5 attempts"
    assert f"{took}; of 1 trainings the cost is not known" in text
    lines = [line for line in text.splitlines() if line.startswith("| D²TV >")]
    claims = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [row[1:4] for row in claims[:3]] == [["MXLS", measure, "holds"] for measure in ("R-1", "R-2", "R-L")]
    assert all(row[6:] == ["2 of 2", "2 of 2"] for row in claims[:3])
    assert all(row[3] in ("may be chance", "not seen") for row in claims[3:])
    assert text.count("| the contrary |") == 3
    # A block of three rows for each source, and the averages; the best of a column is bold.
    table = [line for line in text.splitlines() if line.startswith(("| english →", "| urdu →", "| Avg."))]
    assert len(table) == 3
    english_to_urdu = next(line.split("|")[4] for line in text.splitlines() if "| D²TV |" in line)
    assert english_to_urdu.count("**") == 6
    # The mean of two seeds is what stands in the table.
    assert (out / "table.tex").read_text().startswith(r"\begin{tabular}{llrrr}")
    assert len(Page(out / "table.html").all("tr")) == 1 + 3 * 3


def test_a_training_of_another_recipe_is_not_taken_for_the_studys(tiny_corpus: Corpus, tmp_path: Path) -> None:
    words = [*tiny_overrides(tiny_corpus.directory, tmp_path), "training.steps=6"]
    words = [word for word in words if not word.startswith(("run=", "training.seed"))]
    definition = Definition.model_validate({"models": {"A": "mms", "B": "d2tv"}, "baseline": "A", "seeds": [0]})

    def planned(*more: str) -> Trial:
        return trials(definition, tmp_path / "out", ds_config=FP32, ranks=1, overrides=[*words, *more])[0]

    trial = planned()
    assert not is_finished(trial)
    checkpoint, _ = write_checkpoint(trial.recipe, tiny_corpus)
    assert not is_finished(trial)  # it was not evaluated
    report = {
        "step": 6,
        "checkpoint": identity(checkpoint),
        "settings": trial.recipe.evaluation.model_dump(mode="json"),
    }
    (trial.run / "evaluation").mkdir()
    (trial.run / "evaluation" / "test.json").write_text(json.dumps(report))
    assert is_finished(trial)
    assert is_finished(planned("prometheus.enabled=false"))
    assert not is_finished(planned("evaluation.num_beams=3"))
    with pytest.raises(InputError, match="was trained with another optimizer than this study has"):
        is_finished(planned("optimizer.learning_rate=0.5"))
    (trial.run / "evaluation" / "test.json").write_text(json.dumps({"checkpoint": identity(checkpoint)}))
    assert not is_finished(trial)  # of no step and no settings


def test_claims_count_seeds_and_directions(tmp_path: Path) -> None:
    from launcher.comparison.systems import System, read_systems

    runs = {
        "a": (write_run(tmp_path / "a0", 0.0), write_run(tmp_path / "a1", 0.0, seed=1)),
        "b": (write_run(tmp_path / "b0", 4.0, seed=2), write_run(tmp_path / "b1", -1.0, seed=3)),
    }
    whole = read_systems([System(name=n, runs=of) for n, of in runs.items()], split="test", measures=["rougeL"])
    alone = [
        read_systems([System(name=n, runs=of[k : k + 1]) for n, of in runs.items()], split="test", measures=["rougeL"])
        for k in (0, 1)
    ]
    claim = Claim(better="b", than="a", kind="mxls")
    (outcome,) = check_claims([claim], whole, alone, ["rougeL"], samples=1000, seed=0)
    assert outcome.difference.mean == pytest.approx(1.5, abs=0.5)
    assert (outcome.verdict, outcome.directions, outcome.of, outcome.seeds) == ("holds", 2, 2, 1)


def test_directories_are_plain_words() -> None:
    assert [slug(name) for name in ("D²TV", "MMS+MXLS", "w/o Visual")] == ["d2tv", "mms-mxls", "w-o-visual"]


def test_results_of_no_study_are_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["study", "table1", "--ds_config", str(FP32), "--out", str(tmp_path)]
    (tmp_path / "study.md").write_text("# My own notes\n")
    assert main(words) == 2
    assert capsys.readouterr().err == (
        f"error: {tmp_path}/study.md is not of a study, and would be replaced: choose another --out\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["study.md"]
    assert (tmp_path / "study.md").read_text() == "# My own notes\n"


@pytest.mark.parametrize("name", ["", "study.md", "costs.jsonl"])
def test_a_place_that_cannot_hold_results_is_refused_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    out = tmp_path / "out"
    if name:
        out.mkdir()
    os.mkfifo(out / name)
    assert main(["study", "table1", "--ds_config", str(FP32), "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert said.endswith(": choose another --out\n")
    assert said.count("\n") == 1
    assert (out / name).is_fifo()
