"""Writer, index and reader on real files, beside stock `webdataset`, which shares no line with them."""

import dataclasses
import io
import json
import shutil
import tarfile
import tempfile
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
import webdataset as wds
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from shards.batch.reader import Reader, ReaderConfig
from shards.batch.spans import UnreadableError
from shards.errors import InputError
from shards.format.index import Corpus, open_corpus
from shards.format.merge import finish_corpus
from shards.format.pixels import DamagedImageError, decode, storable, suffix_of
from shards.format.writer import encode_key, index_path, shard_is_whole, split_of, write_shard
from shards.schema import Article, Images, Story
from shards.text.lines import has_text
from tests.support import strange
from tests.support.tiny import make_corpus, make_stories

LANGUAGES = ("english", "chinese_simplified", "urdu")
REGIONS, WIDTH = 3, 5
KEYS = st.one_of(
    st.text(min_size=1, max_size=40),
    st.sampled_from(
        ["a.b/c d", "../../etc", "خبر/۱۲.jpg", "x" * 300, "新闻 " * 100, "%2E", "~", ".", "__key__", "a\nb\0c"]
    ),
)
TEXTS = st.text(min_size=1, max_size=60).filter(has_text)


def random_images(count: int, seed: int) -> Images:
    random = np.random.default_rng(seed)
    return Images(
        roi_IRV=random.standard_normal((count, REGIONS, WIDTH)).astype(np.float16),
        boxes_IR4=random.random((count, REGIONS, 4), dtype=np.float32),
    )


@st.composite
def stories(draw: st.DrawFn) -> list[Story]:
    made = []
    for key in draw(st.lists(KEYS, min_size=1, max_size=4, unique=True)):
        present = draw(st.lists(st.sampled_from(LANGUAGES), min_size=1, max_size=3, unique=True))
        articles = tuple(
            Article(language=language, text=draw(TEXTS), summary=draw(TEXTS), url=draw(TEXTS)) for language in present
        )
        shared = draw(st.none() | st.sampled_from([1, 9]))
        own = draw(st.dictionaries(st.sampled_from(present), st.sampled_from([1, 2, 9]), max_size=3))
        seed = draw(st.integers(0, 1000))
        pairs = st.tuples(st.sampled_from(present), st.sampled_from(present))
        made.append(
            Story(
                key=key,
                articles=articles,
                shared_images=random_images(shared, seed) if shared else None,
                images={language: random_images(count, seed + count) for language, count in own.items()} or None,
                edges=draw(st.none() | st.lists(pairs, max_size=5, unique=True).map(tuple)),
            )
        )
    return made


def write_corpus(directory: Path, made: list[Story], split: str = "train") -> Corpus:
    write_shard(directory / f"{split}-000000.tar", made, LANGUAGES)
    return finish_corpus(directory, name="test", languages=LANGUAGES, provenance={})


def read_images(
    reader: Reader, row: int, room: int, regions: int = REGIONS, width: int = WIDTH
) -> tuple[int, NDArray[np.float16], NDArray[np.float32]]:
    roi = np.full((room, regions, width), -7, np.float16)
    boxes = np.full((room, regions, 4), -7, np.float32)
    [count] = reader.images([row], roi[None], boxes[None]).finish()
    if isinstance(count, UnreadableError):
        raise count
    return count, roi, boxes


