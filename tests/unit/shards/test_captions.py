"""Read and build small directories of real pictures with captions as `d2tv prepare captions` does."""

import bz2
import gzip
import json
import lzma
import os
import re
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from launcher.cli import main
from shards.batch.collate import Collator, Lengths
from shards.batch.fetch import Fetcher, ImageSizes
from shards.batch.loader import Loader
from shards.batch.reader import Reader, ReaderConfig
from shards.corpora import Source, open_source
from shards.corpora.features import GridFeatures
from shards.corpora.grid import grid_boxes
from shards.corpora.npm import RESNET, fetch
from shards.errors import InputError
from shards.files.caches import default_cache
from shards.format.index import open_corpus
from shards.format.manifest import SPLITS
from shards.format.writer import encode_key
from shards.problems import Problems
from shards.schema import Article, Story
from shards.stream.mixture import MixtureConfig
from shards.stream.partition import Partition
from shards.stream.sampler import Sampler
from shards.text.tokenizer import open_tokenizer
from tests.support.captions_tree import CaptionsTree, picture


@pytest.fixture
def tree(tmp_path: Path) -> CaptionsTree:
    return CaptionsTree(tmp_path / "data")


def opened(tree: CaptionsTree, *, pixels: bool = False, **options: int) -> Source:
    """Write the tree and open it as a source, its index beside it."""
    work = tree.root.parent / "work"
    work.mkdir(exist_ok=True)
    return open_source("captions", cache=default_cache(), work=work, data=tree.write(), pixels=pixels, **options)


def load(source: Source) -> tuple[dict[str, Story], Problems]:
    """Return all stories by key, and what was counted all in all."""
    problems = Problems()
    problems.add(source.problems())
    stories = [s for split in SPLITS for s in source.load(split, 0, source.stories(split), problems)]
    assert len({story.key for story in stories}) == len(stories)
    return {story.key: story for story in stories}, problems


def captions(story: Story) -> dict[str, str]:
    return {article.language: article.summary for article in story.articles}


def test_the_captions_of_an_image_are_one_story_with_that_picture(tree: CaptionsTree) -> None:
    tree.picture("photos/a.jpg", 1, "JPEG")
    tree.picture("photos/b.png", 2)
    tree.caption("photos/a.jpg", "en", "A dog.")
    tree.caption("photos/b.png", "fr", "Un chat.")
    tree.caption("./photos//a.jpg", "french", "Un chien.", file="more.jsonl")
    tree.caption("photos/a.jpg", "pt-BR", "Um cão.", file="z.jsonl")
    stories, problems = load(opened(tree, pixels=True))
    assert problems.counts == {}
    assert {key: captions(story) for key, story in stories.items()} == {
        "photos/a.jpg": {"english": "A dog.", "french": "Un chien.", "portuguese": "Um cão."},
        "photos/b.png": {"french": "Un chat."},
    }
    story = stories["photos/a.jpg"]
    assert story.articles[0] == Article(
        language="english", text="A dog.", summary="A dog.", url="captions:photos/a.jpg"
    )
    assert story.edges is None  # all directions
    assert story.images is None
    images = story.shared_images
    assert images is not None
    assert images.pixels == ((tree.root / "photos/a.jpg").read_bytes(),)
    np.testing.assert_array_equal(images.boxes_IR4, grid_boxes()[None])
    expected = GridFeatures(fetch(RESNET, default_cache())).extract([picture(2)])
    b = stories["photos/b.png"].shared_images
    assert b is not None
    # A batch of another size may round differently.
    np.testing.assert_allclose(b.roi_IRV, expected, rtol=0.05, atol=0.05)
    assert not np.allclose(images.roi_IRV, b.roi_IRV, rtol=0.05, atol=0.05)


