"""Check what no single file can hold: links, DeepSpeed's keys, the recipes, nothing left open."""

import json
import re
import subprocess
from pathlib import Path

import deepspeed.runtime.constants
import pytest
from deepspeed.runtime.precision_config import DeepSpeedBF16Config, DeepSpeedFP16Config
from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

import models.objectives
from trainer.ds_config import load_ds_config
from trainer.recipe import load_recipe
from trainer.recipe.values import RECIPES

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("launcher", "trainer", "models", "shards")
DS_CONFIGS = sorted((ROOT / "ds_configs").glob("*.json"))
DOCS = (ROOT / "docs").glob("*.md")


def test_models_know_nothing_of_process_groups() -> None:
    """Only a loss over the negatives of all ranks does; lint-imports, which holds the rest, knows whole packages."""
    knows = {str(p.relative_to(ROOT)) for p in (ROOT / "models").rglob("*.py") if "torch.distributed" in p.read_text()}
    assert knows == {"models/losses/gather.py"}


@pytest.mark.parametrize("page", ["README.md", "AGENTS.md", "CONTRIBUTING.md", *sorted(f"docs/{p.name}" for p in DOCS)])
def test_links_of_a_page_lead_somewhere(page: str) -> None:
    text = re.sub(r"(?s)```.*?```", "", (ROOT / page).read_text(encoding="utf-8"))
    targets = [target.split("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text)]
    local = [target for target in targets if target and "://" not in target]
    missing = [target for target in local if not ((ROOT / page).parent / target).exists()]
    assert not missing


@pytest.mark.parametrize("path", DS_CONFIGS, ids=lambda p: p.stem)
def test_ds_configs_hold_deepspeed_keys_only(path: Path) -> None:
    config = json.loads(path.read_text(encoding="utf-8"))
    known = {value for value in vars(deepspeed.runtime.constants).values() if isinstance(value, str)}
    assert set(config) <= known | {"zero_optimization"}
    blocks = (("zero_optimization", DeepSpeedZeroConfig), ("bf16", DeepSpeedBF16Config), ("fp16", DeepSpeedFP16Config))
    for key, model in blocks:
        assert set(config.get(key, {})) <= set(model.model_fields), key
    owned = {key: config[key] for key in config if "batch" in key or "accumulation_steps" in key or "clipping" in key}
    assert owned == dict.fromkeys(
        ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping"),
        "auto",
    )


@pytest.mark.parametrize("path", DS_CONFIGS, ids=lambda p: p.stem)
def test_ds_configs_add_gradients_in_fp32(path: Path) -> None:
    """bf16 would otherwise also send and add gradients in bf16; and stage 2 does not bear overlap_comm."""
    config = json.loads(path.read_text(encoding="utf-8"))
    assert config["communication_data_type"] == "fp32"
    assert config["zero_optimization"]["overlap_comm"] is False
    if "bf16" in config:
        assert config["data_types"]["grad_accum_dtype"] == "fp32"


def test_the_cpu_config_and_the_default_recipe_fit_each_other() -> None:
    config = load_ds_config(ROOT / "ds_configs" / "zero2_cpu.json", load_recipe("d2tv"), world_size=2)
    per_step = config["train_micro_batch_size_per_gpu"] * config["gradient_accumulation_steps"] * 2
    assert config["train_batch_size"] == per_step == 8 * 8


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda p: p.stem)
def test_recipes_load_and_stand_in_the_table_of_papers(path: Path) -> None:
    recipe = load_recipe(path.stem)
    assert recipe.run == Path("runs") / path.stem  # two recipes never write into one directory
    assert models.objectives.__doc__ is not None
    table = re.findall(r"\| (\w+)\.yaml \|", models.objectives.__doc__)
    sizes = [name for name in table if path.stem.startswith((f"{name}_mt5_", f"{name}_mbart"))]
    assert path.stem in table or sizes, f"{path.name}: no row in the table of models/objectives/__init__.py"


def test_the_table_of_papers_names_no_recipe_and_no_test_that_is_missing() -> None:
    assert models.objectives.__doc__ is not None
    for name in re.findall(r"(\w+\.yaml)", models.objectives.__doc__):
        assert (RECIPES / name).is_file(), name
    for name in re.findall(r"tests/\S+\.py", models.objectives.__doc__):
        assert (ROOT / name).is_file(), name


def test_progress_is_shown_in_one_way() -> None:
    """trainer/terminal/progress.py prints lines in a log, where rich's own bars and spinners are silent."""
    own = re.compile(r"rich\.(?:progress|status) import|import rich\.(?:progress|status)|console\.status\(")
    files = [path for room in (*ROOMS, "benchmarks") for path in (ROOT / room).rglob("*.py")]
    found = [str(path.relative_to(ROOT)) for path in files if own.search(path.read_text(encoding="utf-8"))]
    assert found == ["trainer/terminal/progress.py"]


def test_nothing_is_left_for_later() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    names = [name for name in listed.split("\0") if name and (ROOT / name).is_file()]
    assert "shards/schema.py" in names
    marks = re.compile(rb"\b(?:TO" + rb"DO|FIX" + rb"ME|X" + rb"XX)\b")
    assert [name for name in names if marks.search((ROOT / name).read_bytes())] == []
