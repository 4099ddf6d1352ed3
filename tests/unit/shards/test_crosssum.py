"""CrossSum with images: trees made here, with real HDF5 files, read as `d2tv prepare crosssum` reads them."""

import hashlib
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from shards.corpora import Source, open_source
from shards.errors import InputError
from shards.languages import LANGUAGE_CODES
from shards.problems import Problems
from shards.schema import Story
from tests.support.crosssum_tree import REGIONS, SIZE, WIDTH, CrossSumTree, features_of, url_hash


@pytest.fixture
def tree(tmp_path: Path) -> CrossSumTree:
    return CrossSumTree(tmp_path / "data")


def opened(tree: CrossSumTree, **options: int) -> Source:
    """The tree written and opened as a source, its index beside it; text alone where it has no images."""
    work = tree.root.parent / "work"
    work.mkdir(exist_ok=True)
    data = tree.write()
    without = not any(path.suffix in (".h5", ".hdf5") for path in data.rglob("*"))
    return open_source("crosssum", cache=data, work=work, data=data, without_images=without, **options)


def load(source: Source) -> tuple[dict[str, Story], dict[str, str], Problems]:
    """All stories by key, each one's split, and what was counted all in all."""
    problems = Problems()
    problems.add(source.problems())
    stories, splits = {}, {}
    for split in ("train", "validation", "test"):
        for story in source.load(split, 0, source.stories(split), problems):
            assert story.key not in stories
            stories[story.key], splits[story.key] = story, split
    return stories, splits, problems


def languages(story: Story) -> set[str]:
    return {article.language for article in story.articles}


def test_a_chain_keeps_its_pairs_and_is_no_clique(tree: CrossSumTree) -> None:
    english, french, hindi = ("english", "b.example/1"), ("french", "a.example/2"), ("hindi", "c.example/3")
    for language, url in (english, french, hindi):
        tree.article(language, url)
    tree.pair(english, french, both=True)
    tree.pair(french, hindi)  # one way only
    stories, splits, problems = load(opened(tree))
    assert splits == {"a.example/2": "train"}  # named by the smallest URL
    (story,) = stories.values()
    assert story.edges is not None
    assert set(story.edges) == {
        ("english", "english"),
        ("french", "french"),
        ("hindi", "hindi"),
        ("english", "french"),
        ("french", "english"),
        ("french", "hindi"),
    }
    assert len(story.edges) == 6
    for article in story.articles:
        assert article.text == f"text of {article.url} in {article.language}"
        assert article.summary == f"summary of {article.url}"
    assert problems.counts == {"missing features": 3}


def test_images_are_the_articles_own_in_their_order_with_boxes_as_shares(tree: CrossSumTree) -> None:
    tree.article("english", "e", images=9)
    tree.article("french", "f")
    tree.article("hindi", "h")
    tree.image("h", 1, attributes=True)  # sizes as attributes, numbers not in order of writing
    tree.image("h", 0, file="mmsum/more/other.hdf5", boxes=np.tile([-20.0, 0.0, 2 * SIZE[0], 120.0], (REGIONS, 1)))
    tree.pair(("english", "e"), ("french", "f"))
    tree.pair(("english", "e"), ("hindi", "h"))
    (story,) = load(opened(tree))[0].values()
    assert story.shared_images is None
    assert story.images is not None
    assert story.images.keys() == {"english", "hindi"}
    for language, url, count in (("english", "e", 9), ("hindi", "h", 2)):
        images = story.images[language]
        assert images.roi_IRV.shape == (count, REGIONS, WIDTH)
        assert images.roi_IRV.dtype == np.float16
        np.testing.assert_array_equal(images.roi_IRV, [features_of(url, number) for number in range(count)])
        assert images.boxes_IR4.dtype == np.float32
    np.testing.assert_allclose(story.images["english"].boxes_IR4[3][1], [0.1, 0, 0.6, 0.5])
    np.testing.assert_allclose(story.images["hindi"].boxes_IR4[0], [[0, 0, 1, 0.25]] * REGIONS)


