"""`d2tv study`: its trainings, and what it makes of their evaluations."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from launcher.cli import main
from launcher.study.begun import BEGUN, check_definition, keep_definition
from launcher.study.claims import check_claims
from launcher.study.costs import COSTS, Meter, machine, read_costs
from launcher.study.definition import Claim, Definition, Trial, load_study, trials
from launcher.study.results import write_results
from launcher.study.run import is_finished
from shards.errors import InputError
from shards.format.index import Corpus
from tests.support.checkpoints import write_checkpoint
from tests.support.forkserver import ROOT
from tests.support.harness import FP32
from tests.support.pages import Page
from tests.support.runs import start, train, write_records
from tests.support.tiny import tiny_overrides
from tests.support.waiting import until
from tests.unit.launcher.test_compare import write_run
from trainer.checkpoint.directory import identity

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


def test_results_say_what_holds(tmp_path: Path) -> None:
    definition = Definition.model_validate(DEFINITION)
    out = tmp_path / "mini"
    words = [word for word in tiny_overrides(tmp_path / "corpus", tmp_path / "run") if not word.startswith("run=")]
    words = [word for word in words if not word.startswith("training.seed")]
    planned = trials(definition, out, ds_config=FP32, ranks=2, overrides=words)
    for trial in planned:
        gain = {"MMS": -2.0, "Both": 0.0, "D²TV": 1.0}[trial.model]
        write_run(trial.run, gain, seed=10 * trial.seed + len(trial.model))
        if trial.model != "MMS":  # as of an earlier release: its records have neither seconds nor FLOPs
            write_records(trial.run, step_records(trial))
    costs: list[dict[str, object]] = [
        {"run": trial.run.name, "wall_seconds": 600.0, "cpu_seconds": 1000.0} for trial in planned[1:]
    ]
    # As an attempt on another machine wrote it until it was cut off.
    for wall in (0.0, 300.0, 600.0):
        of = {"attempt": "ab", "machine": "64 cores (another machine)", "ended": False}
        costs.append({"run": planned[1].run.name, "wall_seconds": wall, "cpu_seconds": wall} | of)
    costs.append({"run": "of another study", "wall_seconds": 1e6, "cpu_seconds": 1e6})
    (out / COSTS).write_text("".join(json.dumps(cost) + "\n" for cost in costs) + '{"run": "d2t')  # cut by a kill
    write_results(definition, planned, out, samples=1000, command="d2tv study mini", console=Console(quiet=True))

    text = (out / "study.md").read_text()
    assert "`d2tv study mini`" in text
    took = "6 trainings with their evaluations took 1.00 hours and 93 CPU minutes, in 6 attempts"
    assert f"{took}, of which 1 was cut off: their last minute is not counted; of 1 trainings the cost is not" in text
    assert "on 64 cores (another machine)." in text
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
    # Seconds without the first interval after each start; ratios within a seed, though one machine was twice as slow.
    lines = text.partition("## Cost of a step")[2].split("\n")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert rows[2][1:] == ["seconds", "÷ Both", "GFLOP", "÷ Both"]
    assert rows[4:7] == [
        ["MMS", "–", "–", "–", "–"],
        ["Both", "3", "1.00", "40.0", "1.00"],
        ["D²TV", "4.5", "1.50", "50.0", "1.25"],
    ]
    found = json.loads((out / "study.json").read_text())
    assert found["step_costs"]["MMS"] == dict.fromkeys(("seconds", "seconds_ratio", "flops", "flops_ratio"))
    assert found["step_costs"]["D²TV"] == {"seconds": 4.5, "seconds_ratio": 1.5, "flops": 5e10, "flops_ratio": 1.25}
    assert [(one["better"], one["kind"], one["measure"]) for one in found["claims"][:3]] == [
        ("D²TV", "mxls", measure) for measure in ("rouge1", "rouge2", "rougeL")
    ]
    assert all(one["verdict"] == "holds" and one["p"] < 0.05 for one in found["claims"][:3])
    assert found["claims"][0]["mean"] == pytest.approx(1.0)
    # The mean of two seeds is what stands in the table.
    assert (out / "table.tex").read_text().startswith(r"\begin{tabular}{llrrr}")
    assert len(Page(out / "table.html").all("tr")) == 1 + 3 * 3


def step_records(trial: Trial) -> list[dict[str, object]]:
    """Records of a training that was resumed once. D²TV takes 1.5 times as long; seed 1 was on a slow machine."""
    usual = {"Both": 2.0, "D²TV": 3.0}[trial.model] * (1 + trial.seed)
    flops = {"Both": 4e10, "D²TV": 5e10}[trial.model]
    steps = ((10, 90.0), (20, usual), (30, 1.01 * usual), (40, 0.99 * usual), (50, 80.0), (60, usual))
    intervals = [train(step, step_seconds=seconds, step_flops=flops) for step, seconds in steps]
    return [start(), *intervals[:4], start(step=40, restarts=1), *intervals[4:]]


@pytest.fixture
def bf16(tmp_path: Path) -> Path:
    """DeepSpeed's keys as `write_checkpoint` has them."""
    path = tmp_path / "bf16.json"
    path.write_text(json.dumps(json.loads(FP32.read_text()) | {"bf16": {"enabled": True}}))
    return path


