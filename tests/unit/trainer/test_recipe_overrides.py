"""key=value words are read as their key's type says, paths survive whatever is in them, messages speak no Python."""

import copy
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from launcher.study.definition import load_study, trials
from models.objectives.d2tv import D2TVConfig
from shards.errors import InputError
from shards.locations import without_secrets
from trainer.recipe import Recipe, load_recipe, validated
from trainer.recipe.values import is_model, members, read_values

D2TV = read_values("d2tv")
DS_CONFIG = Path(__file__).resolve().parents[3] / "ds_configs" / "zero2_cpu.json"


NAMES = (
    """exp #2|12345|no|1e5|{a}|[a]|*x|&x|!x| x|x |a: b|true|2026-08-01|'q'|"|-|~user/x|a\\b|0x1f|null-1|%x|@x|a=b|a,b"""
)


@pytest.mark.parametrize("name", [*NAMES.split("|"), "a\nb", "\u202eevil", "\U0001f600", "x" * 250])
def test_a_path_is_taken_literally_and_survives_the_dump(tmp_path: Path, name: str) -> None:
    recipe = load_recipe("d2tv", [f"run={name}", f"corpus.tokenizer={name}", f"loader.cache={name}"])
    assert (recipe.run, recipe.corpus.tokenizer, recipe.loader.cache) == (Path(name), name, Path(name))
    (tmp_path / "recipe.yaml").write_text(recipe.dump(), encoding="utf-8")
    assert load_recipe(str(tmp_path / "recipe.yaml")) == recipe


