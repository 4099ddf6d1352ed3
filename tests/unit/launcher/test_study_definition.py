"""Test the file of `d2tv study`: the shipped ones, the trainings they ask for, and what does not fit."""

import os
from pathlib import Path

import pytest
import yaml

from launcher.cli import main
from launcher.study.definition import Definition, load_study, slug, study_names, trials
from models.objectives.across_config import AcrossConfig
from models.objectives.d2tv_config import D2TVConfig
from models.objectives.rc3_config import RC3Config
from shards.errors import InputError
from tests.support.harness import FP32
from tests.unit.launcher.test_study import DEFINITION


def test_the_shipped_study_is_the_papers_table() -> None:
    study = load_study("table1")
    rc3 = ["rc3_retrieval", "rc3_translation"]
    assert study_names() == ["across", "across_selection", "amid", "distillation", *rc3, "table1", "table2"]
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


def test_help_names_every_study(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["study", "--help"])
    told = capsys.readouterr().out
    assert [name for name in study_names() if name not in told] == []


def test_table_2_is_the_papers_rows_on_mms_mxls() -> None:
    study = load_study("table2")
    assert study.baseline == next(iter(study.models)) == "MMS+MXLS"
    planned = trials(study, Path("out"), ds_config=FP32, ranks=2, overrides=["training.steps=7"])
    assert len({trial.run for trial in planned}) == len(planned) == 21
    rows = [trial.recipe for trial in planned[:7]]
    assert [recipe.objective.name for recipe in rows] == ["d2tv"] * 4 + ["cat"] + ["d2tv"] * 2
    assert [recipe.network.vision.enabled for recipe in rows] == [True, False, *[True] * 5]
    of_d2tv = [settings for recipe in rows if isinstance(settings := recipe.objective.settings(), D2TVConfig)]
    added = [(settings.distillation, settings.contrast) for settings in of_d2tv]
    assert added == [("none", False)] * 2 + [("vanilla", False), ("dual", False), ("none", True), ("dual", True)]
    assert {settings.alpha_steps for settings in of_d2tv if settings.distillation != "none"} == {800}


def test_distillation_study_differs_in_distillation_alone() -> None:
    planned = trials(load_study("distillation"), Path("out"), ds_config=FP32, ranks=2, overrides=[])
    settings = [trial.recipe.objective.settings() for trial in planned[:7]]
    others = [trial.recipe.model_dump(exclude={"run", "objective"}) for trial in planned[:7]]
    assert all(one == others[0] for one in others)
    assert all(isinstance(one, D2TVConfig) and not one.contrast and one.branches == "both" for one in settings)
    assert [(one.distillation, one.distance) for one in settings if isinstance(one, D2TVConfig)] == [
        ("none", "cosine"),
        *(("vanilla", distance) for distance in ("cosine", "mse", "kl")),
        *(("dual", distance) for distance in ("cosine", "mse", "kl")),
    ]


def test_selection_study_differs_in_the_augmented_corpus_alone() -> None:
    planned = trials(load_study("across_selection"), Path("out"), ds_config=FP32, ranks=2, overrides=[])
    of_corpora = [trial.recipe.model_dump(exclude={"run", "corpus"}) for trial in planned[2:6]]
    assert all(one == of_corpora[0] for one in of_corpora)
    assert len({trial.recipe.corpus.path for trial in planned[2:6]}) == 4


def test_across_study_adds_alignment_and_augmentation() -> None:
    planned = trials(load_study("across"), Path("out"), ds_config=FP32, ranks=2, overrides=[])
    first, *others = planned[:6]
    augmented = [trial.recipe.corpus.path != first.recipe.corpus.path for trial in others]
    assert augmented == [False, True, False, True, True]
    assert first.recipe.mixture.kinds == ("mms",)
    settings = [trial.recipe.objective.settings() for trial in others]
    assert [(one.consistency, one.contrast) for one in settings if isinstance(one, AcrossConfig)] == [
        (False, False),
        (False, False),
        (True, False),
        (True, False),
        (True, True),
    ]
    assert [trial.recipe.references["mls"].initialises for trial in others] == [False, True, True, True, True]
    for trial in planned[:6]:
        assert trial.recipe.corpus.most_examples == {"ru-en": 400, "ur-en": 100}
        assert trial.recipe.mixture.directions == trial.recipe.evaluation.directions == "*-en"
        assert trial.recipe.mixture.languages == ("english", "indonesian", "russian", "urdu")
    assert {trial.recipe.references["mls"].model for trial in others} == {first.run}


def test_amid_study_leaves_out_one_part_at_a_time() -> None:
    study = load_study("amid")
    planned = trials(study, Path("out"), ds_config=FP32, ranks=2, overrides=[])[: len(study.models)]
    settings = {trial.model: trial.recipe.objective.settings().model_dump() for trial in planned}
    whole = settings.pop("AMID")
    changed = {model: {key for key in of if of[key] != whole[key]} for model, of in settings.items()}
    weights = {"divergence", "alpha1", "alpha2", "alpha3"}
    assert changed == {
        "student alone": weights | {"teacher"},
        "teacher alone": weights | {"student"},
        "MI_s": {"alpha2", "alpha3"},
        "MI_s + MI_a": {"alpha3"},
        "AMID with NCE": {"bound"},
        "w/o warm-up": {"warmup_steps"},
        "w/o D2": {"enhanced"},
        "w/o dynamic weight": {"adaptive"},
    }
    others = [trial.recipe.model_dump(exclude={"run", "objective"}) for trial in planned]
    assert all(one == others[0] for one in others)


