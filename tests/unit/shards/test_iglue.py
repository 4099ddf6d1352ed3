"""Read and build small directories in the published layouts of XVNLI, xGQA and MaRVL as `d2tv prepare` does."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from launcher.cli import main
from shards.corpora import Source, open_source
from shards.corpora.features import GridFeatures
from shards.corpora.iglue.records import read_records
from shards.corpora.npm import RESNET, fetch
from shards.errors import InputError
from shards.files.caches import default_cache
from shards.format.manifest import SPLITS
from shards.problems import Problems
from shards.schema import Article, Story
from tests.support.captions_tree import picture
from tests.support.iglue_tree import IglueTree, gqa, marvl, nli, nlvr


@pytest.fixture
def tree(tmp_path: Path) -> IglueTree:
    return IglueTree(tmp_path / "data")


def opened(name: str, tree: IglueTree, *, pixels: bool = False, **options: int) -> Source:
    """Open the tree as a source, its index beside it."""
    work = tree.root.parent / "work"
    work.mkdir(exist_ok=True)
    return open_source(name, cache=default_cache(), work=work, data=tree.root, pixels=pixels, **options)


def load(source: Source) -> tuple[dict[str, dict[str, Story]], Problems]:
    """Return the stories of each split by key, and what was counted all in all."""
    problems = Problems()
    problems.add(source.problems())
    loaded = {split: list(source.load(split, 0, source.stories(split), problems)) for split in SPLITS}
    return {split: {story.key: story for story in stories} for split, stories in loaded.items()}, problems


def languages(story: Story) -> list[str]:
    return [article.language for article in story.articles]


def test_xvnli_is_english_to_train_on_and_parallel_in_the_test(tree: IglueTree) -> None:
    tree.xvnli()
    stories, problems = load(opened("xvnli", tree, pixels=True))
    assert problems.counts == {}
    assert [len(stories[split]) for split in SPLITS] == [12, 4, 4]
    story = stories["test"]["1002.jpg#0test2"]
    assert story.articles == tuple(
        Article(language=language, text=text, summary="entailment", url="xvnli:1002.jpg#0test2", label="entailment")
        for language, text in (("arabic", "نعم 0"), ("english", "yes 0"), ("french", "oui 0"))
    )
    assert story.edges == (("arabic", "arabic"), ("english", "english"), ("french", "french"))
    assert story.shared_images is not None
    assert story.shared_images.pixels == ((tree.root / "flickr30k-images/1002.jpg").read_bytes(),)
    for split in ("train", "validation"):
        assert {tuple(languages(each)) for each in stories[split].values()} == {("english",)}


def test_xgqa_has_the_training_questions_of_gqa_and_its_english_answers(tree: IglueTree) -> None:
    tree.xgqa()
    tree.text("xGQA/few_shot/id/train_10.json", "{}")
    tree.text("xGQA/few_shot/id/dev.pkl", "no pickle is opened")
    tree.text("xGQA/zero_shot/testdev_balanced_questions_bn.json", json.dumps({"0": gqa("?", 0)}))
    source = opened("xgqa", tree)
    stories, problems = load(source)
    assert [len(stories[split]) for split in SPLITS] == [12, 4, 4]
    assert languages(stories["test"]["2"]) == ["bengali", "english", "indonesian"]
    assert {article.label for article in stories["test"]["2"].articles} == {"red"}
    assert stories["train"]["tra1"].articles[0].text == "Is it red? 1"
    assert problems.counts == {"other file": 3, "other language": 4}  # German is none of ours
    assert problems.total == 0
    assert source.provenance()["other_languages"] == {"de": 4}


def test_xgqa_without_few_shot_files_has_the_whole_test(tree: IglueTree) -> None:
    tree.picture("images/n0.jpg")
    items = [
        {"question_id": "1", "img_id": "n0", "sent": "Is it?", "label": {"no": 0.3, "yes": 1.0}},
        {"question_id": "2", "img_id": "n0", "sent": "Who?", "label": {}},
        {"question_id": "3", "img_id": "n0", "sent": "Who?", "label": "me"},
        7,
        {"question_id": "4", "img_id": "n0", "sent": "Who?", "label": {"me": float("nan"), "you": 1}},
        {"question_id": "5", "img_id": "n0", "sent": "Who?", "label": {"me": 0, "you": 0.0}},
    ]
    tree.text("lxmert/train.json", json.dumps(items, indent=1))
    tree.text("zero_shot/testdev_balanced_questions_bn.json", json.dumps({"0": gqa("?", 0)}))
    stories, problems = load(opened("xgqa", tree))
    assert [article.label for article in stories["train"]["1"].articles] == ["yes"]
    assert list(stories["test"]) == ["0"]
    assert problems.counts == {"no agreed label": 2, "broken line": 3}
    assert problems.named["broken line"] == [
        "lxmert/train.json, record 3: has no 'label' of answers and their scores",
        "lxmert/train.json, record 4: is not a JSON object",
        "lxmert/train.json, record 5: has no 'label' of answers and their scores",
    ]


def test_marvl_shows_two_pictures_in_order_and_trains_on_nlvr2(tree: IglueTree) -> None:
    tree.marvl()
    stories, problems = load(opened("marvl", tree, pixels=True))
    assert problems.counts == {}
    assert [len(stories[split]) for split in SPLITS] == [12, 4, 12]
    # Of two languages that have pictures of the same name, each sees its own.
    for code, language in (("zh", "chinese_simplified"), ("sw", "swahili")):
        story = stories["test"][f"{code}-3"]
        assert languages(story) == [language]
        assert story.articles[0].label == story.articles[0].summary == "false"
        images = story.shared_images
        assert images is not None
        folder = tree.root / f"marvl-images/{code}/images/52-火锅"
        assert images.pixels == tuple((folder / f"52-{number}.jpg").read_bytes() for number in (0, 1))
        assert images.roi_IRV.shape == (2, 36, 2048)
    story = stories["train"]["train-5-0-1"]
    assert story.articles[0].label == "true"
    assert story.shared_images is not None
    expected = GridFeatures(fetch(RESNET, default_cache())).extract([picture(5), picture(6)])
    # A batch of another size may round differently.
    np.testing.assert_allclose(story.shared_images.roi_IRV, expected, rtol=0.05, atol=0.05)
    assert "test1-0-0-1" in stories["test"]


def test_bad_examples_are_counted_named_and_left_out(tree: IglueTree) -> None:
    for name in ("a/1000.jpg", "b/1001.jpg", "a/1002.jpg", "b/1002.jpg"):
        tree.picture(name)
    good = nli("x", 0, ["one"] * 3, 1)
    tree.lines(
        "annotations/en/train.jsonl",
        [
            good,
            good | {"sentence2": "again"},
            '{"gold_label": "neutral"',
            "[]",
            good | {"pairID": "2", "gold_label": "maybe"},
            good | {"pairID": "3", "gold_label": "-"},
            good | {"pairID": "4", "Flikr30kID": "999"},
            good | {"pairID": "5", "Flikr30kID": "999.jpg"},
            good | {"pairID": "6", "Flikr30kID": "1002"},
            good | {"pairID": "7", "sentence2": " \u200b"},
            good | {"pairID": "8", "sentence2": [8]},
            good | {"pairID": "9", "Flikr30kID": "1001.jpg"},
            '{"gold_label": "neutral", "pairID": "half \\ud800", "sentence2": "a", "Flikr30kID": "1000"}',
        ],
    )
    other = good | {"pairID": "9", "Flikr30kID": "1001"}
    tree.lines("annotations/fr/test.jsonl", [other, good | {"gold_label": "entailment"}])
    tree.lines("annotations/cs/test.jsonl", [good])
    tree.lines("annotations/fr/train.jsonl", [good])
    tree.lines("annotations_machine-translate/fr/test.jsonl", [good])
    tree.text("annotations/es/test.jsonl", "")
    source = opened("xvnli", tree)
    stories, problems = load(source)
    assert {split: {key: languages(s) for key, s in of.items()} for split, of in stories.items()} == {
        "train": {good["pairID"]: ["english"]},
        "validation": {},
        "test": {"9": ["english", "french"]},  # the most held-out split of its texts
    }
    assert problems.counts == {
        "duplicate id": 1,
        "broken line": 4,
        "unknown label": 1,
        "no agreed label": 1,
        "missing image file": 1,
        "ambiguous image": 1,
        "example without image": 3,
        "empty text": 1,
        "mixed split": 1,
        "unlike translation": 1,
        "other language": 1,
        "empty file": 1,
        "other file": 2,
    }
    assert problems.named["duplicate id"] == [f"annotations/en/train.jsonl:2: {good['pairID']} in english"]
    assert problems.named["missing image file"] == ["annotations/en/train.jsonl:7: 999"]
    assert problems.named["ambiguous image"] == ["annotations/en/train.jsonl:9: 1002 is a/1002.jpg and b/1002.jpg"]
    assert problems.named["unknown label"] == ["annotations/en/train.jsonl:5: maybe"]
    assert problems.named["broken line"][3] == (
        "annotations/en/train.jsonl:13: 'pairID' holds half a surrogate pair, which is no character"
    )
    (tree.root.parent / "work/xvnli.sqlite").unlink()
    with pytest.raises(InputError, match=r"--max-problems allows 9: broken line 4 \(annotations/en/train.jsonl:3"):
        opened("xvnli", tree, max_problems=9)


def test_a_picture_that_cannot_be_read_takes_its_examples_along(tree: IglueTree) -> None:
    tree.marvl(train=3)
    (tree.root / "nlvr2/train/train-1-0-img1.png").write_bytes(b"no picture")
    source = opened("marvl", tree)
    stories, problems = load(source)
    assert stories["train"].keys() == {"train-0-0-1", "train-2-0-1"}
    assert problems.counts == {"unreadable image": 1}


def test_a_directory_without_annotations_is_refused_with_what_is_wanted(tree: IglueTree) -> None:
    tree.text("annotations/en/train.jsn", "{}")
    with pytest.raises(
        InputError, match=r"no annotations of xvnli below .*few|must hold annotations/en/.*other file 1"
    ):
        opened("xvnli", tree)
    with pytest.raises(InputError, match=r"marvl needs --data DIR: a directory of marvl-LANGUAGE.jsonl"):
        open_source("marvl", cache=default_cache(), work=tree.root)


@pytest.mark.parametrize("block", [7, 1 << 20])
def test_a_list_or_object_is_read_piece_by_piece(tree: IglueTree, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr("shards.corpora.iglue.records._BLOCK", block)
    items = {f"é{number}": {"a": '\\"}{,[' * number, "b": [number, {"c": None}]} for number in range(9)}
    texts = {
        "object.json": json.dumps(items, ensure_ascii=False),
        "spaced.json": "\ufeff" + json.dumps(items, indent=2),
        "list.json": json.dumps([{"question_id": key, **item} for key, item in items.items()]),
    }
    for name, text in texts.items():
        tree.text(name, text)
        (tree.root / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
        for file in (name, f"{name}.gz"):
            problems = Problems()
            found = [record for _, _, record in read_records(tree.root, file, problems, lines=False)]
            assert found == [{"question_id": key, **item} for key, item in items.items()]
            assert problems.counts == {}


@pytest.mark.parametrize(
    ("text", "records", "counted"),
    [
        ('{"a": {}, "b": {}', 2, "damaged file"),
        ('[{"a": 1}, {"a"', 1, "damaged file"),
        ('{"a": {}, 3: {}}', 1, "damaged file"),
        ('"text"', 0, "damaged file"),
        ('{"a": {}} {"b": {}}', 1, "damaged file"),
        ("[{}]   garbage", 1, "damaged file"),
        ('{"a": {}, "b": null, "c": {}}\n\n', 2, "broken line"),
        ("[{}, null, 3, {}]", 2, "broken line"),
        ("[" * 100_000, 0, "damaged file"),
        ("", 0, "empty file"),
        ("{}", 0, "empty file"),
    ],
)
def test_a_damaged_list_or_object_is_read_as_far_as_it_goes(
    tree: IglueTree, text: str, records: int, counted: str
) -> None:
    tree.text("a.json", text)
    problems = Problems()
    assert len(list(read_records(tree.root, "a.json", problems, lines=False))) == records
    assert problems.counts.keys() == {counted}


def test_a_corpus_with_labels_from_the_command_line(tree: IglueTree, capsys: pytest.CaptureFixture[str]) -> None:
    out = tree.root.parent / "corpus"
    words = ["prepare", "marvl", "--data", str(tree.marvl()), "--out", str(out), "--vocab-size", "330"]
    assert main(words) == 0
    assert main(["verify", str(out), "--workers", "1"]) == 0
    assert main(words) == 0  # complete: nothing is built again
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["labels"] == ["false", "true"]
    assert manifest["max_images"] == 2
    assert manifest["splits"]["test"] == {"stories": 12, "articles": 12, "edges": 12}
    assert sorted(path.name for path in out.iterdir() if path.name.startswith(("marvl", ".d2tv", "prepare"))) == []
    capsys.readouterr()
    assert main(["inspect", str(out)]) == 0
    assert "labels of train: 2 of the corpus' 2, most often false 50.0%, true 50.0%" in capsys.readouterr().out
    assert main(["preview", str(out), "--story", "zh-0", "--out", str(out.parent / "page.html")]) == 0
    assert "至少有一张图 0" in (out.parent / "page.html").read_text()


def test_names_of_pictures_need_not_say_their_kind(tree: IglueTree) -> None:
    tree.picture("x/dev-1-0-img0.png")
    tree.picture("x/dev-1-0-img1.png")
    tree.picture("y/52-a/52-1.jpg")
    tree.picture("y/52-b/52-1.jpg", 1)
    tree.lines("dev.jsonl", [nlvr("dev", 1)])
    line = marvl("id", "52-a", 1) | {"left_img": "52-1.JPG", "right_img": "52-b/52-1.jpg"}
    tree.lines("marvl-id.jsonl", [line])
    stories, problems = load(opened("marvl", tree, pixels=True))
    assert problems.counts == {}
    assert stories["validation"].keys() == {"dev-1-0-1"}
    images = stories["test"]["id-1"].shared_images
    assert images is not None
    assert images.pixels == tuple((tree.root / f"y/{name}/52-1.jpg").read_bytes() for name in ("52-a", "52-b"))