@settings(max_examples=40)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(str.strip))
@example("~")
@example("./~")
@example("~/x")
@example("a://b")
def test_any_path_is_itself_or_refused(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    try:
        recipe = load_recipe("d2tv", [f"run={name}"])
    except InputError:
        assert "://" in name or without_secrets(name) != name
        return
    assert recipe.run == Path(os.path.expanduser(name))
    path = tmp_path_factory.mktemp("dump") / "recipe.yaml"
    path.write_text(recipe.dump(), encoding="utf-8")
    assert load_recipe(str(path)).run == recipe.run


def test_a_tilde_is_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    (tmp_path / "mine.yaml").write_text(
        "extends: d2tv\nrun: ~/runs/x\ncorpus: {path: ~/data, tokenizer: ~/tok}\nloader: {cache: ~/cache}\n"
        "evaluation: {labse: ~/labse}\nprometheus: {token_file: ~/token}\n"
    )
    recipe = load_recipe(str(tmp_path / "mine.yaml"))
    assert (recipe.run, recipe.loader.cache) == (Path("/home/me/runs/x"), Path("/home/me/cache"))
    assert (recipe.corpus.path, recipe.corpus.tokenizer) == ("/home/me/data", "/home/me/tok")
    assert (recipe.evaluation.labse, recipe.prometheus.token_file) == (Path("/home/me/labse"), Path("/home/me/token"))
    overridden = load_recipe("d2tv", ["run=~/x", "corpus.path=~/c", "run=./~/y"])
    assert (overridden.run, overridden.corpus.path) == (Path("~/y"), "/home/me/c")
    (tmp_path / "saved.yaml").write_text(overridden.dump())
    assert load_recipe(str(tmp_path / "saved.yaml")) == overridden
    shape = load_recipe("d2tv", ["network.text={pretrained: ~/mt5, dropout: 0.1}"])
    assert shape.network.text.pretrained == "/home/me/mt5"


@pytest.mark.parametrize("text", ["en,id,ru,ur", "en, id, ru, ur", "[en, id, ru, ur]", "['en', id, ru, ur]"])
def test_languages_are_a_list_in_either_form(tmp_path: Path, text: str) -> None:
    (tmp_path / "mine.yaml").write_text(f"extends: d2tv\nmixture:\n  languages: {text}\n")
    for recipe in (load_recipe("d2tv", [f"mixture.languages={text}"]), load_recipe(str(tmp_path / "mine.yaml"))):
        assert recipe.mixture.languages == ("en", "id", "ru", "ur")


def test_other_lists_take_both_forms_too() -> None:
    recipe = load_recipe("d2tv", ["mixture.kinds=mxls", "optimizer.betas=0.8,0.9"])
    assert (recipe.mixture.kinds, recipe.optimizer.betas) == (("mxls",), (0.8, 0.9))
    assert load_recipe("d2tv", ["mixture.languages="]).mixture.languages is None
    changes = load_recipe("d2tv", ["mixture.changes=[{from_step: 2, languages: 'en,ru', kinds: mms}]"]).mixture.changes
    assert (changes[0].languages, changes[0].kinds) == (("en", "ru"), ("mms",))


def test_nothing_is_null_only_where_null_is_allowed() -> None:
    recipe = load_recipe("d2tv", ["corpus.tokenizer=", "training.precision=null", "loader.cache="])
    assert (recipe.corpus.tokenizer, recipe.training.precision, recipe.loader.cache) == (None, None, None)
    for key in ("run", "corpus.path"):
        with pytest.raises(InputError, match=f"{key}: is empty"):
            load_recipe("d2tv", [f"{key}="])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training: {steps: 1:30}", "training.steps: must be a whole number"),
        ("training: {steps: '50'}", "training.steps: must be a whole number, not the text '50'"),
        ("training: {steps: 1_000}", "training.steps: must be a whole number"),
        ("training: {steps: true}", "training.steps: must be a whole number, not true"),
        ("training: {compile: no}", "training.compile: must be true or false, not the text 'no'"),
        ("training: {compile: 1}", "training.compile: must be true or false, not 1"),
        ("optimizer: {eps: '1e-8'}", "optimizer.eps: must be a number, not the text '1e-8'"),
        ("objective: {alpha_steps: '5'}", "objective.alpha_steps: must be a whole number, not the text '5'"),
        ("network: {text: {num_layers: true}}", "network.text.num_layers: must be a whole number, not true"),
        ("run: 12345", "run: must be a path: put it in quotes (got 12345)"),
        ("mixture: {languages: 3}", "mixture.languages: must be a list, like [a, b] or a,b (got 3)"),
        ("mixture: {changes: [{from_step: true}]}", "mixture.changes.0.from_step: must be a whole number"),
        ("training:\n  steps: 50\ntraining:\n  log_every: 5", "key 'training' stands in line 2 and again in line 4"),
    ],
)
def test_a_value_of_another_kind_is_not_taken_for_one(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mine.yaml").write_text(f"extends: d2tv\n{text}\n")
    with pytest.raises(InputError) as caught:
        load_recipe(str(tmp_path / "mine.yaml"))
    assert message in str(caught.value)


def test_ten_is_ten() -> None:
    assert load_recipe("d2tv", ["training.steps=010"]).training.steps == 10


def fields(model: type[BaseModel], place: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield place + name
        for kind in members(field.annotation):
            if is_model(kind):
                yield from fields(kind, f"{place}{name}.")


ODD: list[Any] = [[], [[]], ["x"], {}, {"x": {"y": []}}, "x", "", "\ud800", -1, 10**40, 1.5, float("nan"), True, None]
PYTHON = re.compile(r"[Tt]uple|dict|instance|integer|boolean|None|[Ii]nput\b|True|False|valid (string|list)|pydantic")


def with_value(key: str, value: Any) -> dict[str, Any]:
    """The values of the recipe d2tv with another one at `key`."""
    values = copy.deepcopy(D2TV)
    *sections, last = key.split(".")
    inner = values
    for section in sections:
        inner = inner.setdefault(section, {})
    inner[last] = value
    return values


def test_no_message_speaks_of_the_types_of_python() -> None:
    """Every key of a recipe, with values that do not fit it."""
    keys = [*fields(Recipe), *fields(D2TVConfig, "objective.")]
    assert len(keys) > 100
    messages = []
    for key in keys:
        for value in ODD:
            try:
                validated(with_value(key, value), "it")
            except InputError as error:
                messages.append(str(error))
    assert len(messages) > 800
    assert [message for message in messages if PYTHON.search(message) or "\n" in message] == []


SECRETS = [
    "http://canary@host/corpus",
    "http://me:canary@host/corpus",
    "https://host/corpus?signature=canary",
    "https://host/corpus#canary",
    "s3://canary:canary@bucket/corpus",
    "http:/canary@host/corpus",
    "http://canary%40host/corpus",
    "HTTP://canary@host/corpus",
    "ftp://me:canary@host/corpus",
    "http://me:can ary@host/?canary",
]


@pytest.mark.parametrize("url", SECRETS)
def test_a_secret_in_a_url_is_neither_saved_nor_shown(url: str) -> None:
    for key in (*fields(Recipe), "objective.name", "objective.beta", "no.such.key"):
        with pytest.raises(InputError) as caught:
            validated(with_value(key, url), "it")
        assert "canary" not in str(caught.value)
    for words in (f"corpus.path={url}", f"training.steps={url}", f"mixture.weights={{'{url}': 1}}", f"{url}=3", url):
        with pytest.raises(InputError) as caught:
            load_recipe("d2tv", [words])
        assert "canary" not in str(caught.value)
    with pytest.raises(InputError) as caught:
        load_recipe(url)
    assert "canary" not in str(caught.value)


def test_a_url_without_a_secret_is_taken() -> None:
    for url in ("https://host:8443/a/b", "s3://bucket/a@b"):
        assert load_recipe("d2tv", [f"corpus.path={url}"]).corpus.path == url


def test_a_study_keeps_its_trainings_apart_whatever_its_directory_is_called(tmp_path: Path) -> None:
    for name in ("exp #1", "a: b", "{x}", "12", "*", "no", "~x", "a'b"):
        planned = trials(load_study("table1"), tmp_path / name, ds_config=DS_CONFIG, ranks=None, overrides=())
        assert len({trial.run for trial in planned}) == 15
        assert {trial.run.parent for trial in planned} == {tmp_path / name}
        assert all(f"run={trial.run}" in trial.job.train_words(None) for trial in planned)
