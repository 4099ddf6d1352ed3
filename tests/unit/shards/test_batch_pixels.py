"""Pixels of images in a batch: what is stored, decoded once a sequence, and counted where it is damaged."""

import io
import shutil
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from shards.batch import pictures
from shards.batch.collate import Collator, Lengths
from shards.batch.fetch import Fetcher, ImageSizes
from shards.batch.fields import PICTURE_SIDE, picture_side
from shards.batch.loader import Loader
from shards.batch.reader import Reader, ReaderConfig
from shards.batch.types import StreamBatch
from shards.errors import InputError
from shards.format.index import Corpus, open_corpus
from shards.format.merge import finish_corpus
from shards.format.writer import write_shard
from shards.schema import Images, Story
from shards.stream.mixture import MixtureConfig
from shards.stream.partition import Partition
from shards.stream.sampler import Groups, Sampler
from shards.text.tokenizer import open_tokenizer
from tests.support import strange
from tests.support.tiny import make_corpus
from tests.unit.shards.test_batch_fields import every_example, values

#: A side in place of 224, and images an article where there are up to three.
SIDE, IMAGES = 12, 2


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("pixels") / "corpus", pixels=True)


def collator(corpus: Corpus, side: int = SIDE, *, load: bool = True, threads: int = 0) -> Collator:
    reader = Reader(corpus, ReaderConfig(io_threads=threads, retries=0))
    sizes = ImageSizes(images=IMAGES, regions=36, feature_size=32, load=load, picture_side=side)
    tokenizer, lengths = open_tokenizer(corpus.directory / "tokenizer"), Lengths(document=32, summary=12)
    return Collator(corpus, Fetcher(corpus, reader, sizes), tokenizer, lengths, needs=("pixels",) if side else ())


def pixels_of(batch: StreamBatch) -> Tensor:
    assert batch.pixels_BIHWC is not None
    return batch.pixels_BIHWC


def expected(file: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(file)).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("threads", [0, 3])
def test_a_row_has_the_pictures_of_its_images(corpus: Corpus, threads: int) -> None:
    groups, reader = every_example(corpus), Reader(corpus)
    batch = collator(corpus, threads=threads)(groups)
    pixels_BIHWC = pixels_of(batch)
    assert (pixels_BIHWC.dtype, tuple(pixels_BIHWC.shape[1:])) == (torch.uint8, (IMAGES, SIDE, SIDE, 3))
    seen = Counter[int]()
    for row, source in enumerate(groups.source.ravel().tolist()):
        files = reader.image_files(source)[:IMAGES]
        assert batch.image_mask_BI[row].tolist() == [image < len(files) for image in range(IMAGES)]
        for image, file in enumerate(files):
            np.testing.assert_array_equal(pixels_BIHWC[row, image], expected(file))
        assert not pixels_BIHWC[row, len(files) :].any()
        seen[len(files)] += 1
    assert min(seen[count] for count in range(IMAGES + 1)) > 10
    assert not batch.unreadable


def test_a_batch_is_the_same_beside_them(corpus: Corpus) -> None:
    groups = every_example(corpus)
    plain, more = values(collator(corpus, 0)(groups)), values(collator(corpus)(groups))
    assert plain.pop("pixels_BIHWC") is None
    for name, value in plain.items():
        other = more[name]
        if isinstance(value, Tensor):
            assert isinstance(other, Tensor)
            assert value.dtype == other.dtype
            assert torch.equal(value, other), name
        else:
            assert value == other, name