def test_every_kind_of_bad_input_is_counted_named_and_left_out(tree: CrossSumTree) -> None:
    good = {"text": "t", "summary": "s"}
    tree.article("english", "good", images=1)
    tree.article("english", "good", text="another")  # the first one stays
    tree.article("english", "no text", text=" \n")
    tree.article("english", "no summary", summary="")
    tree.article("english", "surrogate", text="half \ud800 a pair")
    tree.line("xlsum/english_train.jsonl", '{"url": "cut off", "text": "t')
    tree.line("xlsum/english_train.jsonl", '{"url": "u", "text": 7, "summary": "s"}')
    tree.line("xlsum/english_train.jsonl", "")  # a blank line is nothing
    tree.article("klingon", "k", **good)
    tree.line("notes.jsonl", "{}")
    tree.pair(("english", "good"), ("french", "half"))  # nobody has the text of `half`
    tree.pair(("english", "good"), ("english", "good"))  # what every article has anyway
    tree.pair(("english", "good"), ("english", "good"))
    url = "pictures"
    tree.article("hindi", url, images=1)
    tree.image(url, 2, features=np.full((REGIONS, WIDTH), np.nan, np.float32))
    tree.image(url, 3, features=np.full((REGIONS, WIDTH), 1e6, np.float32))  # beyond float16
    tree.image(url, 4, features=np.zeros((REGIONS + 1, WIDTH), np.float32))
    tree.image(url, 5, boxes=None)
    tree.image(url, 6, img_w=0)
    tree.image(url, 7, features="text")
    tree.image(url, 8)
    tree.image(url, 8, file="mmsum/second.h5")
    tree.image(url, 8, file="mmsum/third.h5", img_w=641)
    tree.image(url, 0, group="cover")
    stories, _, problems = load(opened(tree))
    assert problems.counts == {
        "duplicate article": 1,
        "empty text": 1,
        "empty summary": 1,
        "broken line": 3,
        "unknown language": 1,
        "unknown file name": 1,
        "article without text or summary": 1,
        "duplicate pair": 1,
        "repeated image": 1,
        "duplicate image": 1,
        "unknown image id": 1,
        "missing image": 1,
        "non-finite features": 2,
        "wrong dims": 1,
        "broken image": 3,
    }
    assert problems.named["empty text"] == ["xlsum/english_train.jsonl:3"]
    assert [where.rsplit(": ", 1)[0] for where in problems.named["broken line"]] == [
        f"xlsum/english_train.jsonl:{line}" for line in (5, 6, 7)
    ]
    assert problems.named["unknown language"] == ["xlsum/klingon_train.jsonl: klingon"]
    assert problems.named["article without text or summary"] == ["half"]
    assert problems.named["missing image"] == ["pictures: image 1"]
    assert url_hash(url) in problems.named["wrong dims"][0]
    assert stories.keys() == {"good", "pictures"}
    assert stories["good"].edges == (("english", "english"),)
    assert stories["good"].articles[0].text == "text of good in english"
    images = (stories["pictures"].images or {})["hindi"]
    np.testing.assert_array_equal(images.roi_IRV, [features_of(url, 0), features_of(url, 8)])


def test_an_article_that_only_pairs_know_is_put_together(tree: CrossSumTree) -> None:
    tree.article("english", "e")
    tree.pair(("english", "e"), ("french", "f"), split="val", summary="sommaire")
    tree.pair(("french", "f"), ("english", "e"), split="val", text="document")
    stories, splits, problems = load(opened(tree))
    (story,) = stories.values()
    (french,) = [article for article in story.articles if article.language == "french"]
    assert (french.text, french.summary, french.url) == ("document", "sommaire", "f")
    assert splits == {"e": "validation"}
    assert problems.total == 0


def test_an_article_keeps_its_split_when_its_pairs_are_dropped(tree: CrossSumTree) -> None:
    # Each pair gives one half of `f`, and the article at its other end is never whole.
    tree.pair(("french", "f"), ("hindi", "h"), split="test")
    tree.pair(("urdu", "u"), ("french", "f"), split="test")
    _, splits, problems = load(opened(tree))
    assert splits == {"f": "test"}
    assert problems.counts == {"article without text or summary": 2, "missing features": 1}


def test_two_articles_of_a_language_are_parted_and_none_is_lost(tree: CrossSumTree) -> None:
    # english 1 - french - english 2 - hindi, and urdu with both English ones.
    articles = [("english", "1"), ("french", "2"), ("english", "3"), ("hindi", "4"), ("urdu", "5")]
    for language, url in articles:
        tree.article(language, url, split="train" if url != "4" else "test")
    first, french, second, hindi, urdu = articles
    for a, b in ((first, french), (french, second), (second, hindi), (first, urdu), (second, urdu)):
        tree.pair(a, b, both=True)
    stories, splits, problems = load(opened(tree))
    assert len(stories) == 2
    found = sorted((article.language, article.url) for story in stories.values() for article in story.articles)
    assert found == sorted(articles)
    for story in stories.values():
        assert len(languages(story)) == len(story.articles)
    assert set(splits.values()) == {"test"}  # all of the component's
    assert problems.counts["mixed split"] == 1
    edges = sum(len([edge for edge in story.edges or () if edge[0] != edge[1]]) for story in stories.values())
    assert problems.counts["edge across stories"] == 10 - edges == 4
    assert problems.total == 0  # nothing of this is wrong


