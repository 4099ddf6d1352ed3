"""Frozen networks that an objective reads: found by path, held by hash, changed by nothing, in no checkpoint."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from models.objectives import OBJECTIVES
from shards.errors import InputError
from shards.format.index import Corpus
from shards.text.tokenizer import open_tokenizer
from tests.support.checkpoints import recipe_in, write_checkpoint
from tests.support.harness import FP32
from tests.support.referring import Referring, ReferringConfig, referring_recipe
from tests.support.tiny import make_corpus
from trainer.assemble import assemble
from trainer.checkpoint.directory import identity
from trainer.distributed import group_of_one
from trainer.network import build_network
from trainer.plan import plan_run
from trainer.ranks import Ranks
from trainer.recipe import load_recipe
from trainer.references import REFERENCES, check_same_on_hosts, check_same_references, read_references
from trainer.trained import load_references, trained_network
from trainer.trained_files import find_trained, trained_recipe

ALONE = Ranks(rank=0, local_rank=0, world_size=1)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OBJECTIVES, "referring", ReferringConfig)


@pytest.fixture
def mls(tmp_path: Path, tiny_corpus: Corpus) -> Path:
    """A run of D2TV with one checkpoint."""
    return write_checkpoint(recipe_in(tmp_path / "mls", tiny_corpus), tiny_corpus)[0].parent.parent


def planned(folder: Path, corpus: Corpus, *more: str) -> None:
    plan_run(referring_recipe(folder, corpus, *more), FP32, ALONE)


def test_a_recipe_names_what_its_objective_reads(tmp_path: Path, tiny_corpus: Corpus) -> None:
    with pytest.raises(InputError, match=r"key 'references\.mls\.model' is missing: objective 'referring' reads that"):
        referring_recipe(tmp_path, tiny_corpus)
    given = "references.mls.model=~/runs/mls"
    with pytest.raises(InputError, match=r"references\.msl: .*'referring' reads no such .*did you mean 'mls'.*remove"):
        referring_recipe(tmp_path, tiny_corpus, given, "references.msl.model=runs/mls")
    with pytest.raises(
        InputError, match=r"references\.mls: objective 'd2tv' reads no such network, it reads pretrained: rem"
    ):
        load_recipe("d2tv", ["references.mls.model=runs/mls"])
    with pytest.raises(InputError, match=r"unknown key 'references\.mls\.initialise'.*did you mean 'initialises'"):
        referring_recipe(tmp_path, tiny_corpus, given, "references.mls.initialise=true")
    with pytest.raises(InputError, match=r"references\.mls\.initialises: must be true or false"):
        referring_recipe(tmp_path, tiny_corpus, given, "references.mls.initialises='yes'")
    recipe = referring_recipe(tmp_path, tiny_corpus, given, "references.mls.initialises=true")
    assert recipe.references["mls"].model == Path("~/runs/mls").expanduser()
    assert recipe.references["mls"].initialises
    (tmp_path / "saved.yaml").write_text(recipe.dump())
    assert load_recipe(str(tmp_path / "saved.yaml")) == recipe
    # What another objective reads is not inherited with the rest.
    (tmp_path / "other.yaml").write_text(f"extends: {tmp_path}/saved.yaml\nobjective: {{name: d2tv}}\n")
    assert load_recipe(str(tmp_path / "other.yaml")).references == {}


def test_one_reference_initialises(tmp_path: Path, tiny_corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ReferringConfig, "reference_names", ("mls", "other"))
    words = [
        f"references.{name}.{word}" for name in ("mls", "other") for word in ("model=runs/mls", "initialises=true")
    ]
    with pytest.raises(InputError, match=r"references\.mls and references\.other both initialise the network"):
        referring_recipe(tmp_path, tiny_corpus, *words)


def test_any_objective_may_begin_with_a_trained_network(tmp_path: Path, tiny_corpus: Corpus, mls: Path) -> None:
    """An objective that reads none is not given it, and keeps nothing of it."""
    checkpoint = find_trained(mls)
    trained = trained_network(
        trained_recipe(checkpoint), open_tokenizer(tiny_corpus.directory / "tokenizer"), checkpoint
    )
    words = [f"references.pretrained.model={mls}", "references.pretrained.initialises=true"]
    plan = plan_run(recipe_in(tmp_path / "run", tiny_corpus, "objective.contrast=false", *words), FP32, ALONE)
    objective = build_network(plan.recipe, plan.tokenizer, load_references(plan.references, plan.tokenizer))
    assert not objective.references
    for name, tensor in trained.state_dict().items():
        assert torch.equal(objective.network.state_dict()[name], tensor), name


def test_what_a_run_cannot_read_is_refused_before_a_rank_joins(tmp_path: Path, tiny_corpus: Corpus, mls: Path) -> None:
    def refused(message: str, model: Path, *more: str) -> None:
        with pytest.raises(InputError, match=message) as caught:
            planned(tmp_path, tiny_corpus, f"references.mls.model={model}", *more)
        assert "\n" not in str(caught.value)

    refused(r"references\.mls\.model: no whole checkpoint under .*/absent", tmp_path / "absent")
    refused(r"references\.mls: network\.vision\.max_images is 3 here, but 2 in", mls, "network.vision.max_images=3")
    refused(
        r"references\.mls: .* reads images, but network\.vision\.enabled is false", mls, "network.vision.enabled=false"
    )
    starts = "references.mls.initialises=true"
    refused(r"initialises .* network\.vision\.ffn_size is 48 here and 32 in", mls, starts, "network.vision.ffn_size=48")
    other = make_corpus(tmp_path / "other-corpus", vocab_size=400)
    foreign = write_checkpoint(recipe_in(tmp_path / "foreign", other), other)[0]
    refused(r"references\.mls: .* trained with another tokenizer, .*\(another .*\): set corpus\.tokenizer", foreign)
    state = next((mls / "checkpoints").glob("*/state.json"))
    state.write_bytes(state.read_bytes() + b" ")
    refused(r"references\.mls\.model: .* is damaged: state\.json is not what was written", mls)
    assert not (tmp_path / "run").exists()


def test_one_rank_of_a_host_reads_every_byte(tmp_path: Path, tiny_corpus: Corpus, mls: Path) -> None:
    words = [f"references.mls.model={mls}", "batch.groups_per_micro_batch=2"]
    recipe = referring_recipe(tmp_path, tiny_corpus, *words)
    found = plan_run(recipe, FP32, ALONE).references
    assert read_references(found)["mls"].identity == identity(find_trained(mls))
    file = next((mls / "checkpoints").glob("*/*.safetensors"))
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    second = Ranks(rank=1, local_rank=1, world_size=2)
    for ranks in (ALONE, second):
        assert plan_run(recipe, FP32, ranks).references == found, "weights are read once the ranks have joined"
    message = r"references\.mls\.model: .* is damaged: .*\.safetensors is not what was written"
    with pytest.raises(InputError, match=message):
        read_references(found)
    with group_of_one() as (ranks, device), pytest.raises(InputError, match=message):
        assemble(plan_run(recipe, FP32, ranks), device)


def test_hosts_hold_the_same_network(tmp_path: Path, tiny_corpus: Corpus, mls: Path) -> None:
    found = plan_run(referring_recipe(tmp_path, tiny_corpus, f"references.mls.model={mls}"), FP32, ALONE).references
    other = {"mls": replace(found["mls"], identity="ab" * 32)}
    check_same_on_hosts([("node1", found), ("node2", found)])
    was = identity(find_trained(mls))[:16]
    message = rf"references\.mls\.model: {mls}/.* \(sha256 {was}\) on node1 .* \(sha256 (ab){{8}}\) on node3: copy one"
    with pytest.raises(InputError, match=message):
        check_same_on_hosts([("node1", found), ("node2", found), ("node3", other)])


def test_the_network_starts_from_the_reference_that_initialises(tmp_path: Path, tiny_corpus: Corpus, mls: Path) -> None:
    tokenizer = open_tokenizer(tiny_corpus.tokenizer)
    words = [f"references.mls.model={mls}", "references.mls.initialises=true"]
    plan = plan_run(referring_recipe(tmp_path, tiny_corpus, *words), FP32, ALONE)
    references = load_references(plan.references, tokenizer)
    begun = build_network(plan.recipe, tokenizer, references).network.state_dict()
    wanted = references["mls"].state_dict()
    assert begun.keys() == wanted.keys()
    assert all(torch.equal(begun[name], wanted[name]) for name in wanted)
    # A reference that only is read leaves the weights, which the seed decides, as they are.
    reading = referring_recipe(tmp_path, tiny_corpus, words[0])
    alone, beside = (build_network(reading, tokenizer, given).state_dict() for given in ({}, references))
    assert all(torch.equal(alone[name], beside[name]) for name in alone)
    for word, message in (("d_ff=64", "feed_forward|DenseReluDense|wi"), ("num_layers=2", "absent there")):
        larger = referring_recipe(tmp_path, tiny_corpus, *words, f"network.text.{word}")
        with pytest.raises(
            InputError, match=rf"references\.mls initialises the network, but .*({message}).*set network"
        ):
            build_network(larger, tokenizer, references)
    # The same tensors would mean something else.
    heads = referring_recipe(tmp_path, tiny_corpus, *words, "network.text.num_heads=4", "network.text.d_kv=8")
    with pytest.raises(InputError, match=r"initialises the network, but .*(num_heads is 4 here and 2 there|relative)"):
        build_network(heads, tokenizer, references)


@pytest.mark.filterwarnings("ignore")
def test_training_reads_a_reference_and_changes_none(tmp_path: Path, tiny_corpus: Corpus, mls: Path) -> None:
    words = (f"references.mls.model={mls}", "references.mls.initialises=true", "training.steps=2")
    recipe = referring_recipe(tmp_path, tiny_corpus, *words)
    with group_of_one() as (ranks, device):
        trainer = assemble(plan_run(recipe, FP32, ranks), device).trainer
        objective = trainer.engine.module
        assert isinstance(objective, Referring)
        reference = objective.references["mls"]
        before = {name: tensor.clone() for name, tensor in reference.state_dict().items()}
        objective.train()
        for _ in range(2):
            trainer.train_step()
        trainer.save_now()
        trainer.close()
        assert not any(module.training for module in reference.modules())
        assert all(parameter.grad is None and not parameter.requires_grad for parameter in reference.parameters())
        after, trained = reference.state_dict(), objective.network.state_dict()
        assert all(torch.equal(before[name], after[name]) for name in before)
        assert any(not torch.equal(before[name], trained[name]) for name in before)
        again = assemble(plan_run(recipe, FP32, ranks), device).trainer
        again.close()
        resumed = again.engine.module.network.state_dict()
        assert again.step == 2
        assert all(torch.equal(resumed[name], trained[name]) for name in trained)  # not the reference's once more
    checkpoint = find_trained(recipe.run)
    with safe_open(next(checkpoint.glob("*.safetensors")), framework="pt") as tensors:
        names = {key.partition("/")[2] for key in tensors.keys()}  # noqa: SIM118
    assert names == {name for name, _ in objective.named_parameters()}
    assert len(names) == len(list(reference.parameters()))
    held = json.loads((checkpoint / REFERENCES).read_text())
    assert held == {"mls": {"path": str(find_trained(mls)), "identity": identity(find_trained(mls))}}

    moved = tmp_path / "elsewhere"
    shutil.move(mls, moved)
    planned(tmp_path, tiny_corpus, f"references.mls.model={moved}", *words[1:])  # the same by its hash
    other = write_checkpoint(recipe_in(tmp_path / "second", tiny_corpus), tiny_corpus, step=7)[0]
    was, now = identity(find_trained(moved))[:16], identity(other)[:16]
    message = rf"references\.mls {mls}/.* \(sha256 {was}\), this run has {other} \(sha256 {now}\): restore it or choose"
    with pytest.raises(InputError, match=message):
        planned(tmp_path, tiny_corpus, f"references.mls.model={other}", *words[1:])
    # The trained network is evaluated and exported without it.
    shutil.rmtree(moved)
    network = trained_network(trained_recipe(checkpoint), open_tokenizer(tiny_corpus.tokenizer), checkpoint)
    assert all(torch.equal(tensor, trained[name]) for name, tensor in network.state_dict().items())


def test_a_reference_neither_appears_nor_disappears(tmp_path: Path, tiny_corpus: Corpus, mls: Path) -> None:
    words = [f"references.mls.model={mls}"]
    recipe = referring_recipe(tmp_path, tiny_corpus, *words)
    checkpoint = write_checkpoint(recipe, tiny_corpus)[0]  # one without references.json
    with pytest.raises(InputError, match=rf"references\.mls nothing, this run has {mls}/.*: restore it or choose"):
        plan_run(recipe, bf16(tmp_path), ALONE)
    entry = {"mls": {"path": "runs/mls/checkpoints/step-00000006", "identity": "ab" * 32}}
    (checkpoint / REFERENCES).write_text(json.dumps(entry))
    with pytest.raises(InputError, match=r"references\.mls runs/mls/.* \(sha256 (ab){8}\), this run has nothing"):
        check_same_references({}, checkpoint)


def bf16(folder: Path) -> Path:
    """DeepSpeed keys as those of `write_checkpoint`."""
    file = folder / "bf16.json"
    file.write_text(json.dumps(json.loads(FP32.read_text()) | {"bf16": {"enabled": True}}))
    return file
