"""`launcher/train.py` on inputs that cannot work: exit code 2 and one line that names the fix, before any rank."""

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch.distributed as dist

from launcher.train import main
from models.objectives.d2tv_config import D2TVConfig
from shards.format.changes import fingerprint
from shards.format.index import Corpus, open_corpus
from shards.format.manifest import content_hash
from tests.support.tiny import tiny_overrides
from trainer.checkpoint.directory import CORPUS, INDEX, TrainState
from trainer.plan import plan_run
from trainer.ranks import Ranks
from trainer.recipe import load_recipe

DS_CONFIG = Path(__file__).resolve().parents[3] / "ds_configs" / "zero2_cpu.json"
GOOD_DS = json.loads(DS_CONFIG.read_text())


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As started with plain python, whatever the tests before have set."""
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


class Setup:
    """A run that would start, for a test to spoil."""

    def __init__(self, directory: Path, corpus: Corpus) -> None:
        self.corpus = directory / "corpus"
        shutil.copytree(corpus.directory, self.corpus)
        self.run = directory / "run"
        self.ds_config = directory / "ds.json"
        self.ds_config.write_text(json.dumps(GOOD_DS))
        self.overrides = tiny_overrides(self.corpus, self.run)
        self.recipe = "d2tv"
        self.options: list[str] = []

    def arguments(self) -> list[str]:
        return ["--ds_config", str(self.ds_config), "--recipe", self.recipe, *self.options, *self.overrides]

    def add_checkpoint(self, step: int, *overrides: str, **state: object) -> Path:
        """A committed checkpoint of this run, as far as it is read before loading."""
        recipe = load_recipe(self.recipe, [*self.overrides, *overrides])
        corpus = open_corpus(self.corpus).content_hash
        values = {"step": step, "seed": 0, "slot": 0, "world_size": 1, "corpus": corpus} | state
        checkpoint = self.run / "checkpoints" / f"step-{step:08d}"
        checkpoint.mkdir(parents=True)
        contents = {
            "recipe.yaml": recipe.dump(),
            "ds_config.json": json.dumps(GOOD_DS),
            "state.json": json.dumps(dataclasses.asdict(TrainState(**values))),
            CORPUS: json.dumps(fingerprint(open_corpus(self.corpus).manifest)),
            INDEX: "{}",
        }
        manifest = {}
        for name, content in contents.items():
            (checkpoint / name).write_text(content, encoding="utf-8")
            manifest[name] = {
                "bytes": len(content.encode()),
                "sha256": hashlib.sha256(content.encode()).hexdigest(),
            }
        (checkpoint / "manifest.json").write_text(json.dumps(manifest))
        return checkpoint


@pytest.fixture
def setup(tmp_path: Path, tiny_corpus: Corpus) -> Setup:
    return Setup(tmp_path, tiny_corpus)


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1, error
    assert error.endswith("\n")
    assert not dist.is_initialized()  # nobody was waited for
    return error


@pytest.mark.parametrize(
    ("override", "fix"),
    [
        ("corpus.path=nowhere", "--out nowhere"),
        ("corpus.tokenizer={tmp}/nothing", "no tokenizer in"),
        ("trainig.steps=3", "did you mean 'training'"),
        ("training.stesp=3", "did you mean 'steps'"),
        ("training.steps=ten", "training.steps"),
        ("training.steps", "key=value"),
        ("training.steps=[3", "not YAML"),
        ("objective.name=d2tvv", "did you mean 'd2tv'"),
        ("objective.betta=1", "did you mean 'beta'"),
        ("objective.branches=mxls", "set branches to 'both'"),
        ("network.vision.enabled=false", "set objective.contrast to false"),
        ("network.vision.feature_size=2048", "set it to 32"),
        ("network.vision.regions=49", "set it to 36"),
        ("network.fusion.num_heads=5", "does not divide"),
        ("mixture.languages=[en, cy]", "english, french, hindi, urdu"),
        ("mixture.languages=[en, frensh]", "did you mean 'french'"),
        ("mixture.kinds=[mls]", "mixture.kinds.0"),
        ("evaluation.directions=en>cy", "english, french, hindi, urdu"),
        ("evaluation.directions=everything", "all, mms, mxls"),
        ("batch.groups_per_micro_batch=3", "make it a multiple of 3"),
        ("batch.group_size=0", "batch.group_size"),
        ("batch.group_size=1000000007", "batch.group_size: must be less than or equal to 65536"),
        ("batch.group_size=300", "set it to at most 246"),
        ("evaluation.num_beams=999999999999", "evaluation.num_beams"),
        ("evaluation.num_beams=1000", "evaluation.num_beams is 1000, but the tokenizer has"),
        ("training.seed=18446744073709551616", "training.seed: must be less than or equal to 18446744073709551615"),
        ("training.steps=99999999999999", "training.steps"),
        ("lengths.summary=10000000000", "lengths.summary"),
        ("loader.threads=100000000", "loader.threads"),
        ("watchdog.step=1e18", "watchdog.step"),
        ("network.text.relative_attention_num_buckets=1", "must be greater than or equal to 4"),
        ("network.text.relative_attention_max_distance=8", "must be above half of the 32 buckets"),
        ("network.text.feed_forward_proj=evil", "network.text.feed_forward_proj"),
        ("prometheus.port=99999", "prometheus.port"),
        ("mixture.directions=en-xx", "unknown language 'xx'"),
        ("mixture.directions=en-fr,", "none of all, mms, mxls"),
        ("mixture.weights={{en-fr: -1}}", "greater than or equal to 0"),
        ("mixture.weights={{en-fr: 0}}", "leaves no direction"),
        ("mixture.max_passes=0.01", "raise it, train fewer steps"),
        ("mixture.changes=[{{from_step: 2}}, {{from_step: 2}}]", "in the order of their steps"),
        ("mixture.changes=[{{from_step: 2, outer_exponant: 1}}]", "outer_exponent"),
        ("mixture.changes=[{{from_step: 2, directions: en-xx}}]", "unknown language 'xx'"),
        ("loader.retrys=2", "did you mean 'retries'"),
        ("corpus.path=https://me:secret@example.org/corpus", "use ~/.netrc"),
        ("corpus.path=https://example.org/corpus?signature=secret", "use ~/.netrc"),
        ("corpus.path=http://[::1/corpus", "is no URL"),
        ("corpus.path=http://127.0.0.1:9/corpus", "127.0.0.1:9"),
        ("mixture.weights={{en-*: 1, '*-fr': 2}}", "english>french two weights"),
        ("loader.cache={tmp}/cache", "unset loader.cache"),
        ("loader.max_unreadable_share=2", "loader.max_unreadable_share"),
        ("checkpoint.evry=5", "did you mean 'every'"),
        ("checkpoint.keep_last=0", "checkpoint.keep_last"),
        ("checkpoint.keep_best=rouge", "checkpoint.keep_best"),
        ("watchdog.step=0", "watchdog.step"),
        ("watchdog.stepp=60", "did you mean 'step'"),
        ("training.spike_deviations=-1", "training.spike_deviations"),
    ],
)
def test_an_override_that_cannot_work(
    setup: Setup, tmp_path: Path, capsys: pytest.CaptureFixture[str], override: str, fix: str
) -> None:
    setup.overrides.append(override.format(tmp=tmp_path))
    assert fix in refusal(setup.arguments(), capsys)
    assert not setup.run.exists()


def spoil_json(key: str, value: object) -> Callable[[Setup], None]:
    return lambda setup: setup.ds_config.write_text(json.dumps(GOOD_DS | {key: value})) and None


def write(name: str, content: bytes) -> Callable[[Setup], None]:
    return lambda setup: (setup.corpus / name).write_bytes(content) and None


def remove(name: str) -> Callable[[Setup], None]:
    def act(setup: Setup) -> None:
        path = setup.corpus / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return act


def set_recipe(name: str) -> Callable[[Setup], None]:
    return lambda setup: setattr(setup, "recipe", name)


@pytest.mark.parametrize(
    ("spoil", "fix"),
    [
        (set_recipe("d2tw"), "did you mean 'd2tv'"),
        (set_recipe("no/such/file.yaml"), "a path, or one of across,"),
        (lambda setup: setup.ds_config.unlink(), "no DeepSpeed config at"),
        (lambda setup: setup.ds_config.write_text("{'stage': 2}"), "not JSON"),
        (spoil_json("train_batch_size", 64), '"auto"'),
        (spoil_json("optimizer", {"type": "AdamW"}), "remove it here"),
        (spoil_json("zero_optimization", {"stage": 3}), "stage must be 1 or 2"),
        (spoil_json("bf16", True), "must be an object"),
        (spoil_json("bf_16", {"enabled": True}), "did you mean 'bf16'?"),
        (spoil_json("zero_optimization", {"stage": 2, "overlap_com": True}), "did you mean 'overlap_comm'?"),
        (lambda setup: setup.ds_config.write_text('{"bf16": {}, "bf16": {}}'), "key 'bf16' stands twice"),
        (write("manifest.json", b'{"format_version": 1'), "prepare the corpus again"),
        (write("manifest.json", b"[]"), "prepare the corpus again"),
        (write("manifest.json", b'{"format_version": 7}'), "prepare the corpus again"),
        (write("manifest.json", b'{"format_version": 1, "files": {}, "shards": []}'), "prepare the corpus again"),
        (write("articles.npy", b"short"), "prepare the corpus again"),
        (remove("edges-train.npy"), "prepare the corpus again"),
        (remove("train-000001.tar"), "prepare the corpus again"),
        (remove("tokenizer"), "prepare the corpus again"),
        (lambda setup: setup.add_checkpoint(3, "network.text.d_ff=64"), "begun with another network.text"),
        (
            lambda setup: setup.add_checkpoint(3, "optimizer.eps=1e-6"),
            "another optimizer.eps (1e-06): restore",
        ),
        (lambda setup: setup.add_checkpoint(3, "corpus.images=target"), "begun with another corpus.images (target): "),
        (lambda setup: setup.add_checkpoint(3, "training.seed=8", seed=8), "begun with another training.seed"),
        (lambda setup: (setup.add_checkpoint(3), setup.options.append("--resume=never")), "--resume never, but"),
        (lambda setup: setup.options.append("--resume=must"), "--resume must, but"),
        (lambda setup: setup.add_checkpoint(3, corpus="other"), "choose another run="),
    ],
)
def test_a_file_that_cannot_work(
    setup: Setup, capsys: pytest.CaptureFixture[str], spoil: Callable[[Setup], object], fix: str
) -> None:
    spoil(setup)
    assert fix in refusal(setup.arguments(), capsys)


@pytest.mark.parametrize(
    ("environment", "fix"),
    [
        (
            {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "3"},
            "sizes that fit are 1; or make it a multiple of 12",
        ),
        ({"RANK": "0", "WORLD_SIZE": "1"}, "start with `deepspeed`"),
        ({"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "two"}, "start with `deepspeed`"),
    ],
)
def test_ranks_that_cannot_work(
    setup: Setup,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    environment: dict[str, str],
    fix: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert fix in refusal(setup.arguments(), capsys)


def test_a_corpus_without_the_pixels_that_the_objective_reads(
    setup: Setup, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(D2TVConfig, "needs", frozenset({"pixels"}))
    assert refusal(setup.arguments(), capsys) == (
        f"error: objective d2tv reads the pixels of images, but {setup.corpus} keeps features and no pixels: prepare "
        "it with `d2tv prepare SOURCE --pixels` into another directory, and set corpus.path=\n"
    )
    assert not setup.run.exists()


def plan(setup: Setup, *overrides: str) -> int:
    """The step that the planned run's newest readable checkpoint is at; raises what `plan_run` raises."""
    recipe = load_recipe(setup.recipe, [*setup.overrides, *overrides])
    return plan_run(recipe, setup.ds_config, Ranks(rank=0, local_rank=0, world_size=1)).partition.micro_steps


