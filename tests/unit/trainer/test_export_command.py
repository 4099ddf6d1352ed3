"""`d2tv export`: a checkpoint as a directory of its own, and back, bit for bit; its card's code runs."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from launcher.cli import main
from models.objectives.base import Objective
from shards.errors import InputError
from shards.format.index import Corpus
from shards.format.merge import finish_corpus
from shards.stream.sampler import Groups
from tests.support.checkpoints import recipe_in, write_checkpoint
from tests.support.forkserver import ROOT
from tests.support.pretrained import save_mbart50, save_mt5
from tests.support.tiny import make_corpus, tiny_collator, tiny_overrides
from trainer.checkpoint.directory import CORPUS, identity
from trainer.export.model import export_model
from trainer.trained import open_model

MBART = ("network.text.architecture=mbart", "network.text.d_kv=", "network.text.max_position_embeddings=40")


@pytest.fixture(scope="module")
def trained(tiny_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Objective]:
    """A checkpoint of the tiny network with vision. Read it."""
    return write_checkpoint(recipe_in(tmp_path_factory.mktemp("trained") / "run", tiny_corpus), tiny_corpus)


@pytest.fixture(scope="module")
def model(trained: tuple[Path, Objective], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its export. Read it."""
    directory = tmp_path_factory.mktemp("exported") / "model"
    assert main(["export", str(trained[0]), str(directory)]) == 0
    return directory


def code_of(model: Path, language: str) -> list[str]:
    """The blocks of code in its model card."""
    return re.findall(rf"```{language}\n(.*?)```", (model / "README.md").read_text(), re.S)


