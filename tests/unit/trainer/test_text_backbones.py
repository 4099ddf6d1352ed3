"""Check what a recipe's text backbone refuses before any rank joins, and what its tokenizer tells the network."""

import json
from pathlib import Path

import pytest

from shards.errors import InputError
from shards.format.index import Corpus
from shards.text.tokenizer import open_tokenizer
from tests.support.checkpoints import recipe_in, write_checkpoint
from tests.support.pretrained import save_mbart50, save_mt5
from tests.support.tiny import tiny_overrides
from trainer.network import build_network
from trainer.plan import check_lengths, plan_run
from trainer.ranks import Ranks
from trainer.recipe import Recipe, load_recipe

DS_CONFIGS = Path(__file__).resolve().parents[3] / "ds_configs"
MBART = ("network.text.architecture=mbart", "network.text.d_kv=", "network.text.max_position_embeddings=32")


def recipe(*overrides: str) -> Recipe:
    return load_recipe("d2tv", [*tiny_overrides(Path("corpus"), Path("run")), *overrides])


def test_lengths_fit_the_positions(tiny_corpus: Corpus, tmp_path: Path) -> None:
    ours = open_tokenizer(tiny_corpus.directory / "tokenizer")
    mbart = open_tokenizer(save_mbart50(tmp_path))
    check_lengths(recipe("lengths.document=5000"), ours)  # mT5's positions are relative
    check_lengths(recipe(*MBART, "lengths.document=32", "lengths.summary=32"), ours)
    check_lengths(recipe(*MBART, "lengths.document=32", "lengths.summary=31"), mbart)
    with pytest.raises(
        InputError, match=r"lengths\.document is 33, .* has 32 positions: set it to at most 32 or network"
    ):
        check_lengths(recipe(*MBART, "lengths.document=33"), mbart)
    with pytest.raises(InputError, match=r"lengths\.summary is 32, .* has 32 positions: set it to at most 31"):
        check_lengths(recipe(*MBART, "lengths.summary=32"), mbart)


def pretrained(tiny_corpus: Corpus, tmp_path: Path, **config: object) -> Recipe:
    """A run from a checkpoint of which there is only config.json: what is refused without its weights."""
    (tmp_path / "checkpoint").mkdir(parents=True)
    (tmp_path / "checkpoint" / "config.json").write_text(json.dumps({"model_type": "mt5", **config}))
    overrides = tiny_overrides(tiny_corpus.directory, tmp_path / "run")
    given = [word.split("=") for word in overrides if "network.text." in word and "dropout" not in word]
    sizes = [key for key, value in given if value != "false"]
    return load_recipe(
        "d2tv", [*overrides, *(f"{key}=" for key in sizes), f"network.text.pretrained={tmp_path / 'checkpoint'}"]
    )


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"vocab_size": 250112, "pad_token_id": 0, "eos_token_id": 1}, "has 250112 words, the tokenizer "),
        ({"vocab_size": 100}, "has 100 words, the tokenizer "),
        ({"vocab_size": 500, "eos_token_id": 2}, "has eos_token_id 2, the tokenizer 1: "),
    ],
)
def test_another_tokenizers_checkpoint_is_refused_before_ranks_join(
    tiny_corpus: Corpus, tmp_path: Path, config: dict[str, int], message: str
) -> None:
    """The corpus' own tokenizer has mT5's padding and end tokens."""
    recipe, ds_config = pretrained(tiny_corpus, tmp_path, **config), DS_CONFIGS / "zero2_cpu.json"
    with pytest.raises(InputError, match=message) as error:
        plan_run(recipe, ds_config, Ranks(rank=0, local_rank=0, world_size=1))
    assert f"set corpus.tokenizer={tmp_path / 'checkpoint'}, or " in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_with_rows_to_spare_is_not(tiny_corpus: Corpus, tmp_path: Path) -> None:
    recipe, ds_config = pretrained(tiny_corpus, tmp_path, vocab_size=1024), DS_CONFIGS / "zero2_cpu.json"
    assert plan_run(recipe, ds_config, Ranks(rank=0, local_rank=0, world_size=1)).recipe == recipe


def trained_mt5(tiny_corpus: Corpus, tmp_path: Path, named: dict[str, str], *more: str) -> Recipe:
    """A run that goes on from an mT5 checkpoint whose config.json names start tokens, with mT5's own tokenizer."""
    tokenizer = save_mt5(tmp_path / "tokenizer")
    words = open_tokenizer(tokenizer).vocab_size
    recipe = pretrained(tiny_corpus, tmp_path, vocab_size=words, task_specific_params={"langid_map": named})
    (tmp_path / "recipe.yaml").write_text(recipe.dump())
    return load_recipe(str(tmp_path / "recipe.yaml"), [f"corpus.tokenizer={tokenizer}", *more])