def test_bad_lines_are_counted_named_and_left_out(tree: CaptionsTree) -> None:
    tree.picture("a.png")
    tree.picture("unused/b.PNG", 2)
    tree.caption("a.png", "en", "The first.")
    tree.caption("a.png", "english", "A second.")
    tree.caption("a.png", "de", "Ein Hund.")
    tree.caption("a.png", "de-AT", "Ein Hund.")
    tree.caption("a.png", "zh", "狗")
    tree.caption("a.png", "englisch", "A dog.")
    tree.caption("a.png", "hi", " \u200b")
    tree.line('{"image": "a.png", "language": "ur", "caption": "half \\ud800 a pair"}')
    tree.line("")
    tree.line('{"image": "a.png", "language": "fr"')
    tree.line('{"image": "a.png", "language": "fr", "caption": 7}')
    tree.caption("", "fr", "Un chien.")
    tree.write()
    (tree.root / "empty.jsonl").touch()
    (tree.root / "README.md").write_text("words")
    (tree.root / "captions.csv").write_text("words")
    source = opened(tree)
    stories, problems = load(source)
    assert {key: captions(story) for key, story in stories.items()} == {
        "a.png": {"chinese_simplified": "狗", "english": "The first."}
    }
    assert problems.counts == {
        "further caption": 1,
        "other language": 2,
        "unknown language": 1,
        "empty caption": 1,
        "broken line": 4,
        "empty file": 1,
        "other file": 1,
        "unknown file name": 1,
        "image without caption": 1,
    }
    assert problems.named["further caption"] == ["captions.jsonl:2: a.png in english"]
    assert problems.named["other language"] == ["captions.jsonl:3: de", "captions.jsonl:4: de-at"]
    assert problems.named["unknown language"] == ["captions.jsonl:6: englisch"]
    assert problems.named["empty caption"] == ["captions.jsonl:7"]
    assert problems.named["broken line"][0].startswith("captions.jsonl:8: 'caption' holds half a surrogate pair")
    assert problems.named["image without caption"] == ["unused/b.PNG"]
    assert problems.total == 8  # the others describe a corpus, and call for no repair
    assert source.provenance()["other_languages"] == {"de": 1, "de-at": 1}
    (tree.root.parent / "work/captions.sqlite").unlink()
    with pytest.raises(InputError, match=r"--max-problems allows 7: broken line 4 \(captions.jsonl:8"):
        opened(tree, max_problems=7)


def test_images_that_are_missing_or_outside_the_data(tree: CaptionsTree) -> None:
    tree.picture("a.png")
    tree.picture("inside/b.png", 2)
    outside = tree.root.parent / "outside"
    outside.mkdir()
    picture(3).save(outside / "c.png")
    (tree.root / "out").symlink_to(outside)
    (tree.root / "out.png").symlink_to(outside / "c.png")
    (tree.root / "in.png").symlink_to("inside/b.png")
    (tree.root / "nowhere.png").symlink_to("nothing.png")
    (tree.root / "folder.png").mkdir()
    os.mkfifo(tree.root / "fifo.png")
    leaving = ["out/c.png", "out.png", "../outside/c.png", "inside/../a.png", str(tree.root / "a.png")]
    missing = ["none.png", "nowhere.png", "folder.png", "fifo.png", "nul\0.png", "a.png/b.png", "long" * 100]
    for image in ["a.png", "in.png", *leaving, *missing]:
        tree.caption(image, "en", "A dog.")
        tree.caption(image, "fr", "Un chien.")
    stories, problems = load(opened(tree))
    assert stories.keys() == {"a.png", "in.png"}
    # Once an image. The links and inside/b.png are files that no good caption names.
    assert problems.counts["image outside the data"] == len(leaving)
    assert problems.counts["missing image file"] == len(missing)
    assert problems.named["image outside the data"][0] == "captions.jsonl:5: out/c.png"
    assert problems.total == len(leaving) + len(missing)


