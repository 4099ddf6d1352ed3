"""Read WIT as it is published: gzipped tables with quoted fields, and the images that images.tsv names."""

import gzip
import pickle
from pathlib import Path

import pytest

from launcher.cli import main
from shards.corpora import Source, open_source
from shards.errors import InputError
from shards.files.caches import default_cache
from shards.format.index import open_corpus
from shards.format.manifest import SPLITS
from shards.problems import Problems
from shards.schema import Story
from tests.support.captions_tree import WIT_COLUMNS, CaptionsTree

URL = "https://upload.wikimedia.org/wikipedia/commons/a/a9/{}.jpg"
SAMPLE, TRAIN, TEST = "sample.tsv", "wit_v1.train.all-00000-of-00001.tsv.gz", "wit_v1.test.all-00000-of-00001.tsv.gz"


@pytest.fixture
def tree(tmp_path: Path) -> CaptionsTree:
    return CaptionsTree(tmp_path / "data")


def images(tree: CaptionsTree, *names: str) -> None:
    for number, name in enumerate(names):
        tree.picture(f"images/{name}.jpg", number, "JPEG")
        tree.place(URL.format(name), f"images/{name}.jpg")


def opened(tree: CaptionsTree, **options: int) -> Source:
    work = tree.root.parent / "work"
    work.mkdir(exist_ok=True)
    return open_source("wit", cache=default_cache(), work=work, data=tree.root, **options)


def load(source: Source) -> tuple[dict[str, Story], dict[str, str], Problems]:
    """Return all stories by key, each one's split, and what was counted all in all."""
    source = pickle.loads(pickle.dumps(source))  # as a worker gets it
    problems = Problems()
    problems.add(source.problems())
    stories, splits = {}, {}
    for split in SPLITS:
        for story in source.load(split, 0, source.stories(split), problems):
            stories[story.key], splits[story.key] = story, split
    return stories, splits, problems


def texts(story: Story) -> dict[str, tuple[str, str]]:
    """Return language -> summary and text."""
    return {article.language: (article.summary, article.text) for article in story.articles}


def test_a_story_is_an_image_url_with_a_caption_and_the_text_around_it(tree: CaptionsTree) -> None:
    images(tree, "one", "two")
    one, two = URL.format("one"), URL.format("two")
    tree.row(one, "en", caption="A bridge.", alt="Alternative", section="The section.", page="The page.")
    tree.row(one, "zh-TW", alt="一座橋", page="頁")
    tree.row(one, "fr", caption="Un pont.", attribution="Commons", file="wit_v1.train.all-00001-of-00002.tsv")
    tree.row(two, "hi", caption='एक "पुल"\nऔर\tनदी।', section='"Quoted" first,\r\nthen\n\nmore.', page="पृष्ठ")
    tree.row(two, "en", caption="Last.", section="Behind the lines.")
    tree.write()
    source = opened(tree)
    stories, _, problems = load(source)
    assert problems.counts == {}
    assert {key: texts(story) for key, story in stories.items()} == {
        one: {
            "english": ("A bridge.", "The section."),
            "chinese_traditional": ("一座橋", "頁"),
            "french": ("Un pont.", "Un pont."),
        },
        two: {
            "hindi": ('एक "पुल"\nऔर\tनदी।', '"Quoted" first,\r\nthen\n\nmore.'),
            "english": ("Last.", "Behind the lines."),
        },
    }
    assert {a.language: a.url for a in stories[one].articles}["french"] == "https://fr.wikipedia.org/wiki/one.jpg"
    assert stories[one].shared_images is not None
    assert stories[one].shared_images.roi_IRV.shape == (1, 36, 2048)
    provenance = source.provenance()
    assert provenance["rows"] == 5
    assert provenance["columns"] == {
        "caption: caption_alt_text_description": 1,
        "caption: caption_reference_description": 4,
        "text: caption_reference_description": 1,
        "text: context_page_description": 1,
        "text: context_section_description": 3,
    }


