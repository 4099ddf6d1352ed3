"""Stories, shards and corpora that the writer and the index refuse, in one line."""

import dataclasses
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from shards.errors import InputError
from shards.format.index import Corpus, open_corpus
from shards.format.merge import finish_corpus
from shards.format.writer import write_shard
from shards.schema import Article, Images, Story
from tests.support.tiny import make_stories
from tests.unit.shards.test_shards_on_disk import LANGUAGES, random_images


@pytest.mark.parametrize("harm", ["missing", "short"])
def test_a_tar_that_is_missing_or_short_is_refused(tiny_corpus: Corpus, tmp_path: Path, harm: str) -> None:
    directory = tmp_path / "corpus"
    shutil.copytree(tiny_corpus.directory, directory)
    tar = directory / "train-000001.tar"
    if harm == "missing":
        tar.unlink()
    else:
        os.truncate(tar, 512)
    with pytest.raises(InputError, match=r"train-000001\.tar"):
        open_corpus(directory)
    with pytest.raises(InputError, match=r"train-000001\.tar"):
        finish_corpus(directory, name="tiny", languages=tiny_corpus.languages, provenance={})


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("manifest.json", b""),
        ("manifest.json", b'{"format_version": 1'),
        ("manifest.json", b"[]"),
        ("manifest.json", b"{}"),
        ("manifest.json", b'{"format_version": 99}'),
        ("manifest.json", b'{"format_version": 1}'),
        ("manifest.json", b"\xff\xfe\x00{"),
        ("articles.npy", None),
        ("articles.npy", b"\x93NUMPY"),
        ("edges-test.npy", b""),
        ("directions-train.npy", None),
        ("story_keys.txt", None),
        ("tokenizer/spiece.model", None),
    ],
)
def test_a_damaged_corpus_is_one_line_that_says_what_to_do(
    tiny_corpus: Corpus, tmp_path: Path, name: str, content: bytes | None
) -> None:
    directory = tmp_path / "corpus"
    shutil.copytree(tiny_corpus.directory, directory)
    if content is None:
        (directory / name).unlink()
    else:
        (directory / name).write_bytes(content)
    with pytest.raises(InputError, match="prepare") as caught:
        open_corpus(directory)
    assert str(directory) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_directory_without_shards_cannot_be_finished(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no shards"):
        finish_corpus(tmp_path, name="test", languages=LANGUAGES, provenance={})


ENGLISH = Article(language="english", text="a", summary="b")


def with_features(roi: NDArray[np.generic], boxes: NDArray[np.generic]) -> Story:
    return Story(key="s-1", articles=(ENGLISH,), shared_images=Images(roi_IRV=roi, boxes_IR4=boxes))


ROI, BOXES = np.zeros((1, 3, 5), np.float16), np.zeros((1, 3, 4), np.float32)


@pytest.mark.parametrize(
    "story",
    [
        Story(key="s-1", articles=()),
        Story(key="s-1", articles=(ENGLISH, ENGLISH)),
        Story(key="s-1", articles=(Article(language="klingon", text="a", summary="b"),)),
        Story(key="s-1", articles=(Article(language="english", text=" \n", summary="b"),)),
        Story(key="s-1", articles=(Article(language="english", text="a", summary=""),)),
        Story(key="s-1", articles=(ENGLISH,), edges=(("english", "urdu"),)),
        with_features(ROI.astype(np.float32), BOXES),
        with_features(ROI, BOXES.astype(np.float64)),
        with_features(ROI[0], BOXES),
        with_features(ROI, BOXES[:, :2]),
        with_features(ROI + np.float16("inf"), BOXES),
        with_features(ROI + np.float16("nan"), BOXES),
        with_features(ROI, BOXES + np.float32(1.5)),
        with_features(ROI, BOXES - np.float32(0.1)),
        with_features(ROI, BOXES + np.float32("nan")),
        with_features(ROI[:0], BOXES[:0]),
        Story(key="s-1", articles=(ENGLISH,), images={"urdu": random_images(1, 0)}),
        Story(key="s-1", articles=(ENGLISH,), edges=(("english", "english"), ("english", "english"))),
        Story(key="s-1", articles=(Article(language="english", text="a\ud800", summary="b"),)),
    ],
)
def test_a_story_that_breaks_the_schema_is_refused_by_name(tmp_path: Path, story: Story) -> None:
    with pytest.raises(InputError, match="story 's-1'"):
        write_shard(tmp_path / "train-000000.tar", [story], LANGUAGES)
    assert not list(tmp_path.glob("*.tar"))


def test_features_of_two_sizes_are_no_corpus(tmp_path: Path) -> None:
    """Neither in one shard nor in two: a reader would take the one for the other."""
    narrow, wide = (
        Story(
            key=f"s-{width}",
            articles=(ENGLISH,),
            shared_images=Images(roi_IRV=ROI.repeat(width, axis=2), boxes_IR4=BOXES),
        )
        for width in (1, 2)
    )
    with pytest.raises(InputError, match="one size"):
        write_shard(tmp_path / "train-000000.tar", [narrow, wide], LANGUAGES)
    write_shard(tmp_path / "train-000000.tar", [narrow], LANGUAGES)
    write_shard(tmp_path / "train-000001.tar", [wide], LANGUAGES)
    with pytest.raises(InputError, match="several sizes"):
        finish_corpus(tmp_path, name="test", languages=LANGUAGES, provenance={})


def test_two_stories_of_one_key_are_refused(tmp_path: Path) -> None:
    """webdataset would take them for one sample."""
    made = make_stories(LANGUAGES, 2)
    twins = [made[0], dataclasses.replace(made[1], key=made[0].key)]
    with pytest.raises(InputError, match="twice"):
        write_shard(tmp_path / "train-000000.tar", twins, LANGUAGES)


def test_a_shard_of_no_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="train, validation, test"):
        write_shard(tmp_path / "dev-000000.tar", [], LANGUAGES)
