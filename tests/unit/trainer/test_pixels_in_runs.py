"""Pixels of images wherever an objective that needs them is used: evaluation, summaries, a run that goes on."""

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from launcher.cli import main
from launcher.summarize import Request, Summarizer
from models.objectives import OBJECTIVES
from shards.batch import fields
from shards.batch.reader import Reader
from shards.errors import InputError
from shards.format.index import Corpus
from shards.text.tokenizer import open_tokenizer
from tests.support.checkpoints import recipe_in, write_checkpoint
from tests.support.seeing import SIDE, SeeingConfig, register
from tests.support.tiny import make_corpus
from trainer.assemble import build_evaluator
from trainer.ds_config import read_saved_ds_config
from trainer.ranks import Ranks
from trainer.verdicts import check_same_recipe

#: Pixels without features.
ALONE = ("network.vision.enabled=false", "objective.contrast=false")


@pytest.fixture(autouse=True)
def seeing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OBJECTIVES, "seeing", SeeingConfig)
    monkeypatch.setattr(fields, "FIELDS", fields.FIELDS)  # set back afterwards
    register()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("pixels") / "corpus", pixels=True)


def first_picture(corpus: Corpus, row: int) -> np.ndarray:
    [file, *_] = Reader(corpus).image_files(row)
    return np.asarray(Image.open(io.BytesIO(file)).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("words", [(), ALONE], ids=["with features", "alone"])
def test_evaluation_sees_pixels(corpus: Corpus, tmp_path: Path, words: tuple[str, ...]) -> None:
    """Compare with the stored files, resized; training is in tests/distributed/test_pixels.py."""
    recipe = recipe_in(tmp_path / "run", corpus, "objective.name=seeing", *words)
    tokenizer, ranks = open_tokenizer(corpus.directory / "tokenizer"), Ranks(rank=0, local_rank=0, world_size=1)
    evaluator = build_evaluator(recipe, corpus, tokenizer, ranks, torch.device("cpu"))
    groups = evaluator.choose("test")
    batch = evaluator.collator(())(groups)
    evaluator.reader.close()
    assert batch.pixels_BIHWC is not None
    assert torch.equal(batch.pixels_BIHWC.flatten(2).any(dim=2), batch.image_mask_BI)
    assert batch.image_mask_BI.any()
    for row in batch.image_mask_BI[:, 0].nonzero()[:, 0].tolist():
        expected = first_picture(corpus, int(groups.source[row, 0]))
        np.testing.assert_array_equal(batch.pixels_BIHWC[row, 0], expected)


def test_an_evaluation_on_features_alone_is_refused(
    corpus: Corpus, tiny_corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Refuse before the model is loaded, as at the start of a training (tests/unit/launcher/test_train_refusals.py)."""
    checkpoint, _ = write_checkpoint(recipe_in(tmp_path / "run", tiny_corpus, "objective.name=seeing"), tiny_corpus)
    assert main(["evaluate", str(checkpoint)]) == 2
    error = capsys.readouterr().err
    assert "objective seeing reads the pixels of images, but " in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("features", [True, False])
def test_summaries_are_given_the_pictures_of_a_person(corpus: Corpus, tmp_path: Path, features: bool) -> None:
    words = ("network.vision.feature_size=2048",) if features else ALONE
    named = dataclasses.replace(corpus, manifest=corpus.manifest | {"name": "emoji" if features else "elsewhere"})
    checkpoint, _ = write_checkpoint(recipe_in(tmp_path / "run", corpus, "objective.name=seeing", *words), named)
    colours = ((250, 5, 9), (20, 90, 60), (7, 7, 7))
    paths = tuple(tmp_path / f"{number}.png" for number in range(3))
    for path, colour in zip(paths, colours, strict=True):
        Image.new("RGB", (70, 50), colour).save(path)
    summarizer = Summarizer(checkpoint)
    requests = [
        Request(text="sun moon", source=None, target="urdu", images=images, where="here") for images in ((), paths)
    ]
    batch = summarizer._batch(requests)
    assert batch.pixels_BIHWC is not None
    assert batch.image_mask_BI.tolist() == [[False, False], [True, True]]  # two an article, by the recipe
    assert not batch.pixels_BIHWC[0].any()
    for image in range(2):
        assert (batch.pixels_BIHWC[1, image] == torch.tensor(colours[image], dtype=torch.uint8)).all()
    assert batch.roi_BIRV[1].any() == features
    assert len(summarizer(requests)) == 2


def test_a_resumed_run_shows_the_same_pictures(corpus: Corpus, tmp_path: Path) -> None:
    """Hold `corpus.images`, which decides which pictures are shown, where no features are read, too."""
    words = ("objective.name=seeing", *ALONE)
    recipe = recipe_in(tmp_path / "run", corpus, *words, "corpus.images=source")
    checkpoint, _ = write_checkpoint(recipe, corpus)
    other = recipe_in(tmp_path / "run", corpus, *words, "corpus.images=target")
    config = read_saved_ds_config(checkpoint)
    check_same_recipe(recipe, config, checkpoint)
    with pytest.raises(InputError, match=r"was begun with another corpus\.images"):
        check_same_recipe(other, config, checkpoint)