def test_rows_that_are_no_caption_are_counted_and_call_for_no_repair(tree: CaptionsTree) -> None:
    images(tree, "one", "unused")
    one = URL.format("one")
    tree.row(one, "en", caption="A bridge.")
    tree.row(one, "en", caption="The same bridge on another page.")
    tree.row(one, "fr", section="Une section.", attribution="Commons alone")
    tree.row(one, "de", caption="Eine Brücke.")
    tree.row(URL.format("elsewhere"), "en", caption="Not downloaded.")
    tree.picture("images/more.jpg", 7, "JPEG")
    tree.write()
    source = opened(tree, max_problems=0)
    stories, _, problems = load(source)
    assert {key: texts(story) for key, story in stories.items()} == {one: {"english": ("A bridge.",) * 2}}
    assert problems.counts == {
        "further page": 1,
        "row without caption": 1,
        "other language": 1,
        "image not in images.tsv": 1,
        "image without caption": 2,
    }
    assert problems.total == 0
    assert problems.named["further page"] == [f"{TRAIN}:3: images/one.jpg in english"]
    assert problems.named["image without caption"] == ["images/unused.jpg", "images/more.jpg"]
    assert source.provenance()["other_languages"] == {"de": 1}


def test_images_that_cannot_be_used_are_problems(tree: CaptionsTree) -> None:
    images(tree, "one", "broken")
    (tree.root / "images/broken.jpg").write_bytes(b"<svg/>")
    for name, file in (("gone", "images/gone.jpg"), ("out", "../out.jpg"), ("one", "images/broken.jpg"), ("", "x.jpg")):
        tree.place(URL.format(name) if name else "", file)
    for name in ("one", "broken", "gone", "out"):
        tree.row(URL.format(name), "en", caption=f"Picture {name}.")
        tree.row(URL.format(name), "fr", caption=f"Image {name}.")
    tree.write()
    stories, _, problems = load(opened(tree))
    assert stories.keys() == {URL.format("one")}  # whose first file stays
    assert problems.counts == {
        "missing image file": 1,
        "image outside the data": 1,
        "duplicate image url": 1,
        "broken row": 1,
        "unreadable image": 1,
    }
    assert problems.named["missing image file"] == [f"{TRAIN}:6: images/gone.jpg"]
    assert problems.named["duplicate image url"] == [f"images.tsv:6: {URL.format('one')}"]
    assert problems.named["broken row"] == ["images.tsv:7: an empty image_url or file"]
    assert problems.named["unreadable image"][0].startswith("images/broken.jpg: its format is none of")


def test_broken_rows_do_not_take_those_behind_them(tree: CaptionsTree) -> None:
    images(tree, "one", "two", "three", "four")
    for name in ("one", "two", "three", "four"):
        tree.row(URL.format(name), "en", caption=f"Picture {name}.", section='Has "quotes".', file=SAMPLE)
    tree.write()
    lines = (tree.root / SAMPLE).read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b"Picture one.", b'"Picture one.')  # a quote that nothing closes
    lines[3] = lines[3].replace(b"Picture three.", b"Picture\tthree.")
    lines.insert(3, b"\n")
    lines.append(b"en\tlatin \xe9\n")
    (tree.root / SAMPLE).write_bytes(b"".join(lines))
    stories, _, problems = load(opened(tree))
    assert stories.keys() == {URL.format("two"), URL.format("four")}
    assert problems.counts["broken row"] == 3
    assert [where.split(": ")[0] for where in problems.named["broken row"]] == [
        f"{SAMPLE}:{line}" for line in (2, 5, 7)
    ]
    assert problems.named["broken row"][1:] == [
        f"{SAMPLE}:5: has 18 fields, and the header 17",
        f"{SAMPLE}:7: is not UTF-8 text (invalid continuation byte at byte 9)",
    ]


def test_a_field_beyond_measure_is_a_broken_row(tree: CaptionsTree) -> None:
    images(tree, "one")
    tree.row(URL.format("one"), "en", caption="A bridge.", page="word " * 100_000, file=SAMPLE)
    tree.row(URL.format("one"), "fr", caption="Un pont.", page="mot " * 500_000, file=SAMPLE)  # beyond measure
    tree.row(URL.format("one"), "hi", caption="एक पुल।", file=SAMPLE)
    tree.write()
    stories, _, problems = load(opened(tree))
    assert texts(stories[URL.format("one")]).keys() == {"english", "hindi"}
    assert problems.counts == {"broken row": 1}
    assert f"{SAMPLE}:3: field larger than field limit" in problems.named["broken row"][0]