def test_what_is_spoiled_above_would_have_started(setup: Setup) -> None:
    assert plan(setup) == 1


def test_a_damaged_newest_checkpoint_does_not_stop_the_one_before(setup: Setup) -> None:
    setup.add_checkpoint(3)
    newest = setup.add_checkpoint(6)
    (newest / "state.json").write_text("{")
    assert plan(setup) == 1
    (newest / "state.json").unlink()
    (newest / "recipe.yaml").write_bytes(b"\xff\xfe")
    assert plan(setup) == 1
    (newest / "manifest.json").write_bytes(b"\0")
    assert plan(setup) == 1


def test_a_damaged_newest_checkpoint_does_not_hide_that_the_recipe_is_another(
    setup: Setup, capsys: pytest.CaptureFixture[str]
) -> None:
    setup.add_checkpoint(3, "optimizer.eps=1e-6")
    (setup.add_checkpoint(6) / "state.json").write_text("{")
    assert "begun with another optimizer.eps" in refusal(setup.arguments(), capsys)


@pytest.mark.parametrize(
    "override",
    [
        "training.log_every=2",
        "checkpoint.every=5",
        "checkpoint.keep_best=mean",
        "watchdog.step=60",
        "training.spike_deviations=null",
        "loader.threads=2",
        "evaluation.num_beams=1",
        "prometheus.port=0",
        "validation.batch_size=4",
    ],
)
def test_a_resumed_run_may_change_what_does_not_touch_the_mathematics(setup: Setup, override: str) -> None:
    setup.add_checkpoint(3)
    assert plan(setup, override) == 1