def test_every_kind_of_picture_is_read_or_named(tree: CaptionsTree) -> None:
    tree.picture("sound.png")
    frames = [picture(4), picture(5)]
    frames[0].save(tree.root / "animated.gif", save_all=True, append_images=frames[1:])
    picture(6).convert("CMYK").save(tree.root / "cmyk.jpg", "JPEG")
    Image.fromarray(np.arange(0, 60000, 1000, np.uint16).reshape(6, 10)).save(tree.root / "sixteen.png")
    Image.new("1", (14000, 13000)).save(tree.root / "huge.png")
    (tree.root / "cut.png").write_bytes((tree.root / "sound.png").read_bytes()[:60])
    (tree.root / "text.jpg").write_text("no picture")
    good, bad = ["sound.png", "animated.gif", "cmyk.jpg", "sixteen.png"], ["huge.png", "cut.png", "text.jpg"]
    for name in good + bad:
        tree.caption(name, "en", f"A caption of {name}.")
    source = opened(tree, pixels=True)
    stories, problems = load(source)
    assert stories.keys() == set(good)
    assert problems.counts == {"unreadable image": 3, "image kept as PNG": 1}
    why = dict(named.split(": ", 1) for named in problems.named["unreadable image"])
    assert why.keys() == set(bad)
    assert "pixels: make it smaller" in why["huge.png"]
    for story in stories.values():
        assert story.shared_images is not None
        assert story.shared_images.roi_IRV.shape == (1, 36, 2048)
    # Read again without what has gone since: named, and the others stay.
    (tree.root / "cmyk.jpg").unlink()
    left, problems = load(source)
    assert left.keys() == set(good) - {"cmyk.jpg"}
    assert "cmyk.jpg: it was there when the captions were read" in problems.named["unreadable image"]


def test_compressed_captions_are_the_same_corpus_and_damage_is_named(tree: CaptionsTree) -> None:
    for number in range(6):
        tree.picture(f"{number}.png", number)
        tree.caption(f"{number}.png", "en", f"Picture {number}.", file=f"{number % 3}.jsonl")
    expected, _ = load(opened(tree))
    for name, suffix, compress in (("0", "gz", gzip.compress), ("1", "bz2", bz2.compress), ("2", "xz", lzma.compress)):
        plain = tree.root / f"{name}.jsonl"
        (tree.root / f"{name}.JSONL.{suffix}").write_bytes(compress(plain.read_bytes()))
        plain.unlink()
    work = tree.root.parent / "second"
    work.mkdir()
    source = open_source("captions", cache=default_cache(), work=work, data=tree.root)
    found, problems = load(source)
    assert [(key, captions(story)) for key, story in found.items()] == [
        (key, captions(story)) for key, story in expected.items()
    ]
    assert problems.counts == {}
    packed = tree.root / "0.JSONL.gz"
    packed.write_bytes(packed.read_bytes()[:-12])
    with pytest.raises(InputError, match=r"damaged file 1 \(0.JSONL.gz: behind line "):
        open_source("captions", cache=default_cache(), work=work, data=tree.root, max_problems=0)


def test_the_first_stories_are_the_same_whatever_the_limit(tree: CaptionsTree) -> None:
    tree.picture("0.png")
    for number in range(1, 60):
        (tree.root / f"{number}.png").symlink_to("0.png")  # read once for all
    for number in range(60):
        tree.caption(f"{number}.png", "en", f"Picture {number}.")
    all_keys, few_keys = ({s: keys(opened(tree, **limit), s) for s in SPLITS} for limit in ({}, {"stories": 20}))
    assert sum(map(len, few_keys.values())) == 20
    assert len(few_keys["train"]) > 10
    for split in SPLITS:
        assert few_keys[split] == all_keys[split][: len(few_keys[split])]
    assert all(all_keys.values())  # drawn by the key: 80, 10 and 10 percent


def keys(source: Source, split: str) -> list[str]:
    return [story.key for story in source.load(split, 0, source.stories(split), Problems())]