@pytest.mark.parametrize(("name", "measure"), [("rc3_translation", "chrf"), ("rc3_retrieval", "recall1")])
def test_rc3_studies_fine_tune_what_was_pre_trained(name: str, measure: str) -> None:
    study = load_study(name)
    assert study.measures[0] == measure
    planned = trials(study, Path("out"), ds_config=FP32, ranks=2, overrides=[])
    stages, tuned = planned[:6], planned[6:13]
    assert [trial.model for trial in stages] == list(study.stages)
    assert study.compared == [trial.model for trial in tuned]
    read = [trial.recipe.references["pretrained"].model for trial in tuned]
    assert read == [*(trial.run for trial in stages), stages[0].run]
    for stage, trial in zip(stages, tuned, strict=False):
        assert stage.recipe.network == trial.recipe.network, trial.model
    assert [trial.recipe.references["pretrained"].initialises for trial in tuned] == [True] * 6 + [False]
    settings = [trial.recipe.objective.settings() for trial in stages]
    without = [
        (not one.relevance, not one.contrast, not one.textual_contrast)
        for one in settings
        if isinstance(one, RC3Config)
    ]
    nothing = (False, False, False)
    assert without == [nothing, (True, False, False), (False, True, False), (False, True, True), nothing, nothing]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"stages": ["Bth"]}, "stages: 'Bth' is no model of it (did you mean 'Both'?)"),
        ({"stages": ["Both"]}, "'Both' is a stage, which is in no table: compare others"),
        ({"measures": ["chr"]}, "measures: no measure 'chr' (did you mean 'chrf'?)"),
        ({"only": {"D2TV": ["objective.beta=2"]}}, "only: 'D2TV' is no model of it (did you mean 'D²TV'?)"),
        ({"only": {"Both": ["objective.bta=2"]}}, "(did you mean 'beta'?)"),
        ({"basline": "MMS"}, "unknown key 'basline' (did you mean 'baseline'?)"),
        ({"baseline": "MXLS"}, "'MXLS' is no model of it"),
        ({"claims": [{"better": "MMS", "than": "MMS"}]}, "claims: 'MMS' is compared with itself"),
        ({"claims": [{"better": "D2TV", "than": "MMS"}]}, "'D2TV' is no model of it (did you mean 'D²TV'?)"),
        ({"seeds": [1, 1]}, "seeds [1, 1]: each once"),
        ({"seeds": []}, "seeds: has too few values"),
        ({"models": {"A b": "mms", "a-b": "mxls"}, "baseline": "a-b", "claims": []}, "two would have one directory"),
        ({"models": {"MMS": "mms", "Both": "mms_mxl", "D²TV": "d2tv"}}, "no recipe 'mms_mxl'"),
        ({"overrides": ["training.stps=3"]}, "training.stps"),
        ({"after": {"D2TV": {"mls": "MMS"}}}, "after: 'D2TV' is no model of it (did you mean 'D²TV'?)"),
        ({"after": {"Both": {"mls": "MMS"}}}, "'Both' is trained before 'MMS', which it reads: list 'MMS' first"),
        ({"after": {"D²TV": {"mls": "Both"}}}, "references.mls: objective 'd2tv' reads no such network"),
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


def test_a_model_reads_the_one_that_was_trained_before_it_with_its_seed() -> None:
    models = {"MLS": "across_mls", "ACROSS": "across"}
    definition = Definition(models=models, after={"ACROSS": {"mls": "MLS"}}, baseline="MLS", seeds=(3, 4))
    planned = trials(definition, Path("out"), ds_config=FP32, ranks=1, overrides=["training.steps=9"])
    assert [trial.model for trial in planned] == ["MLS", "ACROSS"] * 2
    for first, second in (planned[:2], planned[2:]):
        assert second.recipe.references["mls"].model == first.run
        assert first.recipe.references == {}


def test_overrides_of_one_model_come_between_those_of_all_and_those_of_the_command() -> None:
    values = DEFINITION | {"overrides": ["objective.beta=2"], "only": {"Both": ["objective.beta=3"]}}
    definition = Definition.model_validate(values)
    for given, expected in (([], [2, 3, 2]), (["objective.beta=4"], [4, 4, 4])):
        planned = trials(definition, Path("out"), ds_config=FP32, ranks=1, overrides=given)
        assert [trial.recipe.objective.model_dump()["beta"] for trial in planned[:3]] == expected


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
    assert main(["study", "acros", "--ds_config", str(FP32)]) == 2
    assert "no study 'acros' (did you mean 'across'?)" in capsys.readouterr().err


def test_directories_are_plain_words() -> None:
    assert [slug(name) for name in ("D²TV", "MMS+MXLS", "w/o Visual")] == ["d2tv", "mms-mxls", "w-o-visual"]