def test_a_corpus_without_images_takes_any_feature_size(setup: Setup) -> None:
    manifest = json.loads((setup.corpus / "manifest.json").read_text())
    manifest |= {"feature_size": 0, "regions": 0}
    manifest["content_hash"] = content_hash(manifest)
    (setup.corpus / "manifest.json").write_text(json.dumps(manifest))
    assert plan(setup, "network.vision.feature_size=2048") == 1


def test_a_mixture_may_change_from_a_step_that_is_still_to_come(
    setup: Setup, capsys: pytest.CaptureFixture[str]
) -> None:
    """Refuse a change before the checkpoint's step: examples were read under the mixture of before."""
    setup.add_checkpoint(3, "mixture.changes=[{from_step: 2, outer_exponent: 1.0}]", attempts=3)
    then = "{from_step: 2, outer_exponent: 1.0}"
    assert plan(setup, f"mixture.changes=[{then}]") == 1
    assert plan(setup, f"mixture.changes=[{then}, {{from_step: 3, kinds: [mms]}}]") == 1
    for before in ("", "{from_step: 2, outer_exponent: 0.9}", f"{{from_step: 1, kinds: [mms]}}, {then}"):
        error = refusal([*setup.arguments(), f"mixture.changes=[{before}]"], capsys)
        assert "another mixture.changes before step 3" in error
        assert "from_step 3 and later are free" in error


