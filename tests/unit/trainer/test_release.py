"""`d2tv import`: what of a published mT5 checkpoint is taken over, what is listed, and what is refused in one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import MT5Config, MT5ForConditionalGeneration

from launcher.cli import main
from models.backbones.build import build_backbone
from models.config import TextConfig
from shards.languages import LANGUAGE_CODES
from shards.text.start_tokens import CROSSSUM_SENTINELS
from shards.text.tokenizer import open_tokenizer
from tests.support.pretrained import save_published

WIDTH = 16
#: Names and shapes, made small, of what D2TV's release has inside its mT5 (its `T5Stack` and model).
D2TV_OWN = {
    "temp": (),
    "encoder.img_transformer.layers.0.self_attn.in_proj_weight": (24, 8),
    "encoder._linear_1.weight": (4, 8),
    "encoder._linear_4.bias": (WIDTH,),
    "encoder._multi_head_attn.out_proj.weight": (4, 4),
    "encoder.fg.weight": (4, WIDTH + 4),
    "encoder.custom_layer_norm.weight": (WIDTH,),
    "img_linear.weight": (WIDTH, 8),
}
State = dict[str, Tensor]


def published(directory: Path) -> State:
    """The files of a CrossSum directory, made small, and its weights: untied, in pytorch_model.bin."""
    save_published(directory, "mt5")
    words = open_tokenizer(directory).vocab_size
    sizes = {"d_model": WIDTH, "d_ff": 24, "d_kv": 4, "num_heads": 4, "num_layers": 2, "vocab_size": words + 3}
    config = {
        "model_type": "mt5",
        "architectures": ["MT5ForConditionalGeneration"],
        "tie_word_embeddings": False,
        "feed_forward_proj": "gated-gelu",
        "num_decoder_layers": 2,
        "pad_token_id": 0,
        "eos_token_id": 1,
        # What transformers of that time wrote beside.
        "max_length": 84,
        "num_beams": 4,
        "length_penalty": 0.6,
        "output_past": True,
        "transformers_version": "4.4",
        "task_specific_params": {
            "langid_map": {name: [i, f"▁<extra_id_{n}>"] for i, (name, n) in enumerate(CROSSSUM_SENTINELS.items())}
        },
        **sizes,
    }
    (directory / "config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    state: State = dict(MT5ForConditionalGeneration(MT5Config(**sizes)).state_dict())
    state["lm_head.weight"] = torch.randn(words + 3, WIDTH)
    torch.save(state, directory / "pytorch_model.bin")
    return state


def run(capsys: pytest.CaptureFixture[str], checkpoint: Path, out: Path) -> str:
    assert main(["import", str(checkpoint), "--out", str(out)]) == 0
    return capsys.readouterr().out


def refusal(capsys: pytest.CaptureFixture[str], checkpoint: Path, out: Path) -> str:
    capsys.readouterr()
    assert main(["import", str(checkpoint), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert not out.exists()
    return error


def assert_taken_over(out: Path, state: State) -> None:
    """A network from `out` has the weights, bit for bit, and the tokenizer its start tokens."""
    tokenizer = open_tokenizer(out)
    backbone = build_backbone(TextConfig(pretrained=str(out)), tokenizer.vocab_size, 0, 1)
    found = backbone.stored_tensors()
    copies = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
    wanted = {name: tensor for name, tensor in state.items() if name not in copies}
    assert found.keys() == wanted.keys() | {"lm_head.bias"}
    assert [name for name in wanted if not torch.equal(found[name], wanted[name].float())] == []
    assert tokenizer.langid_map is not None
    assert {name: token for name, (_, token) in tokenizer.langid_map.items()} == {
        name: f"▁<extra_id_{number}>" for name, number in CROSSSUM_SENTINELS.items()
    }


def test_a_crosssum_directory_is_taken_over_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = published(tmp_path / "crosssum")
    said = run(capsys, tmp_path / "crosssum", tmp_path / "out")
    assert "not placed: nothing" in said
    assert "start tokens: CrossSum's published map (its config.json names them)" in said
    assert f"network.text.pretrained={tmp_path / 'out'} corpus.tokenizer={tmp_path / 'out'}" in said
    assert_taken_over(tmp_path / "out", state)


def test_what_d2tvs_release_has_beside_the_text_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = published(tmp_path / "d2tv")
    own = {name: torch.ones(shape) for name, shape in D2TV_OWN.items()}
    torch.save(state | own, tmp_path / "d2tv/pytorch_model.bin")
    said = run(capsys, tmp_path / "d2tv", tmp_path / "out")
    assert f"not placed: {len(D2TV_OWN)}" in said
    for name, shape in D2TV_OWN.items():
        (line,) = [line for line in said.splitlines() if line.split()[:1] == [name]]
        assert (" x ".join(map(str, shape)) or "scalar") in line
        assert "D2TV's" in line
    assert_taken_over(tmp_path / "out", state)


def wrapped(state: State, directory: Path) -> Path:
    """As Lightning saves a module's model."""
    torch.save({"epoch": 3, "state_dict": {f"model.{name}": x for name, x in state.items()}}, directory / "last.ckpt")
    return directory / "last.ckpt"


