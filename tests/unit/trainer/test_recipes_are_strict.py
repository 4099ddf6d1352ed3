"""Reading a recipe: every mistake is one line that names the key, and what is read is what is written back."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from models.objectives.d2tv_config import D2TVConfig
from shards.errors import InputError
from tests.support.tiny import tiny_overrides
from trainer.recipe import load_recipe, load_saved_recipe
from trainer.recipe.values import recipe_names


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.step=3", "unknown key 'training.step' (did you mean 'steps'?)"),
        ("trainning.steps=3", "unknown key 'trainning' (did you mean 'training'?)"),
        ("network.vision.feature_sise=3", "unknown key 'network.vision.feature_sise' (did you mean 'feature_size'?)"),
        ("objective.temprature=0.2", "unknown key 'objective.temprature' (did you mean 'temperature'?)"),
        ("mixture.orientatoin=target_first", "unknown key 'mixture.orientatoin' (did you mean 'orientation'?)"),
        ("zzzzz=3", "unknown key 'zzzzz'"),
        ("training.steps=many", "training.steps:"),
        ("training.steps=0", "training.steps:"),
        ("training.steps=1.5", "training.steps:"),
        ("training.steps=", "training.steps:"),
        ("optimizer.learning_rate=-1e-3", "optimizer.learning_rate:"),
        ("optimizer.learning_rate=nan", "optimizer.learning_rate:"),
        ("optimizer.learning_rate=inf", "optimizer.learning_rate:"),
        ("optimizer.betas=[0.9]", "optimizer.betas"),
        ("optimizer.betas=[0.9, 1.0]", "optimizer.betas.1:"),
        ("schedule.kind=cosine", "schedule.kind:"),
        ("prometheus.port=70000", "prometheus.port:"),
        ("mixture.kinds=[mms, mlxs]", "mixture.kinds.1:"),
        ("mixture.kinds=[]", "mixture.kinds:"),
        ("lengths.summary=1", "lengths.summary:"),
        ("training=3", "training:"),
        ("objective.name=d2vt", "objective.name: no objective 'd2vt' (did you mean 'd2tv'?)"),
        ("objective.name=3", "objective.name:"),
        ("objective.alpha_steps=0", "objective.alpha_steps:"),
        ("objective.branches=mms", "set branches to 'both'"),
        ("network.vision.enabled=false", "set objective.contrast to false"),
        ("network.text.pretrained=somewhere", "remove them"),
        ("network.text.d_model=", "give either pretrained or the sizes"),
        ("network.fusion.num_heads=3", "num_heads 3 does not divide"),
        ("training.steps", "not of the form key=value"),
        ("=3", "not of the form key=value"),
        ("training.steps=[1", "is not YAML"),
        ("run.directory=x", "'run' is a value, not a section"),
    ],
)
def test_a_wrong_override_is_one_line_that_names_it(override: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        load_recipe("d2tv", [override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a mapping"),
        ("- run", "not a mapping"),
        ("run: [", "is not YAML"),
        ("run: runs/x", "key 'corpus' is missing"),
        ("extends: d2tv\ncorpus: {}", None),
        ("extends: d2tvv", "no recipe 'd2tvv' (did you mean 'd2tv'?)"),
        ("extends: mine", "extends itself"),
        ("extends: d2tv\ntraining: {steps: x}", "training.steps"),
        ("extends: d2tv\nlearning_rate: 1", "unknown key 'learning_rate'"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_it(tmp_path: Path, text: str, message: str | None) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    if message is None:
        assert load_recipe(str(path)) == load_recipe("d2tv")  # an empty section changes nothing
        return
    with pytest.raises(InputError) as caught:
        load_recipe(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_key_that_nothing_gives_is_said_to_be_missing(tmp_path: Path) -> None:
    values = yaml.safe_load(load_recipe("d2tv").dump())
    for section, key in (("training", "steps"), ("optimizer", "learning_rate"), ("corpus", "path")):
        without = values | {section: {k: v for k, v in values[section].items() if k != key}}
        (tmp_path / "x.yaml").write_text(yaml.safe_dump(without))
        with pytest.raises(InputError, match=f"key '{section}.{key}' is missing"):
            load_recipe(str(tmp_path / "x.yaml"))


def test_an_unknown_recipe_suggests_and_lists() -> None:
    with pytest.raises(InputError, match=r"did you mean 'mms_mxls'") as caught:
        load_recipe("mms-mxls")
    assert all(name in str(caught.value) for name in recipe_names())


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"run: \xff\xfe")
    with pytest.raises(InputError, match="cannot be read"):
        load_recipe(str(tmp_path / "x.yaml"))


def test_extends_takes_the_rest_from_the_parent_and_a_sibling_comes_first(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("extends: d2tv\ntraining: {steps: 7}\nbatch: {group_size: 2}\n")
    (tmp_path / "child.yaml").write_text("extends: base\nbatch: {groups_per_step: 24}\nrun: runs/child\n")
    child, default = load_recipe(str(tmp_path / "child.yaml")), load_recipe("d2tv")
    assert (child.training.steps, child.batch.group_size, child.batch.groups_per_step) == (7, 2, 24)
    assert child.run == Path("runs/child")
    assert child.training.log_every == default.training.log_every
    assert child.network == default.network


def test_later_overrides_win_over_earlier_ones_and_over_the_file() -> None:
    recipe = load_recipe("d2tv", ["training.steps=5", "training.steps=6", "mixture.languages=[no, en]"][:2])
    assert recipe.training.steps == 6


def test_an_override_may_begin_a_section_that_the_file_does_not_have() -> None:
    recipe = load_recipe("d2tv", ["mixture.kinds=[mxls]", "mixture.languages=[no, en, 'yes']", "loader.prefetch=0"])
    assert recipe.mixture.kinds == ("mxls",)
    assert recipe.mixture.languages == ("no", "en", "yes")  # language codes, not booleans
    assert recipe.loader.prefetch == 0


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-4", 1e-4), ("2E3", 2000.0), ("1.e-2", 0.01), (".5", 0.5), ("0.001", 0.001), ("1e+1", 10.0)],
)
def test_numbers_are_numbers_as_yaml_1_2_has_them(text: str, value: float) -> None:
    assert load_recipe("d2tv", [f"optimizer.learning_rate={text}"]).optimizer.learning_rate == value


@pytest.mark.parametrize("word", ["no", "yes", "on", "off", "y", "2026-08-01", "run-1e5", "1.2.3", "a:b", "~user"])
def test_words_that_yaml_1_1_would_turn_into_something_else_stay_words(word: str) -> None:
    assert load_recipe("d2tv", [f"run={word}"]).run == Path(word)


def test_only_true_and_false_are_booleans() -> None:
    assert load_recipe("d2tv", ["prometheus.enabled=false"]).prometheus.enabled is False
    assert load_recipe("d2tv", ["prometheus.enabled=True"]).prometheus.enabled is True
    assert load_recipe("d2tv", ["corpus.tokenizer=null"]).corpus.tokenizer is None


@pytest.mark.parametrize("name", recipe_names())
def test_a_dump_reads_back_to_the_same_recipe(tmp_path: Path, name: str) -> None:
    recipe = load_recipe(name)
    (tmp_path / "recipe.yaml").write_text(recipe.dump(), encoding="utf-8")
    assert load_recipe(str(tmp_path / "recipe.yaml")) == recipe


@pytest.mark.parametrize(("line", "images"), [("", "target"), ("\n  images: source", "source")])
def test_a_saved_recipe_of_an_earlier_release_means_what_was_done_then(tmp_path: Path, line: str, images: str) -> None:
    """They had no corpus.images, and showed the target's: so it is evaluated, whatever a new run's default is."""
    dump = load_recipe("d2tv").dump()
    assert dump.count("\n  images: source\n") == 1
    (tmp_path / "recipe.yaml").write_text(dump.replace("\n  images: source", line), encoding="utf-8")
    saved = load_saved_recipe(tmp_path / "recipe.yaml")
    assert saved.corpus.images == images
    assert load_saved_recipe(tmp_path / "recipe.yaml", ["corpus.images=source"]).corpus.images == "source"
    assert saved.model_copy(update={"corpus": load_recipe("d2tv").corpus}) == load_recipe("d2tv")


@pytest.mark.parametrize(
    ("images", "training", "rule"),
    [
        ("source", True, "source_or_target"),
        ("source", False, "source"),
        ("target", True, "target_or_source"),
        ("target", False, "target_or_source"),
    ],
)
def test_an_evaluation_borrows_no_images_unless_the_former_rule_is_kept(images: str, training: bool, rule: str) -> None:
    assert load_recipe("d2tv", [f"corpus.images={images}"]).corpus.image_rule(training=training) == rule


#: Of blanks alone is no value: a path or a language of them is refused.
words = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12).filter(str.strip)


@given(
    words | st.sampled_from(["1e-4", "1.5", "no", "null", "~", "2026-08-01", "12:30", "0x1f", "-", "#", "007", ".inf"]),
    st.floats(1e-12, 1e3),
    st.lists(words, min_size=1, max_size=3),
)
def test_any_values_survive_the_dump(
    tmp_path_factory: pytest.TempPathFactory, text: str, rate: float, names: list[str]
) -> None:
    """A run goes on from the recipe in its checkpoint, so a value must not change on the way."""
    path = tmp_path_factory.mktemp("dump") / "recipe.yaml"
    given_values = {
        "extends": "d2tv",
        "corpus": {"path": f"a/{text}", "tokenizer": text},
        "optimizer": {"learning_rate": rate},
        "mixture": {"languages": names},
    }
    path.write_text(yaml.safe_dump(given_values, default_style='"'), encoding="utf-8")
    recipe = load_recipe(str(path), [f"optimizer.learning_rate={rate!r}"])
    assert (recipe.corpus.tokenizer, recipe.optimizer.learning_rate) == (text, rate)
    path.write_text(recipe.dump(), encoding="utf-8")
    assert load_recipe(str(path)) == recipe


def test_what_an_objective_gives_is_its_own_configuration() -> None:
    settings = load_recipe("d2tv", ["objective.temperature=0.2"]).objective.settings()
    assert isinstance(settings, D2TVConfig)
    assert settings.temperature == 0.2


def test_the_tiny_overrides_make_a_recipe(tmp_path: Path) -> None:
    recipe = load_recipe("d2tv", [*tiny_overrides(tmp_path / "c", tmp_path / "r"), "training.steps=9"])
    assert (recipe.training.steps, recipe.network.text.d_model) == (9, 32)


def test_the_papers_numbers_for_mbart50() -> None:
    """Table 5, column mBART-50."""
    recipe = load_recipe("d2tv_mbart50")
    assert recipe.optimizer.learning_rate == 5e-6
    assert recipe.optimizer.betas == (0.9, 0.98)
    assert recipe.network.vision.ffn_size == 4096
    assert load_recipe("d2tv_mt5_base").network.vision.ffn_size == 2048


def test_the_papers_numbers_are_the_big_recipes() -> None:
    """Table 5 and Appendix B, column mT5."""
    recipe = load_recipe("d2tv_mt5_base")
    assert recipe.optimizer.learning_rate == 2e-5
    assert recipe.optimizer.betas == (0.9, 0.998)
    assert (recipe.schedule.kind, recipe.schedule.warmup_steps, recipe.training.steps) == ("linear", 2000, 10_000)
    assert (recipe.lengths.document, recipe.lengths.summary) == (512, 84)
    assert recipe.batch.group_size * recipe.batch.groups_per_step == 32 * 8
    vision = recipe.network.vision
    assert (vision.max_images, vision.regions, vision.feature_size, vision.num_layers) == (5, 36, 2048, 4)
    assert recipe.network.fusion.hidden_size == 256
    assert (recipe.evaluation.num_beams, recipe.evaluation.length_penalty) == (4, 0.6)
    assert (recipe.mixture.outer_exponent, recipe.mixture.inner_exponent) == (0.5, 0.75)
