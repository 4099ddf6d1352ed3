"""`d2tv verify` on a corpus that keeps the image files beside their features."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from shards.format.merge import finish_corpus
from shards.format.writer import write_shard
from tests.support.sealing import reseal
from tests.support.strange import LANGUAGES, strange_stories
from tests.unit.launcher.test_verify import flip, verified, without_parts


@pytest.fixture
def with_pixels(tmp_path: Path) -> Path:
    write_shard(tmp_path / "train-000000.tar", strange_stories(pixels=True), LANGUAGES)
    finish_corpus(tmp_path, name="strange", languages=LANGUAGES, provenance={})
    return tmp_path


def test_image_files_are_checked_too(with_pixels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verified(with_pixels, capsys) == (0, [])
    tar = with_pixels / "train-000000.tar"
    table = np.load(with_pixels / "pixels.npy")
    sound = tar.read_bytes()
    random = np.random.default_rng(0)
    for image in (table[0], table[-1]):
        for place in (
            0,
            int(image["length"]) - 1,
            int(random.integers(0, image["length"])),
            -80,
            -512,
        ):  # and its header
            tar.write_bytes(sound)
            flip(tar, int(image["offset"]) + place, bit=int(random.integers(0, 8)))
            code, problems = verified(with_pixels, capsys)
            assert code == 1
            if place >= 0:
                [problem] = problems
                assert re.match(rf"train-000000\.tar: .*\.(png|jpg) at byte {image['offset']}: its checksum", problem)
    tar.write_bytes(sound)
    without_parts(with_pixels)
    (with_pixels / "articles.npy").write_bytes(b"")  # without an index, what the images themselves tell
    place = int(table[0]["offset"])
    tar.write_bytes(sound[:place] + b"\0" * 8 + sound[place + 8 :])
    assert any("is not of the format that its name says" in problem for problem in verified(with_pixels, capsys)[1])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda table: table[1:], "has 8 of 9 images at byte"),
        (lambda table: table[::-1], "come twice, or not in order"),
        (lambda table: np.concatenate([table, table[-1:]]), "come twice, or not in order"),
        (lambda table: table[["shard", "image"]], "is not a table of image files"),
    ],
    ids=["missing", "reversed", "twice", "other"],
)
def test_a_table_of_images_that_is_not_the_corpus(
    with_pixels: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[NDArray[np.void]], NDArray[np.void]],
    told: str,
) -> None:
    np.save(with_pixels / "pixels.npy", change(np.load(with_pixels / "pixels.npy")))
    without_parts(with_pixels)
    reseal(with_pixels)
    code, problems = verified(with_pixels, capsys)
    assert code == 1
    assert told in problems[0]
    assert problems[0].startswith("pixels.npy: ")
