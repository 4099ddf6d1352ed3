"""`training.precision`: what it fills in, what it refuses, and which runs it calls the same."""

import json
from pathlib import Path
from typing import Any

import pytest
from deepspeed.accelerator import get_accelerator

from shards.errors import InputError
from shards.format.changes import fingerprint
from shards.format.index import Corpus
from tests.support.tiny import tiny_overrides
from trainer.checkpoint.directory import CORPUS, TrainState, described, seal, state_json
from trainer.ds_config import arithmetic, load_ds_config, precision_of
from trainer.plan import plan_run
from trainer.ranks import Ranks
from trainer.recipe import load_recipe

DS_CONFIGS = Path(__file__).resolve().parents[3] / "ds_configs"
ZERO2: dict[str, Any] = {"zero_optimization": {"stage": 2}}


@pytest.fixture(autouse=True)
def device_with_fp16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(get_accelerator(), "is_fp16_supported", lambda: True)


def resolve(path: Path, precision: str) -> dict[str, Any]:
    return load_ds_config(path, load_recipe("d2tv", [f"training.precision={precision}"]), world_size=1)


def write(tmp_path: Path, **blocks: Any) -> Path:
    path = tmp_path / "ds.json"
    path.write_text(json.dumps(ZERO2 | blocks))
    return path


@pytest.mark.parametrize("precision", ["null", "fp32", "bf16", "fp16"])
def test_a_file_that_leaves_it_open_gets_the_recipes_precision(tmp_path: Path, precision: str) -> None:
    meant = precision if precision != "null" else "fp32"
    for path in (write(tmp_path), write(tmp_path, bf16={"enabled": "auto"}, fp16={"enabled": "auto"})):
        config = resolve(path, precision)
        assert precision_of(config) == meant
        # No "auto" reaches DeepSpeed, which takes it for a yes or fails.
        for key in ("bf16", "fp16"):
            assert config.get(key, {"enabled": False})["enabled"] is (meant == key)


@pytest.mark.parametrize(
    ("precision", "shipped"), [("fp32", "zero2_cpu"), ("bf16", "zero2_bf16"), ("fp16", "zero2_fp16")]
)
def test_the_key_and_the_shipped_file_are_the_same_run(tmp_path: Path, precision: str, shipped: str) -> None:
    by_file = resolve(DS_CONFIGS / f"{shipped}.json", "null")
    by_both = resolve(DS_CONFIGS / f"{shipped}.json", precision)
    by_key = resolve(write(tmp_path, **{key: {"enabled": "auto"} for key in ("bf16", "fp16")}), precision)
    assert precision_of(by_file) == precision
    assert arithmetic(by_file) == arithmetic(by_both) == arithmetic(by_key)
    assert by_key.get(precision) == by_file.get(precision) or precision == "fp32"


def test_the_files_own_settings_stay(tmp_path: Path) -> None:
    path = write(tmp_path, fp16={"enabled": "auto", "initial_scale_power": 8}, communication_data_type="fp16")
    config = resolve(path, "fp16")
    assert config["fp16"]["initial_scale_power"] == 8
    assert config["fp16"]["hysteresis"] == 2
    assert config["communication_data_type"] == "fp16"
    path = write(tmp_path, data_types={"grad_accum_dtype": "bf16"})
    assert resolve(path, "bf16")["data_types"] == {"grad_accum_dtype": "bf16"}


@pytest.mark.parametrize(
    ("precision", "blocks", "said"),
    [
        ("fp32", {"bf16": {"enabled": True}}, "bf16.enabled is true"),
        ("fp32", {"fp16": {"enabled": True}}, "fp16.enabled is true"),
        ("fp32", {"torch_autocast": {"enabled": True}}, "torch_autocast.enabled is true"),
        ("bf16", {"bf16": {"enabled": False}}, "bf16.enabled is false"),
        ("bf16", {"bf16": {"enabled": "auto"}, "fp16": {"enabled": True}}, "fp16.enabled is true"),
        ("fp16", {"bf16": {"enabled": True}}, "bf16.enabled is true"),
        ("fp16", {"fp16": {"enabled": False}}, "fp16.enabled is false"),
    ],
)
def test_a_file_that_says_the_contrary_is_one_line_with_both(
    tmp_path: Path, precision: str, blocks: dict[str, Any], said: str
) -> None:
    path = write(tmp_path, **blocks)
    with pytest.raises(InputError) as caught:
        resolve(path, precision)
    message = str(caught.value)
    assert said in message
    assert f"training.precision is {precision}" in message
    assert 'make it "auto"' in message
    assert str(path) in message
    assert "\n" not in message


