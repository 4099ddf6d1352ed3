"""DeepSpeed's file: what is filled in, and every way in which it can compete with the recipe."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from shards.errors import InputError
from trainer.ds_config import load_ds_config
from trainer.recipe import load_recipe

GOOD: dict[str, Any] = {
    "train_batch_size": "auto",
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto",
    "gradient_clipping": "auto",
    "zero_optimization": {"stage": 2},
}


def load(tmp_path: Path, content: Any, world_size: int = 2, words: Sequence[str] = ()) -> dict[str, Any]:
    path = tmp_path / "ds.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    recipe = load_recipe(
        "d2tv",
        [
            "batch.group_size=4",
            "batch.groups_per_step=12",
            "batch.groups_per_micro_batch=2",
            "optimizer.gradient_clipping=0.5",
            *words,
        ],
    )
    return load_ds_config(path, recipe, world_size)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_the_recipe_fills_in_what_it_owns(tmp_path: Path, world_size: int) -> None:
    config = load(tmp_path, GOOD | {"wall_clock_breakdown": True}, world_size)
    assert config["train_batch_size"] == 48
    assert config["train_micro_batch_size_per_gpu"] == 8
    assert config["gradient_accumulation_steps"] == 6 // world_size
    assert config["gradient_clipping"] == 0.5
    assert config["wall_clock_breakdown"] is True
    assert config["zero_optimization"] == {"stage": 2}


def test_keys_that_are_left_out_are_filled_in_too(tmp_path: Path) -> None:
    assert load(tmp_path, {"zero_optimization": {"stage": 1}})["train_batch_size"] == 48


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "cannot be read"),
        ([], "not a JSON object"),
        (GOOD | {"train_batch_size": 32}, 'train_batch_size must be "auto"'),
        (GOOD | {"gradient_clipping": 1.0}, 'gradient_clipping must be "auto"'),
        (GOOD | {"optimizer": {"type": "Adam"}}, "'optimizer' belongs to the recipe's section 'optimizer'"),
        (GOOD | {"scheduler": {}}, "'scheduler' belongs to the recipe's section 'schedule'"),
        (GOOD | {"zero_optimization": {"stage": 3}}, "zero_optimization.stage must be 1 or 2"),
        (GOOD | {"zero_optimization": {"stage": "2"}}, "zero_optimization.stage must be 1 or 2"),
        (GOOD | {"zero_optimization": 2}, "zero_optimization.stage must be 1 or 2"),
        ({}, "zero_optimization.stage must be 1 or 2"),
        (GOOD | {"bf16": True}, "bf16 must be an object"),
        (GOOD | {"fp16": "on"}, "fp16 must be an object"),
        (GOOD | {"data_types": None}, "data_types must be an object"),
        (GOOD | {"torch_autocast": []}, "torch_autocast must be an object"),
        (GOOD | {"bf16": {"enabled": "yes"}}, 'bf16.enabled must be true, false or "auto", got "yes"'),
        (GOOD | {"fp16": {"enabled": None}}, 'fp16.enabled must be true, false or "auto", got null'),
        (GOOD | {"bfloat16": {"enabled": True}}, "rename it"),
        (GOOD | {"bf16": {"enabled": True}, "fp16": {"enabled": True}}, "bf16 and fp16 are both enabled"),
        (GOOD | {"zero_optimization": {"stage": 2, "offload_optimizer": "cpu"}}, "offload_optimizer must be an object"),
    ],
)
def test_a_file_that_does_not_fit_is_one_line_that_names_it(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        load(tmp_path, content)
    assert message in str(caught.value)
    assert str(tmp_path / "ds.json") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_suggests_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "zero2_cpu.json").write_text("{}")
    with pytest.raises(InputError, match=r"did you mean 'zero2_cpu\.json'"):
        load_ds_config(tmp_path / "zero2_cpus.json", load_recipe("d2tv"), 1)
    with pytest.raises(InputError, match="no DeepSpeed config"):
        load_ds_config(tmp_path / "nowhere" / "x.json", load_recipe("d2tv"), 1)
