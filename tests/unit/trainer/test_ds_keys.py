"""Keys and values of --ds_config: what DeepSpeed would pass over or fail at is one line that names the key."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from deepspeed.runtime import constants

from shards.errors import InputError
from trainer.ds_keys import check_ds_keys, read_ds_file

DS_CONFIGS = Path(__file__).resolve().parents[3] / "ds_configs"
ZERO = {"zero_optimization": {"stage": 2}}


def refusal(config: dict[str, Any]) -> str:
    with pytest.raises(InputError) as caught:
        check_ds_keys(Path("ds.json"), config)
    message = str(caught.value)
    assert message.startswith("ds.json: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("path", sorted(DS_CONFIGS.glob("*.json")), ids=lambda path: path.stem)
def test_the_files_that_come_with_it_are_taken(path: Path) -> None:
    check_ds_keys(path, read_ds_file(path))


@pytest.mark.parametrize(
    "config",
    [
        {"tensorboard": {"enabled": False, "output_path": "x"}, "wandb": {"enabled": False}},
        {"flops_profiler": {"enabled": True, "profile_step": 3, "output_file": None}},
        {"activation_checkpointing": {"partition_activations": True, "cpu_checkpointing": False}},
        {"checkpoint": {"tag_validation": "Ignore", "parallel_write": {"pipeline_stage": False}}},
        {"aio": {"block_size": 1048576, "queue_depth": 8}},
        {"comms_logger": {"enabled": False, "prof_ops": ["all_reduce"]}},
        {"timers": {"throughput": {"enabled": False}}},
        {"torch_autocast": {"enabled": True, "dtype": "bfloat16"}},
        {"data_types": {"grad_accum_dtype": "fp32", "keep_in_fp32_modules": ["norm"]}},
        {"bf16": {"enabled": "auto"}, "wall_clock_breakdown": True, "gradient_predivide_factor": 2},
        {"zero_optimization": {"stage": 1, "offload_optimizer": {"device": "cpu"}, "stage3_max_live_parameters": 5}},
    ],
    ids=lambda config: next(iter(config)),
)
def test_keys_of_every_block_are_known(config: dict[str, Any]) -> None:
    check_ds_keys(Path("ds.json"), ZERO | config)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"bf_16": {"enabled": True}}, "unknown key 'bf_16' (did you mean 'bf16'?)"),
        ({"zero_optimizaton": {}}, "unknown key 'zero_optimizaton' (did you mean 'zero_optimization'?)"),
        ({"wall_clock_breakdwn": True}, "did you mean 'wall_clock_breakdown'?"),
        ({"no_such_thing": 1}, "unknown key 'no_such_thing'"),
        (
            {"zero_optimization": {"stage": 2, "overlap_com": True}},
            "unknown key 'zero_optimization.overlap_com' (did you mean 'overlap_comm'?)",
        ),
        (
            {"zero_optimization": {"stage": 2, "offload_optimizer": {"devize": "cpu"}}},
            "unknown key 'zero_optimization.offload_optimizer.devize' (did you mean 'device'?)",
        ),
        ({"fp16": {"enabled": True, "loss_scal": 0}}, "unknown key 'fp16.loss_scal' (did you mean 'loss_scale'?)"),
        ({"bf16": {"enabledd": True}}, "unknown key 'bf16.enabledd' (did you mean 'enabled'?)"),
        ({"data_types": {"grad_accum_dtyp": "fp32"}}, "unknown key 'data_types.grad_accum_dtyp'"),
        ({"torch_autocast": {"enabeld": True}}, "unknown key 'torch_autocast.enabeld' (did you mean 'enabled'?)"),
        ({"tensorboard": {"enabld": True}}, "unknown key 'tensorboard.enabld' (did you mean 'enabled'?)"),
        ({"flops_profiler": {"enabled": True, "profile_stp": 1}}, "(did you mean 'profile_step'?)"),
        ({"activation_checkpointing": {"partition_activation": True}}, "(did you mean 'partition_activations'?)"),
        ({"checkpoint": {"tag_validaton": "Warn"}}, "unknown key 'checkpoint.tag_validaton'"),
        ({"timers": {"throughput": {"enabld": True}}}, "unknown key 'timers.throughput.enabld'"),
        ({"aio": {"block_siz": 1}}, "unknown key 'aio.block_siz' (did you mean 'block_size'?)"),
    ],
    ids=str,
)
def test_a_key_that_deepspeed_does_not_know(config: dict[str, Any], message: str) -> None:
    assert message in refusal(ZERO | config)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"zero_optimization": {"stage": 2, "reduce_bucket_size": "much"}}, "reduce_bucket_size: must be a whole"),
        ({"zero_optimization": {"stage": 2, "reduce_bucket_size": 0}}, "reduce_bucket_size must be 1 to"),
        ({"zero_optimization": {"stage": 2, "reduce_bucket_size": 10**15}}, "reduce_bucket_size must be 1 to"),
        ({"zero_optimization": {"stage": 2, "reduce_bucket_size": 10**400}}, "reduce_bucket_size must be 1 to"),
        (
            {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "gpu"}}},
            "must be 'none', 'cpu' or 'nvme'",
        ),
        ({"zero_optimization": {"stage": 2, "cpu_offload": True}}, "is an old name: use offload_optimizer"),
        ({"zero_optimization": {"stage": 2, "overlap_comm": "perhaps"}}, "overlap_comm: must be true or false"),
        ({"zero_optimization": None}, "zero_optimization"),
        ({"bf16": {"enabled": "maybe"}}, "bf16.enabled: must be true or false (got 'maybe')"),
        ({"fp16": {"enabled": True, "initial_scale_power": 1000}}, "fp16.initial_scale_power must be 0 to 127"),
        ({"fp16": {"enabled": True, "loss_scale_window": 0}}, "loss_scale_window must be > 0"),
        ({"wall_clock_breakdown": "no"}, 'wall_clock_breakdown must be true or false, got "no"'),
        ({"prescale_gradients": 1}, "prescale_gradients must be true or false, got 1"),
        ({"gradient_predivide_factor": "x"}, 'gradient_predivide_factor must be a number, got "x"'),
        ({"communication_data_type": "fp33"}, "fp33"),
        ({"communication_data_type": 3}, "communication_data_type"),
        ({"data_types": {"grad_accum_dtype": "fp33"}}, "data_types.grad_accum_dtype must be fp32, bf16 or fp16"),
        ({"data_types": []}, "data_types must be an object"),
        ({"torch_autocast": {"enabled": True, "dtype": "f8"}}, "torch_autocast.dtype must be fp32, bf16 or fp16"),
        ({"checkpoint": {"tag_validation": "perhaps"}}, "tag_validation"),
        ({"amp": {"enabled": True}}, "'torch_autocast'"),
    ],
    ids=str,
)
def test_a_value_that_deepspeed_cannot_use(config: dict[str, Any], message: str) -> None:
    told = refusal(ZERO | config)
    assert message in told
    assert not any(word in told for word in ("Traceback", "NoneType", "object has no attribute", "Enum", "instance"))


def test_every_first_level_key_of_the_installed_version_is_known() -> None:
    """What is asked of DeepSpeed's own reader must cover what its constants name."""
    names = [
        *(constants.ZERO_ALLOW_UNTESTED_OPTIMIZER, constants.ZERO_FORCE_DS_CPU_OPTIMIZER, constants.STEPS_PER_PRINT),
        *(constants.BFLOAT16, constants.FP16, constants.TORCH_AUTOCAST, constants.COMMUNICATION_DATA_TYPE),
        *(constants.PRESCALE_GRADIENTS, constants.GRADIENT_PREDIVIDE_FACTOR, constants.DISABLE_ALLGATHER),
        *(constants.DUMP_STATE, constants.WALL_CLOCK_BREAKDOWN, constants.MEMORY_BREAKDOWN, constants.CHECKPOINT),
        *(constants.DATA_TYPES, constants.DATALOADER_DROP_LAST, "activation_checkpointing", "flops_profiler", "aio"),
        *("comms_logger", "monitor", "tensorboard", "wandb", "csv_monitor", "compile", "timers", "pipeline"),
    ]
    unknown = []
    for name in names:
        try:
            check_ds_keys(Path("ds.json"), ZERO | {name: {}})
        except InputError as error:
            unknown += [name] if "unknown key" in str(error) else []
    assert unknown == ["monitor"]  # which is no key of DeepSpeed's


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"bf16": {"enabled": true}, "bf16": {"enabled": false}}', "key 'bf16' stands twice"),
        ('{"zero_optimization": {"stage": 2, "stage": 1}}', "key 'stage' stands twice"),
        ("[]", "not a JSON object"),
        ("{", "not JSON"),
        ("", "not JSON"),
        ('{"a": NaN}', "NaN is no number"),
        ('{"a": -Infinity}', "Infinity is no number"),
        ('{"a":' * 40 + "1" + "}" * 40, "deeper than"),
        ('{"a":' * 20000 + "1" + "}" * 20000, "deeper than"),
        ('{"a": ' + "9" * 10_000 + "}", "not JSON"),
        (json.dumps({"a": "x" * 300_000}), "characters"),
    ],
    ids=lambda text: text[:30],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "ds.json").write_text(text)
    with pytest.raises(InputError) as caught:
        read_ds_file(tmp_path / "ds.json")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "ds.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(InputError, match="cannot be read"):
        read_ds_file(tmp_path / "ds.json")
    (tmp_path / "ds.json").write_bytes(b"\xef\xbb\xbf{}")
    assert read_ds_file(tmp_path / "ds.json") == {}


def test_a_fifo_in_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ds.json")
    with pytest.raises(InputError, match="not a regular file"):
        read_ds_file(tmp_path / "ds.json")
