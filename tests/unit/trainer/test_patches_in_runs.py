"""Networks that read images as patches, wherever a recipe has one: evaluation, summaries, refusals."""

import dataclasses
from pathlib import Path

import pytest
import torch
from PIL import Image

from launcher.cli import main
from launcher.summarize import Request, Summarizer
from shards.errors import InputError
from shards.format.index import Corpus
from shards.text.tokenizer import open_tokenizer
from tests.support.checkpoints import recipe_in, write_checkpoint
from tests.support.tiny import make_corpus
from trainer.assemble import build_evaluator
from trainer.network import build_network
from trainer.plan import check_lengths
from trainer.ranks import Ranks

EARLY = ("objective.name=d2tv", "network.fusion.kind=early")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("pixels") / "corpus", pixels=True)


@pytest.mark.parametrize("read", ["patches", "both"])
def test_an_evaluation_reads_what_the_network_reads(corpus: Corpus, tmp_path: Path, read: str) -> None:
    recipe = recipe_in(tmp_path / "run", corpus, *EARLY, f"network.vision.inputs={read}")
    tokenizer, ranks = open_tokenizer(corpus.directory / "tokenizer"), Ranks(rank=0, local_rank=0, world_size=1)
    evaluator = build_evaluator(recipe, corpus, tokenizer, ranks, torch.device("cpu"))
    batch = evaluator.collator(())(evaluator.choose("test"))
    evaluator.reader.close()
    assert batch.pixels_BIHWC is not None
    assert batch.image_mask_BI.any()
    assert bool(batch.roi_BIRV.numel()) == (read == "both")
    torch.manual_seed(0)
    network = build_network(recipe, tokenizer).network.eval()
    seen_B = batch.image_mask_BI.any(dim=1)
    found = []
    for pixels_BIHWC in (batch.pixels_BIHWC, 255 - batch.pixels_BIHWC):
        with torch.no_grad():
            found.append(network.row_nll(dataclasses.replace(batch, pixels_BIHWC=pixels_BIHWC))[0])
    assert torch.equal(found[0] != found[1], seen_B)


def test_patches_want_a_corpus_with_pictures(
    corpus: Corpus, tiny_corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = recipe_in(tmp_path / "run", tiny_corpus, *EARLY, "network.vision.inputs=both")
    checkpoint, _ = write_checkpoint(recipe, tiny_corpus)
    assert main(["evaluate", str(checkpoint)]) == 2
    error = capsys.readouterr().err
    assert "network.vision.inputs both reads the pixels of images, but " in error
    assert error.count("\n") == 1


def test_late_fusion_has_no_patches(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"vision.inputs patches: the visual encoder of late fusion reads regions; set"
    ):
        recipe_in(tmp_path / "run", corpus, "network.vision.inputs=patches")


@pytest.mark.parametrize(("read", "taken"), [("regions", 75), ("patches", 101), ("both", 174)])
def test_visual_tokens_take_positions(corpus: Corpus, tmp_path: Path, read: str, taken: int) -> None:
    """Two images an article, [CLS], [BOS] and one or two [SEP]."""
    words = ("network.text.architecture=mbart", "network.text.d_kv=", "network.text.max_position_embeddings=200")
    recipe = recipe_in(
        tmp_path / "run", corpus, *EARLY, *words, f"network.vision.inputs={read}", "lengths.document=199"
    )
    with pytest.raises(InputError, match=f"of which {taken} are for the images: set it to at most {200 - taken}"):
        check_lengths(recipe, open_tokenizer(corpus.directory / "tokenizer"))
    full = recipe_in(
        tmp_path / "run",
        corpus,
        *EARLY,
        *words[:2],
        f"network.vision.inputs={read}",
        "lengths.document=9",
        "lengths.summary=9",
        "network.text.max_position_embeddings=40",
    )
    with pytest.raises(InputError, match=f"images: set network.text.max_position_embeddings to at least {taken + 9}"):
        check_lengths(full, open_tokenizer(corpus.directory / "tokenizer"))


@pytest.mark.parametrize("read", ["patches", "both"])
def test_summaries_read_the_pictures_of_a_person(corpus: Corpus, tmp_path: Path, read: str) -> None:
    recipe = recipe_in(
        tmp_path / "run", corpus, *EARLY, f"network.vision.inputs={read}", "network.vision.feature_size=2048"
    )
    named = dataclasses.replace(corpus, manifest=corpus.manifest | {"name": "emoji"})
    checkpoint, _ = write_checkpoint(recipe, named)
    Image.new("RGB", (70, 50), (250, 5, 9)).save(tmp_path / "red.png")
    summarizer = Summarizer(checkpoint)
    shown = Request(text="sun moon", source=None, target="urdu", images=(tmp_path / "red.png",), where="here")
    batch = summarizer._batch([shown])
    assert batch.pixels_BIHWC is not None
    assert (batch.pixels_BIHWC[0, 0] == torch.tensor([250, 5, 9], dtype=torch.uint8)).all()
    assert bool(batch.roi_BIRV[0, 0].any()) == (read == "both")
    assert len(summarizer([shown])) == 1