def test_a_file_that_says_the_same_is_taken(tmp_path: Path) -> None:
    path = write(tmp_path, bf16={"enabled": True}, fp16={"enabled": False})
    assert precision_of(resolve(path, "bf16")) == "bf16"


@pytest.mark.parametrize("value", ["fp8", "16", "true"])
def test_an_unknown_precision_is_refused(value: str) -> None:
    with pytest.raises(InputError, match=r"training\.precision: must be 'fp32', 'bf16' or 'fp16'"):
        load_recipe("d2tv", [f"training.precision={value}"])


def test_a_device_without_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(get_accelerator(), "is_fp16_supported", lambda: None)  # as DeepSpeed says no
    with pytest.raises(InputError, match=r"does not support fp16: use another config or training\.precision"):
        resolve(write(tmp_path), "fp16")


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ({}, {"bf16": {"enabled": False}, "communication_data_type": "fp32"}, True),
        ({"bf16": {"enabled": True}}, {"bf16": {"enabled": True, "check_grad_overflow": True}}, True),
        ({}, {"bf16": {"enabled": True}}, False),
        ({"bf16": {"enabled": True}}, {"bf16": {"enabled": True}, "communication_data_type": "fp32"}, False),
        ({"bf16": {"enabled": True}}, {"bf16": {"enabled": True}, "data_types": {"grad_accum_dtype": "fp32"}}, False),
        ({"fp16": {"enabled": True}}, {"fp16": {"enabled": True, "loss_scale": 1024}}, False),
        ({}, {"torch_autocast": {"enabled": True, "dtype": "bfloat16"}}, False),
    ],
)
def test_what_computes_alike_is_the_same_arithmetic(one: dict[str, Any], other: dict[str, Any], alike: bool) -> None:
    assert (arithmetic(one) == arithmetic(other)) is alike


@pytest.mark.parametrize(
    ("then", "now", "same"),
    [
        # (file, training.precision)
        (("zero2_cpu", "null"), ("zero2_cpu", "fp32"), True),
        (("zero2_bf16", "null"), ("zero2_cpu", "bf16"), True),
        (("zero2_cpu", "bf16"), ("zero2_bf16", "null"), True),
        (("zero2_cpu", "fp16"), ("zero2_fp16", "fp16"), True),
        (("zero2_cpu", "null"), ("zero2_cpu", "bf16"), False),
        (("zero2_cpu", "bf16"), ("zero2_cpu", "null"), False),
        (("zero2_bf16", "bf16"), ("zero2_cpu", "fp16"), False),
    ],
)
def test_a_resumed_run_keeps_its_precision_however_it_is_asked_for(
    tiny_corpus: Corpus, tmp_path: Path, then: tuple[str, str], now: tuple[str, str], same: bool
) -> None:
    recipes = [
        load_recipe(
            "d2tv", [*tiny_overrides(tiny_corpus.directory, tmp_path / "run"), f"training.precision={precision}"]
        )
        for _, precision in (then, now)
    ]
    before, after = (DS_CONFIGS / f"{name}.json" for name, _ in (then, now))
    state = TrainState(step=3, attempts=3, seed=0, slot=48, world_size=1, corpus=tiny_corpus.content_hash)
    checkpoint = tmp_path / "run" / "checkpoints" / "step-00000003"
    checkpoint.mkdir(parents=True)
    (checkpoint / "recipe.yaml").write_text(recipes[0].dump())
    (checkpoint / "ds_config.json").write_text(json.dumps(load_ds_config(before, recipes[0], world_size=1)))
    (checkpoint / "state.json").write_text(state_json(state))
    (checkpoint / CORPUS).write_text(json.dumps(fingerprint(tiny_corpus.manifest)))
    seal(checkpoint, {path.name: described(path) for path in sorted(checkpoint.iterdir())})
    ranks = Ranks(rank=0, local_rank=0, world_size=1)
    if same:
        assert precision_of(plan_run(recipes[1], after, ranks).ds_config) == precision_of(
            json.loads((checkpoint / "ds_config.json").read_text())
        )
    else:
        with pytest.raises(
            InputError, match=r"was begun in (fp32|bf16), with another '(bf16|fp16)' in --ds_config or by"
        ):
            plan_run(recipes[1], after, ranks)