def test_a_training_of_another_recipe_is_not_taken_for_the_studys(
    tiny_corpus: Corpus, tmp_path: Path, bf16: Path
) -> None:
    words = [*tiny_overrides(tiny_corpus.directory, tmp_path), "training.steps=6"]
    words = [word for word in words if not word.startswith(("run=", "training.seed"))]
    definition = Definition.model_validate({"models": {"A": "mms", "B": "d2tv"}, "baseline": "A", "seeds": [0]})

    def planned(*more: str, ds_config: Path = bf16) -> Trial:
        return trials(definition, tmp_path / "out", ds_config=ds_config, ranks=1, overrides=[*words, *more])[0]

    trial = planned()
    assert not is_finished(trial)
    checkpoint, _ = write_checkpoint(trial.recipe, tiny_corpus)
    assert not is_finished(trial)  # it was not evaluated
    report = {
        "step": 6,
        "checkpoint": identity(checkpoint),
        "settings": trial.recipe.evaluation.facts(),
    }
    (trial.run / "evaluation").mkdir()
    (trial.run / "evaluation" / "test.json").write_text(json.dumps(report))
    assert is_finished(trial)
    assert is_finished(planned("prometheus.enabled=false"))
    assert not is_finished(planned("evaluation.num_beams=3"))
    assert is_finished(planned("training.log_every=7", "loader.threads=1"))  # nothing of the mathematics
    for changed in ("optimizer.learning_rate=0.5", "training.steps=12", "batch.group_size=2"):
        with pytest.raises(InputError) as caught:
            is_finished(planned(changed))
        key = re.escape(f"{trial.run} was begun with another {changed.partition('=')[0]}")
        assert re.fullmatch(rf"{key} \([\d.]+\): restore it, or choose another --out, or remove it", str(caught.value))
    with pytest.raises(InputError, match=r"was begun in bf16, with another 'bf16' in --ds_config"):
        is_finished(planned(ds_config=FP32))
    (trial.run / "evaluation" / "test.json").write_text(json.dumps({"checkpoint": identity(checkpoint)}))
    assert not is_finished(trial)  # of no step and no settings