@pytest.mark.parametrize(("splits", "expected"), [(("train", "val"), "validation"), (("test", "val"), "test")])
def test_the_most_held_out_split_has_a_story(tree: CrossSumTree, splits: tuple[str, str], expected: str) -> None:
    tree.article("english", "e", split=splits[0])
    tree.article("french", "f", split=splits[0])
    tree.pair(("english", "e"), ("french", "f"), split=splits[1])
    _, found, problems = load(opened(tree))
    assert set(found.values()) == {expected}
    assert problems.named["mixed split"] == ["e"]


@pytest.mark.parametrize(("splits", "expected"), [(("train", "val"), "validation"), (("test", "train"), "test")])
def test_the_most_held_out_split_has_an_article_that_is_in_two(
    tree: CrossSumTree, splits: tuple[str, str], expected: str
) -> None:
    for split in splits:
        tree.article("english", "e", split=split, folder=f"xlsum/{splits.index(split)}")
    _, found, problems = load(opened(tree))
    assert found == {"e": expected}
    assert problems.counts["duplicate article"] == 1


def test_one_page_under_two_languages_is_two_articles_of_one_split(tree: CrossSumTree) -> None:
    tree.article("serbian_cyrillic", "s", split="test")
    tree.article("serbian_latin", "s")
    stories, splits, _ = load(opened(tree))
    assert splits == {"s#serbian_cyrillic": "test", "s#serbian_latin": "test"}
    assert sum(len(story.articles) for story in stories.values()) == 2


def test_all_languages_in_one_story_and_names_that_need_care(tree: CrossSumTree) -> None:
    names = list(LANGUAGE_CODES)[:44]
    urls = {name: f"https://www.example.com/{name} news/1.2.html?q=é&x={'y' * 300}" for name in names}
    for name in names:
        tree.article(
            name, urls[name], text="نص " * 40 if name == "arabic" else f"text {name}", images=names.index(name) % 3
        )
    for name in names[1:]:
        tree.pair((names[0], urls[names[0]]), (name, urls[name]))
    source = opened(tree)
    stories, _, problems = load(source)
    (story,) = stories.values()
    assert [article.language for article in story.articles] == names
    assert [article.url for article in story.articles] == list(urls.values())
    assert len(story.edges or ()) == 44 + 43
    assert source.languages == tuple(names)
    assert problems.total == 0
    assert story.articles[1].text == "نص " * 40


def test_the_first_stories_are_a_mix_and_the_same_whatever_the_limit(tree: CrossSumTree) -> None:
    for language in ("english", "french", "hindi", "urdu"):
        for number in range(20):
            tree.article(language, f"{language}/{number}", split=("train", "test")[number % 2])
    everything = opened(tree)
    few = opened(tree, stories=16)
    assert sum(few.stories(split) for split in ("train", "validation", "test")) == 16
    assert len(few.languages) > 1
    for split in ("train", "test"):
        count = few.stories(split)
        assert count
        assert list(few.load(split, 0, count, Problems())) == list(everything.load(split, 0, count, Problems()))
        all_of_it = list(everything.load(split, 0, everything.stories(split), Problems()))
        assert list(everything.load(split, 3, 7, Problems())) == all_of_it[3:7]


def test_too_many_problems_end_the_reading(tree: CrossSumTree) -> None:
    for number in range(20):
        tree.article("english", f"bad {number}", text="")
        tree.article("english", f"good {number}")
    with pytest.raises(
        InputError, match=r"^6 problems .* --max-problems allows 5: empty text 6 \(xlsum/.*_train.jsonl:1, "
    ):
        opened(tree, max_problems=5)
    assert sum(opened(tree, max_problems=20).stories(split) for split in ("train", "validation", "test")) == 20


def test_features_that_cannot_be_read_at_all(tree: CrossSumTree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.article("english", "e", images=1)
    data, work = tree.write(), tree.root.parent
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "h5py", None)  # as where it is not installed
        with pytest.raises(InputError, match=r"pip install 'd2tv\[crosssum\]'"):
            open_source("crosssum", cache=work, work=work, data=data)
    (data / "mmsum/cut.h5").write_bytes((data / "mmsum/images.h5").read_bytes()[:1000])
    with pytest.raises(InputError, match=r"cut\.h5 is damaged"):
        open_source("crosssum", cache=work, work=work, data=data)