@settings(max_examples=60, deadline=None)
@given(stories())
def test_stock_webdataset_and_our_reader_find_what_was_written(made: list[Story]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        corpus = write_corpus(Path(folder), made)
        samples = list(wds.WebDataset(str(Path(folder) / "train-000000.tar"), shardshuffle=False))
        reader = Reader(corpus)

        assert len(samples) == len(made)
        assert [sample["__key__"] for sample in samples] == corpus.story_keys() == [encode_key(s.key) for s in made]
        row = 0
        for number, (story, sample) in enumerate(zip(made, samples, strict=True)):
            members = {name for name in sample if not name.startswith("__")}
            expected_members = {f"{article.language}.json" for article in story.articles}
            for article in story.articles:
                record = json.loads(sample[f"{article.language}.json"])
                assert record == {"url": article.url, "text": article.text, "summary": article.summary}
                assert reader.article(row) == article
                assert int(corpus.articles["story"][row]) == number

                own = (story.images or {}).get(article.language)
                images = own or story.shared_images
                stem = f"{article.language}." if own else ""
                count, roi, boxes = read_images(reader, row, room=4)
                stored = 0 if images is None else len(images.roi_IRV)
                assert count == min(stored, 4)
                assert int(corpus.articles["images"][row]) == stored
                if images is not None:
                    expected_members |= {f"{stem}roi.npy", f"{stem}boxes.npy"}
                    np.testing.assert_array_equal(np.load(io.BytesIO(sample[f"{stem}roi.npy"])), images.roi_IRV)
                    np.testing.assert_array_equal(np.load(io.BytesIO(sample[f"{stem}boxes.npy"])), images.boxes_IR4)
                    np.testing.assert_array_equal(roi[:count], images.roi_IRV[:count])
                    np.testing.assert_array_equal(boxes[:count], images.boxes_IR4[:count])
                assert (roi[count:] == -7).all()  # what lies past the images is the caller's
                assert (boxes[count:] == -7).all()
                row += 1
            if story.shared_images is not None:  # stored even where every article has its own
                expected_members |= {"roi.npy", "boxes.npy"}
            assert members == expected_members
        reader.close()


def test_images_beside_their_features(tmp_path: Path) -> None:
    """Stock webdataset decodes them, and our reader gives each article its own."""
    made = strange.strange_stories(pixels=True)
    write_shard(tmp_path / "train-000000.tar", made, strange.LANGUAGES)
    corpus = finish_corpus(tmp_path, name="test", languages=strange.LANGUAGES, provenance={})
    assert corpus.manifest["pixels"] is True
    samples = list(wds.WebDataset(str(tmp_path / "train-000000.tar"), shardshuffle=False))
    decoded = list(wds.WebDataset(str(tmp_path / "train-000000.tar"), shardshuffle=False).decode("pil"))
    assert [sample["__key__"] for sample in samples] == corpus.story_keys()
    reader = Reader(corpus)
    row = 0
    for story, sample, pictures in zip(made, samples, decoded, strict=True):
        found = {name for name in sample if name.endswith((".png", ".jpg"))}
        for article in story.articles:
            own = (story.images or {}).get(article.language)
            files = ((own or story.shared_images).pixels or ()) if own or story.shared_images else ()
            assert reader.image_files(row) == files
            names = [
                f"{f'{article.language}.' if own else ''}{number}.{suffix_of(file)}"
                for number, file in enumerate(files)
            ]
            assert [sample[name] for name in names] == list(files)
            for name, picture in zip(names, reader.pixels(row), strict=True):
                assert picture.size == pictures[name].size
                np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), np.asarray(pictures[name]))
            found -= set(names)
            row += 1
        shared = story.shared_images.pixels or () if story.shared_images else ()
        assert found <= {f"{number}.{suffix_of(file)}" for number, file in enumerate(shared)}
    reader.close()
    plain = tmp_path / "plain"
    plain.mkdir()
    write_shard(plain / "train-000000.tar", strange.strange_stories(), strange.LANGUAGES)
    without = finish_corpus(plain, name="test", languages=strange.LANGUAGES, provenance={})
    assert "pixels" not in without.manifest
    assert not (plain / "pixels.npy").exists()
    with pytest.raises(
        InputError, match=r"keeps features and no pixels: prepare it with `d2tv prepare SOURCE --pixels`"
    ):
        Reader(without).pixels(0)


def test_some_images_with_pixels_and_some_without_are_no_corpus(tmp_path: Path) -> None:
    one, other = strange.strange_stories(pixels=True)[1], strange.strange_stories()[2]
    with pytest.raises(InputError, match="keeps the pixels of all its images, or of none"):
        write_shard(tmp_path / "train-000000.tar", [one, other], strange.LANGUAGES)
    write_shard(tmp_path / "train-000000.tar", [one], strange.LANGUAGES)
    write_shard(tmp_path / "train-000001.tar", [other], strange.LANGUAGES)
    with pytest.raises(InputError, match=r"train-000001\.index\.npz is of images without their pixels"):
        finish_corpus(tmp_path, name="test", languages=strange.LANGUAGES, provenance={})


def test_the_content_hash_vouches_for_pixels_whoever_wrote_which_shard(tmp_path: Path) -> None:
    made = strange.strange_stories(pixels=True)
    images = made[1].shared_images
    assert images is not None
    assert images.pixels is not None
    other = dataclasses.replace(images, pixels=(strange.image_file(99), *images.pixels[1:]))
    changed = [made[0], dataclasses.replace(made[1], shared_images=other), *made[2:]]
    hashes = []
    for name, of, order in (("one", made, (0, 1, 2, 3)), ("two", made, (3, 1, 0, 2)), ("three", changed, (0, 1, 2, 3))):
        (tmp_path / name).mkdir()
        for number in order:
            tar = tmp_path / name / f"train-{number:06d}.tar"
            write_shard(tar, of[2 * number : 2 * number + 2], strange.LANGUAGES)
        corpus = finish_corpus(tmp_path / name, name="test", languages=strange.LANGUAGES, provenance={})
        hashes.append(corpus.content_hash)
    assert hashes[0] == hashes[1] != hashes[2]