@pytest.mark.parametrize(
    ("named", "more", "message"),
    [
        (
            {"english": "▁<extra_id_3>"},
            [],
            "begins english summaries with ▁<extra_id_3>, the tokenizer with ▁",
        ),
        ({"english": "▁<extra_id_69>"}, ["network.text.reset_start_tokens=pad"], "would overwrite what .* has learned"),
    ],
)
def test_start_tokens_that_a_checkpoint_has_learned_stay_its_own(
    tiny_corpus: Corpus, tmp_path: Path, named: dict[str, str], more: list[str], message: str
) -> None:
    recipe = trained_mt5(tiny_corpus, tmp_path, named, *more)
    with pytest.raises(InputError, match=message) as error:
        plan_run(recipe, DS_CONFIGS / "zero2_cpu.json", Ranks(rank=0, local_rank=0, world_size=1))
    assert "\n" not in str(error.value)
    good = trained_mt5(tiny_corpus, tmp_path / "good", {"english": "▁<extra_id_69>"})
    plan_run(good, DS_CONFIGS / "zero2_cpu.json", Ranks(rank=0, local_rank=0, world_size=1))


def test_a_run_goes_on_with_the_start_tokens_that_it_began_with(tiny_corpus: Corpus, tmp_path: Path) -> None:
    """A recipe of an earlier release has no such key; the corpus' own tokenizer has tokens that no map moves."""
    ranks, ds_config = Ranks(rank=0, local_rank=0, world_size=1), tmp_path / "ds.json"
    ds_config.write_text(json.dumps({"zero_optimization": {"stage": 2}, "bf16": {"enabled": True}}))
    words = [f"corpus.tokenizer={save_mt5(tmp_path / 'tokenizer')}"]
    for name, more in (("mt5", words), ("own", [])):
        began = recipe_in(tmp_path / name, tiny_corpus, *more, "corpus.start_tokens=alphabetical")
        write_checkpoint(began, tiny_corpus)
        now = recipe_in(tmp_path / name, tiny_corpus, *more)
        if name == "own":
            assert plan_run(now, ds_config, ranks).recipe == now
            continue
        with pytest.raises(InputError, match=r"begun with another corpus\.start_tokens \(alphabetical\): restore it"):
            plan_run(now, ds_config, ranks)
        assert plan_run(began, ds_config, ranks).tokenizer.start_id("english") != open_tokenizer(
            tmp_path / "tokenizer"
        ).start_id("english")


def test_the_network_has_what_the_tokenizer_says(tiny_corpus: Corpus, tmp_path: Path) -> None:
    mbart = open_tokenizer(save_mbart50(tmp_path))
    network = build_network(recipe(*MBART), mbart).network
    assert network.vocab_size == mbart.vocab_size
    assert network.marks_texts
    ours = build_network(recipe(), open_tokenizer(tiny_corpus.directory / "tokenizer")).network
    assert not ours.marks_texts


def test_table_5_of_mbart50() -> None:
    found = load_recipe("d2tv_mbart50")
    assert (found.optimizer.learning_rate, found.optimizer.betas) == (5e-6, (0.9, 0.98))
    assert (found.schedule.warmup_steps, found.training.steps, found.objective.settings().alpha_steps) == (
        2000,
        10000,
        5000,
    )
    assert (found.batch.group_size, found.batch.groups_per_step, found.lengths.document) == (32, 8, 512)
    assert str(found.network.text.pretrained) == found.corpus.tokenizer


@pytest.mark.parametrize("size", ["small", "large"])
def test_other_sizes_of_mt5(size: str) -> None:
    base, other = load_recipe("d2tv_mt5_base").model_dump(), load_recipe(f"d2tv_mt5_{size}").model_dump()
    assert other["network"]["text"]["pretrained"] == other["corpus"]["tokenizer"] == f"pretrained/mt5-{size}"
    assert {key for key in base if base[key] != other[key]} == {"run", "corpus", "network"}


def test_a_shape_stands_for_sizes() -> None:
    text = load_recipe("d2tv_mbart50", ["network.text.pretrained=", "network.text.shape=mbart50_large"]).network.text
    assert (text.architecture, text.d_model, text.num_layers, text.shape) == ("mbart", 1024, 12, None)
    with pytest.raises(InputError, match="shape mt5_base sets all of a random backbone") as caught:
        load_recipe("d2tv", ["network.text.shape=mt5_base"])
    assert "\n" not in str(caught.value)