def of_data_parallel(state: State, directory: Path) -> Path:
    torch.save({f"module.{name}": x for name, x in state.items()} | {"head.weight": torch.ones(3)}, directory / "a.pt")
    return directory / "a.pt"


def in_parts(state: State, directory: Path) -> Path:
    names = sorted(state)
    weight_map = {name: f"part-{place % 2}.bin" for place, name in enumerate(names)}
    for part in set(weight_map.values()):
        torch.save({name: state[name] for name in names if weight_map[name] == part}, directory / part)
    (directory / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (directory / "pytorch_model.bin").unlink()
    return directory


def halved(state: State, directory: Path) -> Path:
    save_file({name: x.bfloat16().clone() for name, x in state.items()}, directory / "model.safetensors")
    state |= {name: x.bfloat16() for name, x in state.items()}
    return directory


def with_the_embeddings_under_other_names(state: State, directory: Path) -> Path:
    torch.save({name: x for name, x in state.items() if name != "shared.weight"}, directory / "pytorch_model.bin")
    return directory


@pytest.mark.parametrize(
    ("save", "left_out"),
    [
        (wrapped, 0),
        (of_data_parallel, 1),
        (in_parts, 0),
        (halved, 0),
        (with_the_embeddings_under_other_names, 0),
    ],
)
def test_other_layouts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], save: Callable[[State, Path], Path], left_out: int
) -> None:
    state = published(tmp_path / "theirs")
    said = run(capsys, save(state, tmp_path / "theirs"), tmp_path / "out")
    assert f"not placed: {left_out or 'nothing'}" in said
    assert_taken_over(tmp_path / "out", state)


def test_without_a_head_or_a_tokenizer_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = published(tmp_path / "theirs")
    del state["lm_head.weight"]
    torch.save(state, tmp_path / "theirs/pytorch_model.bin")
    for name in ("spiece.model", "tokenizer_config.json"):
        (tmp_path / "theirs" / name).unlink()
    said = run(capsys, tmp_path / "theirs", tmp_path / "out")
    assert "no lm_head.weight in it: the head starts as the embeddings" in said
    assert "no tokenizer in" in said
    assert len(LANGUAGE_CODES) == len(
        json.loads((tmp_path / "out/config.json").read_text())["task_specific_params"]["langid_map"]
    )


def change(**values: Any) -> Callable[[Path, State], None]:
    def spoil(directory: Path, state: State) -> None:
        path = directory / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return spoil


def replace(**tensors: Any) -> Callable[[Path, State], None]:
    def spoil(directory: Path, state: State) -> None:
        changed: dict[str, Any] = dict(state)
        for name, value in tensors.items():
            full = name.replace("__", ".")
            changed[full] = value if not callable(value) else value(state[full])
            if value is None:
                del changed[full]
        torch.save(changed, directory / "pytorch_model.bin")

    return spoil


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("run",)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            change(d_ff=32),
            "DenseReluDense.wi_0.weight is 24 x 16 float32, and 32 x 16",
        ),
        (change(num_heads=2), "tensors do not fit"),
        (change(num_layers=3), "lacks 9 tensors of its mT5, encoder.block.2."),
        (change(num_layers="two"), "describes no mT5"),
        (change(model_type="mbart"), "model type 'mbart', not 'mt5': only mT5 is imported (network.text.pretrained="),
        (change(model_type="t5"), "model type 't5'"),
        (
            replace(decoder__embed_tokens__weight=lambda x: x + 1),
            "embed_tokens.weight differs from shared.weight",
        ),
        (replace(lm_head__weight=lambda x: x * float("nan")), "lm_head.weight has values that are not finite"),
        (replace(lm_head__weight=lambda x: x.long()), "lm_head.weight is "),
        (replace(shared__weight=Evil()), "pytorch_model.bin cannot be read (it holds more than tensors)"),
        (lambda at, _: (at / "config.json").unlink(), "config.json cannot be read"),
        (lambda at, _: (at / "pytorch_model.bin").unlink(), "holds no model.safetensors or pytorch_model.bin"),
        (lambda at, _: (at / "pytorch_model.bin").write_bytes(b"x" * 99), "pytorch_model.bin cannot be read"),
        (lambda at, _: torch.save([1], at / "pytorch_model.bin"), "holds no mapping of names to tensors"),
        (lambda at, _: torch.save({"a": torch.ones(1)}, at / "pytorch_model.bin"), "holds no shared.weight"),
        (
            lambda at, _: (at / "pytorch_model.bin").rename(at / "pytorch_model.bin.index.json"),
            "no mapping weight_map",
        ),
    ],
)
def test_what_cannot_be_taken_over_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil: Callable[[Path, State], object], message: str
) -> None:
    state = published(tmp_path / "theirs")
    spoil(tmp_path / "theirs", state)
    assert message in refusal(capsys, tmp_path / "theirs", tmp_path / "out")


def test_a_directory_that_holds_something_is_left_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    published(tmp_path / "theirs")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    assert main(["import", str(tmp_path / "theirs"), "--out", str(tmp_path / "out")]) == 2
    assert "is not empty: name a new directory to import to" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]