def test_what_is_neither_png_nor_jpeg_becomes_png() -> None:
    file = io.BytesIO()
    picture = Image.new("RGBA", (5, 3), (10, 20, 30, 40))
    picture.save(file, "WEBP", lossless=True, exact=True)
    stored = storable(file.getvalue())
    assert suffix_of(stored) == "png"
    np.testing.assert_array_equal(np.asarray(decode(stored)), np.asarray(picture))
    assert storable(stored) == stored
    with pytest.raises(DamagedImageError):
        storable(b"GIF89a")


@settings(max_examples=60, deadline=None)
@given(stories())
def test_the_edge_table_holds_each_storys_pairs_by_direction(made: list[Story]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        corpus = write_corpus(Path(folder), made)
        expected: dict[tuple[str, str], set[tuple[int, str, str]]] = {}
        for number, story in enumerate(made):
            present = [article.language for article in story.articles]
            pairs = story.edges if story.edges is not None else [(s, t) for s in present for t in present]
            for source, target in pairs:
                expected.setdefault((source, target), set()).add((number, source, target))
        counts = corpus.direction_counts("train")
        for target_number, target in enumerate(LANGUAGES):
            for source_number, source in enumerate(LANGUAGES):
                direction = target_number * len(LANGUAGES) + source_number
                begin, end = corpus.directions["train"][direction : direction + 2]
                found = [
                    (
                        int(corpus.articles["story"][t]),
                        LANGUAGES[corpus.articles["language"][s]],
                        LANGUAGES[corpus.articles["language"][t]],
                    )
                    for s, t in corpus.edges["train"][begin:end]
                ]
                assert len(found) == counts[target_number, source_number]
                assert set(found) == expected.get((source, target), set())
                assert len(found) == len(set(found))
        assert len(corpus.edges["train"]) == counts.sum() == corpus.manifest["splits"]["train"]["edges"]


@given(st.lists(KEYS, unique=True, max_size=30))
def test_keys_become_different_file_names_that_a_tar_and_a_disk_take(keys: list[str]) -> None:
    encoded = [encode_key(key) for key in keys]
    assert len(set(encoded)) == len(keys)
    for name in encoded:
        assert name.isascii()
        assert not set(name) & set("./\\ \n\0")
        assert 0 < len(f"{name}.chinese_traditional.boxes.npy") <= 255


def test_long_keys_that_differ_at_the_end_alone_stay_apart() -> None:
    assert encode_key("é" * 300 + "1") != encode_key("é" * 300 + "2")


def test_index_offsets_point_at_the_members_bytes(tiny_corpus: Corpus) -> None:
    checked = 0
    for record in tiny_corpus.articles:
        data = (tiny_corpus.directory / tiny_corpus.shards[record["shard"]]).read_bytes()
        for kind in ("json", "roi", "boxes"):
            begin, length = int(record[f"{kind}_offset"]), int(record[f"{kind}_length"])
            member = data[begin : begin + length]
            assert google_crc32c.value(member) == record[f"{kind}_crc"]
            if length:
                assert member.startswith(b"{" if kind == "json" else b"\x93NUMPY")
                checked += 1
    assert checked > len(tiny_corpus.articles)


def test_shared_images_are_stored_once(tiny_corpus: Corpus) -> None:
    articles = tiny_corpus.articles
    with_images = articles[articles["images"] > 0]
    places = {(int(r["shard"]), int(r["roi_offset"])) for r in with_images}
    assert len(places) < len(with_images) / 2
    members = 0
    for name in tiny_corpus.shards:
        with tarfile.open(tiny_corpus.directory / name) as archive:
            members += sum(member.name.endswith(".roi.npy") for member in archive)
    assert members == len(places)


@pytest.mark.parametrize("kind", ["text", "roi", "boxes"])
@pytest.mark.parametrize("where", [0, -1])
def test_a_flipped_bit_is_an_error_that_names_the_shard(
    tiny_corpus: Corpus, tmp_path: Path, kind: str, where: int
) -> None:
    shutil.copytree(tiny_corpus.directory, tmp_path / "corpus")
    corpus = open_corpus(tmp_path / "corpus")
    row = int(np.flatnonzero(corpus.articles["images"] == 3)[5])  # the third image lies past the room: checked too
    record = corpus.articles[row]
    damaged = corpus.directory / ("text.bin" if kind == "text" else corpus.shards[record["shard"]])
    data = bytearray(damaged.read_bytes())
    data[int(record[f"{kind}_offset"]) + (int(record[f"{kind}_length"]) + where) % int(record[f"{kind}_length"])] ^= 1
    damaged.write_bytes(data)
    reader = Reader(open_corpus(corpus.directory), ReaderConfig(retries=1, retry_seconds=0))
    with pytest.raises(UnreadableError, match="checksum") as caught:
        reader.article(row) if kind == "text" else read_images(reader, row, 2, regions=36, width=32)
    assert str(damaged) in str(caught.value)
    assert "\n" not in str(caught.value)
    other = int(np.flatnonzero(corpus.articles["shard"] != record["shard"])[0])
    assert reader.article(other).language in corpus.languages  # the rest stays readable


def test_features_of_another_size_than_asked_for_are_refused(tiny_corpus: Corpus) -> None:
    row = int(np.flatnonzero(tiny_corpus.articles["images"] == 2)[0])
    with pytest.raises(InputError, match="feature sizes"):
        read_images(Reader(tiny_corpus), row, 2, regions=36, width=2048)


def test_threads_share_a_reader(tiny_corpus: Corpus) -> None:
    from concurrent.futures import ThreadPoolExecutor

    alone = [Reader(tiny_corpus).article(row) for row in range(len(tiny_corpus.articles))]
    reader = Reader(tiny_corpus)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(reader.article, list(range(len(alone))) * 3)) == alone * 3


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