def test_features_that_were_forgotten_are_asked_for(tree: CrossSumTree) -> None:
    tree.article("english", "e")
    data, work = tree.write(), tree.root.parent
    with pytest.raises(InputError, match=r"no feature file .*--without-images"):
        open_source("crosssum", cache=work, work=work, data=data)
    tree.image("e", 0)
    tree.write()
    problems = Problems()
    (story,) = open_source("crosssum", cache=work, work=work, data=data).load("train", 0, 1, problems)
    assert story.images is not None
    (story,) = open_source("crosssum", cache=work, work=work, data=data, without_images=True).load(
        "train", 0, 1, problems
    )
    assert story.images is None
    assert problems.counts == {"missing features": 1}
    with pytest.raises(InputError, match="--without-images is for crosssum: leave it out for help"):
        open_source("help", cache=work, work=work, data=data, without_images=True)


def test_a_damaged_feature_file_is_named_or_its_images_are_counted(tree: CrossSumTree) -> None:
    """Bytes changed all over it: whatever h5py makes of them is one line, or a counted problem."""
    for number in range(20):
        tree.article("english", f"e{number}", images=1)
    data, work = tree.write(), tree.root.parent
    path = data / "mmsum/images.h5"
    sound = path.read_bytes()
    refusals = {}
    links = sound.index(b"SNOD")  # the table of links: "Link iteration failed", a RuntimeError
    random = np.random.default_rng(0)
    for place in [links, *random.integers(0, len(sound), 60).tolist()]:
        path.write_bytes(sound[:place] + b"\xff" * 8 + sound[place + 8 :])
        (work / "crosssum.sqlite").unlink(missing_ok=True)
        try:
            source = open_source("crosssum", cache=work, work=work, data=data)
            list(source.load("train", 0, 20, Problems()))
        except InputError as error:
            refusals[place] = str(error)
    assert links in refusals
    assert 0 < len(refusals) < 61
    assert all("images.h5 is damaged" in refusal and "\n" not in refusal for refusal in refusals.values())


def test_a_name_that_is_not_utf_8(tree: CrossSumTree) -> None:
    tree.article("english", "e", images=1)
    data = tree.write()
    (data / "mmsum/\udcff.h5").write_bytes(b"")
    with pytest.raises(InputError, match=r"'mmsum/\\udcff\.h5' below .* is not UTF-8: rename it"):
        open_source("crosssum", cache=data, work=data, data=data)


def test_an_index_is_made_once_by_those_that_start_together(tree: CrossSumTree) -> None:
    for number in range(50):
        tree.article("english", f"e{number}", images=1)
    data, work = tree.write(), tree.root.parent
    begin = threading.Barrier(4)
    steps: list[tuple[str, int, int]] = []

    def tell(what: str, done: int, total: int) -> None:
        steps.append((what, done, total))

    def opens() -> None:
        begin.wait()
        open_source("crosssum", cache=work, work=work, data=data, progress=tell)

    threads = [threading.Thread(target=opens) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert steps == [("listing images", 0, 1)]
    assert not list(work.glob("*.partial"))


def test_a_damaged_index_is_one_line_or_made_anew(tree: CrossSumTree) -> None:
    for number in range(50):
        tree.article("english", f"e{number}")
    source = opened(tree)
    index = tree.root.parent / "work/crosssum.sqlite"
    whole = hashlib.sha256(index.read_bytes()).digest()
    index.write_bytes(index.read_bytes()[:512])
    with pytest.raises(InputError, match=r"^cannot read the index .*crosssum\.sqlite \(.*\): remove it"):
        load(source)
    assert len(load(opened(tree))[0]) == 50
    assert hashlib.sha256(index.read_bytes()).digest() == whole


def test_changed_data_is_noticed(tree: CrossSumTree) -> None:
    tree.article("english", "e")
    source = opened(tree)
    (tree.root / "xlsum/english_train.jsonl").write_text("[]" * 40)
    with pytest.raises(InputError, match="changed while it was read"):
        load(source)
    tree.article("english", "later")
    assert load(opened(tree))[0].keys() == {"e", "later"}  # the index is made anew


def test_data_that_is_not_there() -> None:
    with pytest.raises(InputError, match="needs --data DIR"):
        open_source("crosssum", cache=Path(), work=Path())
    with pytest.raises(InputError, match="nowhere is not a directory"):
        open_source("crosssum", cache=Path(), work=Path(), data=Path("nowhere"))
    with pytest.raises(InputError, match=r"no \.jsonl file below"):
        open_source("crosssum", cache=Path(), work=Path(), data=Path(__file__).parent)