def test_a_run_of_the_first_release_is_told_from_ours(setup: Setup, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = setup.add_checkpoint(3)
    (checkpoint / INDEX).unlink()
    (checkpoint / "deepspeed").mkdir()
    assert "release 0.1.0" in refusal(setup.arguments(), capsys)


@pytest.mark.parametrize("begun_with", ["objective.temperature=0.05", "objective.distance=mse", "lengths.summary=9"])
def test_a_run_is_not_continued_with_another_recipe(
    setup: Setup, capsys: pytest.CaptureFixture[str], begun_with: str
) -> None:
    """Also where today's recipe leaves the key to its default."""
    setup.add_checkpoint(3, begun_with)
    assert f"another {begun_with.split('=')[0]}" in refusal(setup.arguments(), capsys)


def test_a_run_is_not_continued_in_another_precision(setup: Setup, capsys: pytest.CaptureFixture[str]) -> None:
    setup.add_checkpoint(3)
    setup.ds_config.write_text(json.dumps(GOOD_DS | {"bf16": {"enabled": True}}))
    assert "another 'bf16' in --ds_config" in refusal(setup.arguments(), capsys)


def test_a_run_directory_that_cannot_be_one(setup: Setup, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    setup.overrides.append(f"run={tmp_path / 'file'}")
    assert "choose another run=" in refusal(setup.arguments(), capsys)


def test_other_ranks_leave_the_talking_to_the_first(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waited: list[float] = []
    monkeypatch.setattr("launcher.train.time.sleep", waited.append)  # the wait itself is not what is tested
    for name, value in {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "3"}.items():
        monkeypatch.setenv(name, value)
    assert main(setup.arguments()) == 2
    assert capsys.readouterr().err == ""
    assert waited


def test_the_tiny_corpus_has_what_these_tests_rely_on(tiny_corpus: Corpus) -> None:
    assert tiny_corpus.languages == ("english", "french", "hindi", "urdu")
    assert np.count_nonzero(tiny_corpus.direction_counts("train")) == 16