def test_a_kill_half_way_leaves_nothing_that_is_taken_for_a_shard(tmp_path: Path) -> None:
    made = make_stories(LANGUAGES, 9, feature_size=WIDTH, regions=REGIONS)
    write_shard(tmp_path / "train-000000.tar", made[:4], LANGUAGES)

    def killed_after_three():
        yield from made[4:7]
        raise Killed

    tar = tmp_path / "train-000001.tar"
    with pytest.raises(Killed):
        write_shard(tar, killed_after_three(), LANGUAGES)
    assert not shard_is_whole(tar)
    assert not tar.exists()
    assert not index_path(tar).exists()
    corpus = finish_corpus(tmp_path, name="test", languages=LANGUAGES, provenance={})
    assert corpus.shards == ("train-000000.tar",)
    assert len(corpus.story_keys()) == 4

    write_shard(tar, made[4:], LANGUAGES)  # begun again over what the kill left
    assert shard_is_whole(tar)
    assert finish_corpus(tmp_path, name="test", languages=LANGUAGES, provenance={}).story_keys() == [
        encode_key(story.key) for story in made
    ]
    assert not list(tmp_path.glob("*.partial"))


def test_a_tar_whose_index_never_came_is_not_whole(tmp_path: Path) -> None:
    tar = tmp_path / "train-000000.tar"
    write_shard(tar, make_stories(LANGUAGES, 3, feature_size=WIDTH, regions=REGIONS), LANGUAGES)
    index_path(tar).unlink()
    assert not shard_is_whole(tar)


def test_the_corpus_does_not_depend_on_where_or_in_which_order_it_was_written(tmp_path: Path) -> None:
    first = make_corpus(tmp_path / "first", stories=40)
    second = tmp_path / "second place"
    second.mkdir()
    for path in sorted(first.directory.iterdir(), reverse=True):  # made in another order, listed in another order
        if path.suffix == ".tar" or path.name.endswith(".index.npz"):
            shutil.copy(path, second)
    shutil.copytree(first.directory / "tokenizer", second / "tokenizer")
    provenance = first.manifest["provenance"]
    merged = finish_corpus(second, name="tiny", languages=first.languages, provenance=provenance)
    assert merged.content_hash == first.content_hash
    assert make_corpus(tmp_path / "third", stories=40).content_hash == first.content_hash
    assert make_corpus(tmp_path / "fourth", stories=40, seed=1).content_hash != first.content_hash


def test_one_changed_word_changes_the_content_hash(tmp_path: Path) -> None:
    made = make_stories(LANGUAGES, 5, feature_size=WIDTH, regions=REGIONS)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    before = write_corpus(tmp_path / "a", made)
    article = dataclasses.replace(made[0].articles[0], summary=made[0].articles[0].summary[::-1])
    made[0] = dataclasses.replace(made[0], articles=(article, *made[0].articles[1:]))
    after = write_corpus(tmp_path / "b", made)
    assert before.manifest["shards"] == after.manifest["shards"]  # same names, same bytes, same stories
    assert before.content_hash != after.content_hash


def test_the_split_is_80_10_10_by_key_alone() -> None:
    splits = [split_of(f"story {number}") for number in range(20_000)]
    shares = [splits.count(name) / len(splits) for name in ("train", "validation", "test")]
    np.testing.assert_allclose(shares, [0.8, 0.1, 0.1], atol=0.01)
    # Fixed for good: a key that moved from test to train would leak into a run that goes on.
    assert [split_of(key) for key in ("1f600", "1f993", "0023")] == ["train", "test", "test"]
