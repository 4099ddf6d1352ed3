"""A directory of a model or tokenizer may name Python code of its own (auto_map): never run, and nobody is asked."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from models.backbones.checkpoint_config import architecture
from models.config import TextConfig
from shards.errors import InputError
from shards.text.tokenizer import open_tokenizer
from tests.support.pretrained import save_mt5
from trainer.evaluation.scoring.semantic import bertscore_f1, labse_similarity

TEXTS = [("one", "one")]


@pytest.fixture
def traces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the code would write; a person at the terminal would say yes to every question."""
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 20))
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    return tmp_path / "traces"


def foreign(directory: Path, traces: Path) -> Path:
    """A directory whose config.json and tokenizer_config.json name classes of evil.py."""
    directory.mkdir(exist_ok=True)
    (directory / "evil.py").write_text(
        f"open({str(traces)!r}, 'w').write('ran')\n"
        "from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizer\n"
        "class Config(PretrainedConfig):\n    model_type = 'evil'\n"
        "class Model(PreTrainedModel):\n    config_class = Config\n"
        "class Tokenizer(PreTrainedTokenizer):\n    pass\n"
    )
    names = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model", "AutoTokenizer": ["evil.Tokenizer", None]}
    for file, own in (
        ("config.json", {"model_type": "evil", "num_hidden_layers": 1}),
        ("tokenizer_config.json", {"tokenizer_class": "Tokenizer"}),
    ):
        stored = json.loads((directory / file).read_text()) if (directory / file).exists() else {}
        (directory / file).write_text(json.dumps(stored | own | {"auto_map": names}))
    return directory


@pytest.mark.parametrize(
    "load",
    [
        open_tokenizer,
        lambda path: labse_similarity(path, TEXTS, "cpu"),
        lambda path: bertscore_f1(path, TEXTS, "cpu"),
        lambda path: architecture(TextConfig(pretrained=str(path))),
    ],
    ids=["tokenizer", "labse", "bertscore", "pretrained"],
)
def test_code_beside_a_model_is_not_run(tmp_path: Path, traces: Path, load: Callable[[Path], object]) -> None:
    directory = foreign(save_mt5(tmp_path / "model"), traces)
    with pytest.raises(InputError) as caught:
        load(directory)
    assert "\n" not in str(caught.value)
    assert "trust_remote_code" not in str(caught.value)
    assert not traces.exists()
    assert not (tmp_path / "modules").exists()


def test_a_tokenizer_of_transformers_own_kind_is_read_without_the_code_beside_it(tmp_path: Path, traces: Path) -> None:
    directory = save_mt5(tmp_path / "model")
    config = json.loads((directory / "tokenizer_config.json").read_text())
    foreign(directory, traces)
    (directory / "config.json").unlink()
    stored = json.loads((directory / "tokenizer_config.json").read_text())
    (directory / "tokenizer_config.json").write_text(
        json.dumps(stored | {"tokenizer_class": config["tokenizer_class"]})
    )
    assert open_tokenizer(directory).vocab_size == open_tokenizer(save_mt5(tmp_path / "plain")).vocab_size
    assert not traces.exists()