def test_published_splits_are_kept_and_others_drawn_by_the_key(tree: CaptionsTree) -> None:
    names = [f"n{number}" for number in range(12)]
    images(tree, *names)
    for number, name in enumerate(names):
        tree.row(URL.format(name), "en", caption=f"Picture {name}.", file=TEST if number % 4 == 0 else TRAIN)
    tree.row(URL.format("n1"), "fr", caption="Image n1.", file=TEST)  # the most held-out split has it
    tree.write()
    _, splits, _ = load(opened(tree))
    assert {key for key, split in splits.items() if split == "test"} == {URL.format(f"n{n}") for n in (0, 1, 4, 8)}
    assert list(splits.values()).count("train") == 8
    (tree.root / TEST).rename(tree.root / SAMPLE.replace("tsv", "tsv.gz"))
    source = opened(tree)
    _, splits, _ = load(source)
    assert source.provenance()["published_splits"] is False
    assert len(splits) == 12
    assert set(splits.values()) == set(SPLITS)


def test_damaged_and_empty_tables_are_named(tree: CaptionsTree) -> None:
    images(tree, "one")
    tree.row(URL.format("one"), "en", caption="A bridge.", file=SAMPLE)
    tree.write()
    whole = gzip.compress((tree.root / SAMPLE).read_bytes())
    (tree.root / "cut.tsv.gz").write_bytes(whole[:-12])
    (tree.root / "empty.tsv").touch()
    stories, _, problems = load(opened(tree))
    assert stories.keys() == {URL.format("one")}
    assert problems.counts["damaged file"] == 1
    assert problems.named["damaged file"][0].startswith("cut.tsv.gz: behind line ")
    assert problems.named["empty file"] == ["empty.tsv"]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "no .tsv file of WIT below"),
        ({"images.tsv": "image_url\tfile\n", "a.csv": ""}, "what is there: unknown file name 1 (a.csv)"),
        ({"a.tsv": "\t".join(WIT_COLUMNS)}, "must hold one images.tsv, with a header and two columns"),
        (
            {"a.tsv": "\t".join(WIT_COLUMNS), "images.tsv": "image_url\tfile\n", "images.tsv.gz": ""},
            "it has images.tsv and images.tsv.gz",
        ),
        (
            {"a.tsv": "\t".join(WIT_COLUMNS), "images.tsv": "url\tfile\n"},
            "images.tsv: the header lacks image_url (it has url, file)",
        ),
        (
            {
                "images.tsv": "image_url\tfile\n",
                "a.tsv": "\t".join(WIT_COLUMNS),
                "b.tsv": "\t".join(name for name in WIT_COLUMNS if not name.startswith("caption_")),
            },
            "b.tsv: the header lacks caption_reference_description, caption_alt_text_description (it has language, ",
        ),
        ({"images.tsv": "image_url\tfile\n", "a.tsv": '"language'}, "a.tsv: its header cannot be read (line 1 "),
        (
            {"images.tsv": "image_url\tfile\n", "a.tsv": "\t".join(WIT_COLUMNS)},
            "the wit corpus has no story: see that its data is what it should be",
        ),
    ],
)
def test_data_that_is_not_wit_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], files: dict[str, str], said: str
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name, text in files.items():
        (data / name).write_text(text)
    assert main(["prepare", "wit", "--data", str(data), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_too_many_missing_images_end_the_build(tree: CaptionsTree) -> None:
    for number in range(5):
        tree.place(URL.format(number), f"images/{number}.jpg")
        tree.row(URL.format(number), "en", caption="A picture.")
    tree.write()
    with pytest.raises(InputError, match=r"5 problems .* allows 4: missing image file 5 \(wit_v1.*:2: images/0.jpg"):
        opened(tree, max_problems=4)


def test_a_corpus_is_the_same_when_it_is_built_in_parts(tree: CaptionsTree, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"n{number}" for number in range(12)]
    images(tree, *names)
    for name in names:
        tree.row(URL.format(name), "en", caption=f"A picture of {name}.", section=f"What stands around {name}.\nMore.")
        tree.row(URL.format(name), "ur", caption=f"{name} کی تصویر۔")
    tree.write()
    common = ["prepare", "wit", "--data", str(tree.root), "--vocab-size", "330", "--stories-per-shard", "4"]
    whole, parts = tree.root.parent / "whole", tree.root.parent / "parts"
    assert main([*common, "--out", str(whole), "--pixels"]) == 0
    assert main(["verify", str(whole), "--workers", "1"]) == 0
    for part in ("--part=1/2", "--part=2/2", "--finish"):
        assert main([*common, "--out", str(parts), "--pixels", part]) == 0
    capsys.readouterr()
    one, other = open_corpus(whole), open_corpus(parts)
    assert one.content_hash == other.content_hash
    assert one.languages == ("english", "urdu")
    assert one.manifest["provenance"]["rows"] == 24