def test_claims_count_seeds_and_directions(tmp_path: Path) -> None:
    from trainer.evaluation.compare.systems import System, read_systems

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


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"baseline": "MMS"}, "other baseline"),
        ({"claims": []}, "other claims"),
        ({"overrides": ["training.steps=7"]}, "other overrides"),
        ({"only": {"Both": ["training.steps=7"]}}, "other only.Both"),
        ({"seeds": [0, 2]}, "seed 1"),
        ({"models": {"MMS": "mms", "Both": "vanilla_kd", "D²TV": "d2tv"}}, "models.Both mms_mxls"),
        ({"models": {"MMS": "mms", "Both": "mms_mxls"}, "claims": []}, "models.D²TV d2tv"),
    ],
)
def test_a_study_that_has_changed_since_it_was_begun_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, object], found: str
) -> None:
    out, path = tmp_path / "out", tmp_path / "study.yaml"
    keep_definition(Definition.model_validate(DEFINITION), out)
    before = (out / BEGUN).read_bytes()
    path.write_text(yaml.safe_dump(DEFINITION | change))
    assert main(["study", str(path), "--ds_config", str(FP32), "--out", str(out)]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: {out} was begun with {found}, and the study has changed since: restore what ")
    assert told.count("\n") == 1
    assert [file.name for file in out.iterdir()] == [BEGUN]
    assert (out / BEGUN).read_bytes() == before
    (out / BEGUN).unlink()
    check_definition(load_study(str(path)), out)


def test_what_a_model_reads_stays_as_it_was_begun(tmp_path: Path) -> None:
    models = {"X": "across_mls", "Y": "across_mls", "ACROSS": "across"}
    begun, now = (
        Definition(models=models, after={"ACROSS": {"mls": read}}, baseline="X", seeds=(0,)) for read in ("X", "Y")
    )
    keep_definition(begun, tmp_path)
    check_definition(begun, tmp_path)
    with pytest.raises(InputError, match=r"was begun with after\.ACROSS \{'mls': 'X'\}"):
        check_definition(now, tmp_path)


def test_models_and_seeds_may_be_added(tmp_path: Path) -> None:
    begun = Definition.model_validate(DEFINITION)
    check_definition(begun, tmp_path / "new")
    keep_definition(begun, tmp_path / "new")
    check_definition(begun, tmp_path / "new")
    more = {"seeds": [0, 1, 2], "models": {**begun.models, "MXLS": "mxls"}}
    check_definition(Definition.model_validate(DEFINITION | more), tmp_path / "new")


def test_one_training_that_does_not_fit_is_refused_before_another_is_begun(
    tiny_corpus: Corpus, tmp_path: Path, bf16: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*tiny_overrides(tiny_corpus.directory, tmp_path), "training.steps=6"]
    words = [word for word in words if not word.startswith(("run=", "training.seed"))]
    path, out = tmp_path / "mini.yaml", tmp_path / "out"
    path.write_text(yaml.safe_dump({"models": {"A": "mms", "B": "d2tv"}, "baseline": "A", "seeds": [0]}))
    last = trials(load_study(str(path)), out, ds_config=bf16, ranks=1, overrides=words)[1]
    write_checkpoint(last.recipe, tiny_corpus)
    before = sorted(out.rglob("*"))
    words = ["study", str(path), "--ds_config", str(bf16), "--out", str(out), *words, "optimizer.learning_rate=0.5"]
    assert main(words) == 2
    assert capsys.readouterr().err.startswith(f"error: {last.run} was begun with another optimizer.learning_rate (")
    assert sorted(out.rglob("*")) == before


#: An attempt with a child that works without end.
_ATTEMPT = """
import subprocess, sys, time
from pathlib import Path
from launcher.study.costs import Meter
with Meter(Path(sys.argv[1]), "a-seed0", every=0.05):
    subprocess.run([sys.executable, "-c", "while True: pass"])
"""


def test_what_an_attempt_took_outlives_the_machine(tmp_path: Path) -> None:
    out = tmp_path / "out"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", _ATTEMPT, str(out)], env=environment, start_new_session=True)
    until(lambda: any(cost.cpu_seconds > 0.5 for cost in read_costs(out, ["a-seed0"])) or process.poll() is not None)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    with open(out / COSTS, "a") as file:
        file.write('{"run": "a-seed0", "attempt": "x", "wall_se')  # the last line it wrote, cut off
    (cut,) = read_costs(out, ["a-seed0"])
    assert not cut.ended
    assert cut.cpu_seconds > 0.5
    assert cut.wall_seconds > 0
    shutil.copytree(out, tmp_path / "copy")
    with Meter(tmp_path / "copy", "a-seed0"), Meter(tmp_path / "copy", "b-seed0"):
        subprocess.run([sys.executable, "-c", "sum(range(10**6))"], check=True)
    first, second, other = read_costs(tmp_path / "copy", ["a-seed0", "b-seed0"])
    assert first == cut
    assert second.ended
    assert second.cpu_seconds > 0
    assert (second.machine, second.run, other.run) == (machine(), "a-seed0", "b-seed0")
    assert read_costs(tmp_path / "copy", ["b-seed0"]) == [other]