def test_rows_with_the_same_images_share_one_decoding(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[bytes] = []
    decode = pictures.decode
    monkeypatch.setattr(pictures, "decode", lambda data: (decoded.append(data), decode(data))[1])
    batch = collator(corpus)(every_example(corpus))
    first = {number: row for row, number in reversed(list(enumerate(batch.images_B.tolist())))}
    assert len(decoded) == int(batch.image_mask_BI[list(first.values())].sum())
    assert len(decoded) < batch.image_mask_BI.sum() / 4


def test_memory_that_was_used_before_shows_nothing_of_it(corpus: Corpus) -> None:
    collate, groups = collator(corpus), every_example(corpus)
    first = pixels_of(collate(groups)).clone()  # the batch's own memory is free again
    turned = Groups(
        number=groups.number, source=groups.source[::-1], target=groups.target[::-1], story=groups.story[::-1]
    )
    assert torch.equal(pixels_of(collate(turned)), first.flip(0))


def test_pictures_are_read_without_features(corpus: Corpus) -> None:
    """Serve a model of patches alone, whose `network.vision.enabled` is false."""
    groups = every_example(corpus)
    whole, alone = collator(corpus)(groups), collator(corpus, load=False)(groups)
    assert alone.roi_BIRV.numel() == 0
    assert torch.equal(pixels_of(alone), pixels_of(whole))
    assert torch.equal(alone.image_mask_BI, whole.image_mask_BI)
    assert torch.equal(alone.images_B, whole.images_B)


def damaged(corpus: Corpus, folder: Path, place: int) -> Corpus:
    """Copy the corpus and change a byte in image file `place` of pixels.npy."""
    shutil.copytree(corpus.directory, folder)
    assert corpus.pixels is not None
    entry = corpus.pixels[place]
    path = folder / corpus.shards[entry["shard"]]
    data = bytearray(path.read_bytes())
    data[entry["offset"] + entry["length"] // 2] ^= 1
    path.write_bytes(data)
    return open_corpus(folder)


def test_a_damaged_picture_is_counted_and_named(corpus: Corpus, tmp_path: Path) -> None:
    assert corpus.pixels is not None
    groups, articles = every_example(corpus), np.asarray(corpus.articles)
    sound = collator(corpus)(groups)
    source = int(groups.source[int(sound.image_mask_BI[:, 1].nonzero()[0, 0]), 0])
    wanted = tuple(articles[source][["shard", "roi_offset"]].item())
    [place] = [row for row, entry in enumerate(corpus.pixels.tolist()) if entry[:3] == (*wanted, 1)]
    batch = collator(damaged(corpus, tmp_path / "corpus", place))(groups)
    shown = [articles[row][["shard", "roi_offset"]].item() == wanted for row in groups.source[:, 0].tolist()]
    lost = torch.tensor(shown) & sound.image_mask_BI.any(dim=1)
    assert 0 < lost.sum() < len(lost)
    assert batch.weight_B.tolist() == (~lost).float().tolist()
    assert [one.slot for one in batch.unreadable] == batch.slot_B[lost].tolist()
    shard, offset = corpus.shards[wanted[0]], corpus.pixels[place]["offset"]
    for one in batch.unreadable:
        assert one.problem == f"{tmp_path / 'corpus' / shard}, pixels at byte {offset}: its checksum is wrong"
    for name in ("pixels_BIHWC", "roi_BIRV", "image_mask_BI"):
        assert not getattr(batch, name)[lost].any(), name
        assert torch.equal(getattr(batch, name)[~lost], getattr(sound, name)[~lost]), name


def test_a_file_that_is_no_picture_is_counted_and_named(tmp_path: Path) -> None:
    """Count a file that was damaged before it was stored, so that its checksum is right."""
    made = strange.strange_stories(pixels=True)
    images = made[1].shared_images
    assert images is not None
    assert images.pixels is not None
    broken = Images(
        roi_IRV=images.roi_IRV,
        boxes_IR4=images.boxes_IR4,
        pixels=(images.pixels[0], images.pixels[1][:-80], *images.pixels[2:]),
    )
    made[1] = Story(key=made[1].key, articles=made[1].articles, shared_images=broken)
    write_shard(tmp_path / "train-000000.tar", made, strange.LANGUAGES)
    corpus = finish_corpus(tmp_path, name="test", languages=strange.LANGUAGES, provenance={})
    groups = every_example(corpus)
    for images_read, lost in ((1, 0), (3, int((groups.story[:, 0] == 1).sum()))):
        sizes = ImageSizes(images=images_read, regions=strange.REGIONS, feature_size=strange.WIDTH, picture_side=SIDE)
        fetched = Fetcher(corpus, Reader(corpus), sizes)(groups)
        assert [one.story for one in fetched.unreadable] == [1] * lost, "what lies past the images is not decoded"
        assert all("is no picture (it is damaged" in one.problem for one in fetched.unreadable)


def read(corpus: Corpus, ranks: int, micro: int, threads: int) -> dict[int, tuple[bytes, float]]:
    """Slot -> pixels and weight, of two steps of four groups in some layout."""
    found: dict[int, tuple[bytes, float]] = {}
    for rank in range(ranks):
        loader = Loader(
            Sampler(corpus, split="train", mixture=MixtureConfig(), seed=5, group_size=4),
            collator(corpus, threads=threads),
            Partition(groups_per_step=4, groups_per_micro_batch=micro, rank=rank, world_size=ranks),
            first_step=0,
            threads=threads,
            prefetch=2,
        )
        for batch in islice(loader, 2 * 4 // (micro * ranks)):
            rows = zip(batch.slot_B.tolist(), pixels_of(batch).numpy(), batch.weight_B.tolist(), strict=True)
            found |= {slot: (pixels_IHWC.tobytes(), weight) for slot, pixels_IHWC, weight in rows}
        loader.close()
    return found


def test_ranks_micro_steps_and_threads_read_the_same(corpus: Corpus, tmp_path: Path) -> None:
    of = damaged(corpus, tmp_path / "corpus", 7)
    plain = read(of, ranks=1, micro=1, threads=0)
    assert sorted(plain) == list(range(2 * 4 * 4))
    assert read(of, ranks=2, micro=1, threads=2) == plain
    assert read(of, ranks=1, micro=4, threads=1) == plain


def test_a_corpus_of_features_alone_is_refused(tiny_corpus: Corpus) -> None:
    assert tiny_corpus.why_no_pixels is not None
    with pytest.raises(
        InputError, match=r"keeps features and no pixels: prepare it with `d2tv prepare SOURCE --pixels`"
    ):
        collator(tiny_corpus)(every_example(tiny_corpus))


def test_a_field_whose_pictures_nobody_reads_is_refused(corpus: Corpus) -> None:
    assert picture_side(["source_summary"]) == 0
    assert picture_side(["source_summary", "pixels"]) == PICTURE_SIDE == 224
    fetch = Fetcher(corpus, Reader(corpus), ImageSizes(images=IMAGES, regions=36, feature_size=32))
    tokenizer, lengths = open_tokenizer(corpus.directory / "tokenizer"), Lengths(document=32, summary=12)
    with pytest.raises(InputError, match="give the Fetcher's ImageSizes a picture_side"):
        Collator(corpus, fetch, tokenizer, lengths, needs=("pixels",))(every_example(corpus))