def test_pictures_that_were_mended_are_read_by_the_same_command(
    tree: CaptionsTree, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(4):
        tree.picture(f"{number}.png", number)
        tree.caption(f"{number}.png", "en", f"A dog runs on the sand, number {number}.")
    sound = (tree.root / "0.png").read_bytes()
    damaged = sound[:60].ljust(len(sound), b"-")
    out = tree.root.parent / "corpus"
    words = ["prepare", "captions", "--data", str(tree.write()), "--out", str(out), "--vocab-size", "330"]

    def refused(*options: str) -> str:
        assert main([*words, *options]) == 2
        return capsys.readouterr().err

    for number in range(4):
        (tree.root / f"{number}.png").write_bytes(damaged)
    assert "the captions corpus has no story in its training split: unreadable image 4 (" in refused()
    (tree.root / "0.png").write_bytes(sound)
    (tree.root / "3.png").unlink()
    assert "missing image file 1 (captions.jsonl:4: 3.png)" in refused("--max-problems", "2")
    (tree.root / "3.png").write_bytes(sound)
    assert "2 problems in the input, of which --max-problems allows 1" in refused("--max-problems", "1")
    (tree.root / "1.png").write_bytes(sound)
    assert main([*words, "--max-problems", "1"]) == 0
    assert len(open_corpus(out).story_keys()) == 3


def test_a_corpus_from_pictures_to_batches(tree: CaptionsTree, capsys: pytest.CaptureFixture[str]) -> None:
    said = {"en": "A dog runs on the sand.", "fr": "Un chien court sur le sable.", "cs": "Pes běží po písku."}
    for number in range(16):
        tree.picture(f"img/{number}.png", number)
        for code, caption in said.items():
            tree.caption(f"img/{number}.png", code, f"{caption} {number}")
    (tree.root / "img/3.png").write_bytes(b"no picture")  # the only story of its shard
    out = tree.root.parent / "corpus"
    words = ["prepare", "captions", "--data", str(tree.write()), "--out", str(out), "--pixels", "--vocab-size", "330"]
    words += ["--stories-per-shard", "1"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert re.search(r"other language +16  \(information\) captions.jsonl:3: cs, captions.jsonl:6: cs, ...", shown)
    assert "unreadable image" in shown
    assert main(["verify", str(out), "--workers", "1"]) == 0
    assert main(words) == 0  # complete: nothing is built again
    corpus = open_corpus(out)
    assert corpus.languages == ("english", "french")
    assert len(corpus.story_keys()) == 15
    assert sorted(path.name for path in out.iterdir() if path.name.startswith(("captions", ".d2tv", "prepare"))) == []
    assert corpus.manifest["provenance"]["other_languages"] == {"cs": 16}
    assert corpus.manifest["provenance"]["features"]["width"] == 2048
    numbers = {encode_key(f"img/{number}.png"): number for number in range(16)}
    reader = Reader(corpus, ReaderConfig(io_threads=0))
    fetcher = Fetcher(corpus, reader, ImageSizes(images=1, regions=36, feature_size=2048), rule="source_or_target")
    collator = Collator(corpus, fetcher, open_tokenizer(out / "tokenizer"), Lengths(document=64, summary=64))
    loader = Loader(
        Sampler(corpus, split="train", mixture=MixtureConfig(), seed=1, group_size=2),
        collator,
        Partition(groups_per_step=2, groups_per_micro_batch=2, rank=0, world_size=1),
        first_step=0,
        threads=0,
        prefetch=1,
    )
    try:
        for batch in islice(loader, 3):
            assert batch.roi_BIRV.shape == (4, 1, 36, 2048)
            assert batch.image_mask_BI.all()  # every story has its picture
            assert batch.source_mask_BM.any(1).all()
    finally:
        loader.close()
    row = 0
    number = numbers[corpus.story_keys()[int(corpus.articles["story"][row])]]
    assert reader.image_files(row) == ((tree.root / f"img/{number}.png").read_bytes(),)
    assert json.loads((out / "manifest.json").read_text())["max_images"] == 1
