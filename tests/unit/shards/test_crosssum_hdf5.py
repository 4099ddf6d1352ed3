"""MM-Sum's HDF5 files: limits and interrupts inside HDF5's callback, images that repeat, and content that lies."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from shards.corpora import open_source
from shards.corpora.crosssum.hdf5 import visit_names
from shards.errors import InputError
from shards.problems import Problems
from shards.text.sentencepiece_tokenizer import train_sentencepiece
from tests.support.crosssum_tree import REGIONS, WIDTH, CrossSumTree, features_of, url_hash
from tests.unit.shards.test_crosssum import load, opened


@pytest.fixture
def tree(tmp_path: Path) -> CrossSumTree:
    return CrossSumTree(tmp_path / "data")


def test_the_limit_is_one_line_wherever_in_a_file_it_is_passed(tree: CrossSumTree) -> None:
    tree.article("english", "e", images=1)
    for number in range(20):
        tree.image("e", 0, group=f"cover {number:02d}")
    tree.write()
    with pytest.raises(InputError, match=r"^6 problems .* allows 5: unknown image id 6 \(mmsum/images\.h5: cover 00"):
        opened(tree, max_problems=5)


@pytest.mark.parametrize("error", [InputError("full"), KeyboardInterrupt(), OSError(28, "No space left")])
def test_what_is_raised_for_a_name_passes_through_hdf5(tree: CrossSumTree, error: BaseException) -> None:
    tree.image("e", 0)
    tree.image("e", 1)
    visited = []

    def visit(name: str) -> None:
        visited.append(name)
        raise error

    with pytest.raises(type(error)) as caught:
        visit_names(tree.write() / "mmsum/images.h5", visit)
    assert caught.value is error
    assert visited == [f"{url_hash('e')}_0"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(5, "Input/output error")])
def test_what_reading_the_texts_raises_passes_through_sentencepiece(tmp_path: Path, error: BaseException) -> None:
    def texts() -> "object":
        yield "a word"
        raise error

    with pytest.raises(type(error)) as caught:
        train_sentencepiece(
            tmp_path,
            texts(),
            languages=["english"],
            vocab_size=300,
            character_coverage=1,  # type: ignore[arg-type]
        )
    assert caught.value is error


def test_an_image_that_files_repeat_is_taken_once_and_only_another_one_is_a_problem(tree: CrossSumTree) -> None:
    """As D2TV's evaluator has them: a file of features a direction, and a document's images in each of them."""
    for url, language in (("e", "english"), ("f", "french"), ("h", "hindi")):
        tree.article(language, url)
    directions = ("english-french", "english-hindi", "french-english")
    for direction in directions:
        for number in range(2):
            tree.image("e", number, file=f"{direction}_train.boxes36.h5")
    tree.image("f", 0, file=f"{directions[0]}_train.boxes36.h5", features=np.full((REGIONS, WIDTH), np.nan, np.float32))
    tree.image("f", 0, file=f"{directions[1]}_train.boxes36.h5")
    tree.image("f", 0, file=f"{directions[2]}_train.boxes36.h5", features=features_of("another", 0))
    source = opened(tree)
    stories, _, problems = load(source)
    assert problems.counts == {
        "repeated image": 4,
        "non-finite features": 1,
        "duplicate image": 1,
        "missing features": 1,
    }
    assert problems.total == 2
    assert problems.named["duplicate image"] == [f"{directions[2]}_train.boxes36.h5: {url_hash('f')}_0"]
    images = {url: (stories[url].images or {}).get(language) for url, language in (("e", "english"), ("f", "french"))}
    np.testing.assert_array_equal(images["e"].roi_IRV, [features_of("e", 0), features_of("e", 1)])
    np.testing.assert_array_equal(images["f"].roi_IRV, [features_of("f", 0)])
    assert source.provenance()["images"] == 3


def test_content_that_is_huge_elsewhere_or_no_numbers_is_counted_and_never_read(
    tree: CrossSumTree, tmp_path: Path
) -> None:
    tree.article("english", "e", images=3)
    data = tree.write()
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(4 * REGIONS * WIDTH))
    layout = h5py.VirtualLayout((REGIONS, WIDTH), "f4")
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", (REGIONS, WIDTH), "f4")
    with h5py.File(data / "mmsum/images.h5", "a") as file:

        def group(number: int) -> h5py.Group:
            return (
                file.copy(f"{url_hash('e')}_0", file, f"{url_hash('e')}_{number}") or file[f"{url_hash('e')}_{number}"]
            )

        def replaced(number: int, name: str) -> h5py.Group:
            made = group(number)
            del made[name]
            return made

        replaced(3, "features").create_dataset("features", (10**6, 10**6), "f4", chunks=(1, 10**6))  # 4 TB of nothing
        replaced(4, "boxes").create_dataset("boxes", (10**9, 4), "f4", chunks=(1, 4))
        replaced(5, "features").create_dataset(
            "features", (REGIONS, WIDTH), "f4", external=[(str(secret), 0, h5py.h5f.UNLIMITED)]
        )
        replaced(6, "features").create_virtual_dataset("features", layout)
        replaced(7, "features").create_dataset("features", data=np.ones((REGIONS, WIDTH), np.complex64))
        replaced(8, "features").create_group("features")
        replaced(9, "img_w").create_dataset("img_w", (10**12,), "f4", chunks=(10,))
        replaced(10, "img_h").create_dataset("img_h", data="480")
        replaced(11, "boxes").create_dataset("boxes", data=np.full((REGIONS, 4), np.inf))
        file[f"{url_hash('e')}_12"] = h5py.SoftLink("/nowhere")
        os.mkfifo(tmp_path / "fifo.h5")  # whose opening would block
        file[f"{url_hash('e')}_13"] = h5py.ExternalLink(str(tmp_path / "fifo.h5"), "/")
        file[f"{url_hash('e')}_14"] = np.zeros(3)
    stories, _, problems = load(opened(tree))
    assert problems.counts == {"wrong dims": 2, "broken image": 9, "non-finite features": 1}
    images = (stories["e"].images or {})["english"]
    np.testing.assert_array_equal(images.roi_IRV, [features_of("e", number) for number in range(3)])


def test_features_that_all_claim_too_much_give_no_shape(tree: CrossSumTree) -> None:
    tree.article("english", "e")
    tree.image("e", 0, features=None)
    with h5py.File(tree.write() / "mmsum/images.h5", "a") as file:
        file[f"{url_hash('e')}_0"].create_dataset("features", (10**6, 10**6), "f4", chunks=(1, 10**6))
    work = tree.root.parent / "work"
    work.mkdir()
    source = open_source("crosssum", cache=work, work=work, data=tree.root)
    problems = Problems()
    (story,) = source.load("train", 0, 1, problems)
    assert story.images is None
    assert problems.counts == {"wrong dims": 1}