def run_code(model: Path, code: str) -> str:
    """In a new process, in the model's directory; nothing of ours but what the code itself imports."""
    environment = os.environ | {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    path = {"PYTHONPATH": str(ROOT)} if "from trainer" in code else {"PYTHONPATH": "", "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=model, env=environment | path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def assert_same(model: Path, objective: Objective) -> None:
    """Bit for bit, and nothing more or less."""
    before, after = objective.network.state_dict(), open_model(model).network.state_dict()
    assert before.keys() == after.keys()
    assert [name for name in before if not torch.equal(before[name], after[name])] == []


def test_what_is_exported_comes_back_bit_for_bit(trained: tuple[Path, Objective], model: Path) -> None:
    checkpoint, objective = trained
    assert_same(model, objective)
    assert_same(checkpoint, objective)
    opened = open_model(model)
    assert not opened.network.training
    assert (model / "recipe.yaml").read_bytes() == (checkpoint / "recipe.yaml").read_bytes()
    assert opened.recipe.run == model
    assert not [name for name in load_file(model / "vision.safetensors") if not name.startswith(("vision.", "fusion."))]
    assert sorted(path.name for path in model.parent.iterdir()) == ["model"], "nothing half-made stays beside it"
    modes = {path.stat().st_mode for path in model.iterdir()}
    assert len(modes) == 1, "safetensors writes for its owner alone"


def test_it_needs_nothing_but_its_own_directory(tmp_path: Path) -> None:
    """Neither the run, nor the corpus with its tokenizer, nor the place it was written to."""
    corpus = make_corpus(tmp_path / "corpus", stories=40)
    checkpoint, objective = write_checkpoint(recipe_in(tmp_path / "run", corpus), corpus)
    assert main(["export", str(checkpoint), str(tmp_path / "new" / "model")]) == 0
    shutil.rmtree(tmp_path / "corpus")
    shutil.rmtree(tmp_path / "run")
    shutil.move(tmp_path / "new" / "model", tmp_path / "elsewhere")
    assert_same(tmp_path / "elsewhere", objective)


def test_a_pretrained_backbone_is_not_needed_again(model: Path, tiny_corpus: Corpus, tmp_path: Path) -> None:
    """An export is such a backbone: what is trained from it is exported, and it goes."""
    before = Path(shutil.copytree(model, tmp_path / "before"))
    given = [word.split("=") for word in tiny_overrides(Path("c"), Path("r")) if word.startswith("network.text.")]
    words = [f"{size}=" for size, value in given if not size.endswith("dropout") and value != "false"]
    words += [f"network.text.pretrained={before}", f"corpus.tokenizer={before}"]
    checkpoint, objective = write_checkpoint(recipe_in(tmp_path / "run", tiny_corpus, *words), tiny_corpus)
    assert main(["export", str(checkpoint), str(tmp_path / "model")]) == 0
    shutil.rmtree(before)
    assert_same(tmp_path / "model", objective)
    assert f"| began from | `{before}` |" in (tmp_path / "model" / "README.md").read_text()


@pytest.mark.parametrize(("kind", "vision"), [("mt5", True), ("mbart", True), ("mbart", False)])
def test_pretrained_tokenizers_and_their_code_in_transformers_alone(
    tiny_corpus: Corpus, tmp_path: Path, kind: str, vision: bool
) -> None:
    """The card's code writes what our network writes of an article without images."""
    tokenizer = {"mt5": save_mt5, "mbart": save_mbart50}[kind](tmp_path / "tokenizer")
    words = [f"corpus.tokenizer={tokenizer}", *(MBART if kind == "mbart" else ())]
    if not vision:
        words += ["network.vision.enabled=false", "objective.contrast=false"]
    checkpoint, objective = write_checkpoint(recipe_in(tmp_path / "run", tiny_corpus, *words), tiny_corpus)
    model = tmp_path / "model"
    assert main(["export", str(checkpoint), str(model)]) == 0
    assert (model / "vision.safetensors").exists() is vision
    shutil.rmtree(tokenizer)
    assert_same(model, objective)
    _, stock = code_of(model, "python")
    assert "trainer" not in stock
    assert run_code(model, stock + "\nprint(summary)").splitlines()[-1] == str(written(model, tiny_corpus))


def test_early_fusion_has_no_code_for_transformers_alone(tiny_corpus: Corpus, tmp_path: Path) -> None:
    """Its encoder reads marks that no tokenizer has."""
    # Greedy, too: transformers refuses to save a penalty of beams for one beam.
    recipe = recipe_in(tmp_path / "run", tiny_corpus, "network.fusion.kind=early", "evaluation.num_beams=1")
    checkpoint, objective = write_checkpoint(recipe, tiny_corpus)
    model = tmp_path / "model"
    assert main(["export", str(checkpoint), str(model)]) == 0
    assert_same(model, objective)
    (ours,) = code_of(model, "python")
    count = sum(parameter.numel() for parameter in objective.network.parameters())
    assert run_code(model, ours) == f"{count} parameters\n"
    assert "Transformers alone cannot run it" in (model / "README.md").read_text()


def test_the_corpus_own_tokenizer_in_sentencepiece_alone(
    trained: tuple[Path, Objective], model: Path, tiny_corpus: Corpus
) -> None:
    ours, stock = code_of(model, "python")
    assert "AutoTokenizer" not in stock
    assert run_code(model, stock + "\nprint(summary)").splitlines()[-1] == str(written(model, tiny_corpus))
    count = sum(parameter.numel() for parameter in trained[1].network.parameters())
    assert run_code(model, ours) == f"{count} parameters\n"


def written(where: Path, corpus: Corpus) -> list[int]:
    """Return what our network writes in English of the card's text, without images: ids up to the padding."""
    model = open_model(where)
    one = np.zeros((1, 1), np.int64)
    batch = tiny_collator(corpus)(Groups(number=np.zeros(1, np.int64), source=one, target=one, story=one))
    ids = torch.tensor([model.tokenizer.encode("The text of an article.", 512, "english")])
    batch = replace(
        batch,
        source_ids_BM=ids,
        source_mask_BM=torch.ones_like(ids, dtype=torch.bool),
        start_B=torch.tensor([model.tokenizer.start_id("english")]),
        image_mask_BI=torch.zeros_like(batch.image_mask_BI),
    )
    decoding = model.recipe.evaluation.decoding(model.recipe.lengths.summary)
    (found,) = model.network.generate(batch, decoding).tolist()
    assert len(set(found)) > 2, "a summary of one word would prove little"
    return list(found)


@pytest.mark.parametrize(("dtype", "torch_dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_other_precisions(
    trained: tuple[Path, Objective], tmp_path: Path, dtype: str, torch_dtype: torch.dtype
) -> None:
    checkpoint, objective = trained
    assert main(["export", str(checkpoint), str(tmp_path / "model"), "--dtype", dtype]) == 0
    for name in ("model.safetensors", "vision.safetensors"):
        assert {tensor.dtype for tensor in load_file(tmp_path / "model" / name).values()} == {torch_dtype}
    after = open_model(tmp_path / "model").network.state_dict()
    for name, tensor in objective.network.state_dict().items():
        assert torch.equal(after[name], tensor.to(torch_dtype).float()), name
    run_code(tmp_path / "model", code_of(tmp_path / "model", "python")[1])


def test_the_card_says_what_is_known(trained: tuple[Path, Objective], model: Path, tiny_corpus: Corpus) -> None:
    checkpoint, objective = trained
    card = (model / "README.md").read_text()
    facts = yaml.safe_load(card.split("---\n")[1])
    assert facts["language"] == ["en", "fr", "hi", "ur"]
    assert (facts["library_name"], facts["pipeline_tag"]) == ("d2tv", "summarization")
    for told in (
        "# run, step 6",
        "| steps | 6 of 6 |",
        "| precision | bf16, masters in fp32 |",
        f"`{identity(checkpoint)}`",
        f"`{tiny_corpus.content_hash}`",
        f"| all | {sum(p.numel() for p in objective.network.parameters()):,} |",
        "Not evaluated: the run holds no evaluation of this checkpoint.",
        "(nats a token): MMS 3.250, MXLS 4.500.",
        "Licences: the corpus' manifest names none.",
    ):
        assert told in card, told
    assert json.loads((model / CORPUS).read_text())["content_hash"] == tiny_corpus.content_hash


def test_scores_of_another_checkpoint_are_not_told(tiny_corpus: Corpus, tmp_path: Path) -> None:
    checkpoint, _ = write_checkpoint(recipe_in(tmp_path / "run", tiny_corpus), tiny_corpus)
    scores = {"rouge1": 12.34, "rouge2": 1.5, "rougeL": 10.0}
    report = {
        "split": "test",
        "settings": {"directions": "all", "num_beams": 2, "length_penalty": 0.6},
        "checkpoint": "another",
        "examples": 16,
        "unreadable": 0,
        "by_kind": {"mms": scores},
        "by_target": {"urdu": scores},
        "nll": {"mms": {"model": 2.5, "unigram": 3.0}},
    }
    folder = tmp_path / "run" / "evaluation"
    folder.mkdir()
    for place, whose in (("other", "another"), ("same", identity(checkpoint))):
        (folder / "test.json").write_text(json.dumps(report | {"checkpoint": whose}))
        assert main(["export", str(tmp_path / "run"), str(tmp_path / place)]) == 0
    assert "Not evaluated" in (tmp_path / "other" / "README.md").read_text()
    card = (tmp_path / "same" / "README.md").read_text()
    assert "Not evaluated" not in card
    assert "| MMS | 12.34 | 1.50 | 10.00 | 2.500 | 3.000 |" in card
    assert "| urdu (ur) | 12.34 | 1.50 | 10.00 |" in card
    (folder / "test.json").write_text("{")
    with pytest.raises(InputError, match=r"test\.json is not JSON"):
        export_model(tmp_path / "run", tmp_path / "third")
    assert not (tmp_path / "third").exists()


def test_licences_come_from_the_corpus_own_manifest(tmp_path: Path) -> None:
    make_corpus(tmp_path / "corpus", stories=40)
    packages = [{"name": "words", "version": "1.2", "license": "MIT"}, {"name": "drawings", "license": "ISC"}]
    corpus = finish_corpus(
        tmp_path / "corpus",
        name="tiny",
        languages=("english", "french", "hindi", "urdu"),
        provenance={"packages": packages},
    )
    checkpoint, _ = write_checkpoint(
        recipe_in(tmp_path / "run", corpus, f"corpus.tokenizer={corpus.directory}/tokenizer"), corpus
    )
    assert main(["export", str(checkpoint), str(tmp_path / "model")]) == 0
    assert "Made from: words 1.2 (MIT), drawings (ISC)." in (tmp_path / "model" / "README.md").read_text()
    assert json.loads((tmp_path / "model" / CORPUS).read_text())["licences"] == packages
    assert main(["export", str(checkpoint), str(tmp_path / "without"), "corpus.path=gone"]) == 0
    assert "was not at hand" in (tmp_path / "without" / "README.md").read_text()


def test_a_card_may_be_edited(model: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(model, tmp_path / "copy"))
    (copy / "README.md").write_text("mine")
    open_model(copy)
