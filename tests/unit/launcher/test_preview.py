"""Test that `d2tv preview` finds every story by a part of its key, and shows it as it is."""

import base64
import io
import urllib.parse
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from launcher.cli import main
from launcher.pages.regions import colours
from launcher.preview import find_story, spoken_key
from shards.errors import InputError
from shards.format.index import Corpus
from shards.format.merge import finish_corpus
from shards.format.writer import encode_key, write_shard
from shards.languages import LANGUAGE_CODES
from tests.support.http_server import serving
from tests.support.pages import Page, says_nothing_to_the_console
from tests.support.strange import KEYS, LANGUAGES, REGIONS, WIDTH, strange_stories
from tests.support.tiny import make_stories

RIGHT_TO_LEFT = ("arabic", "urdu")


@pytest.fixture(scope="module")
def strange_corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    directory = tmp_path_factory.mktemp("strange")
    write_shard(directory / "train-000000.tar", strange_stories(), LANGUAGES)
    return finish_corpus(directory, name="strange", languages=LANGUAGES, provenance={})


def shown(corpus: Corpus, story: str, path: Path, capsys: pytest.CaptureFixture[str]) -> Page:
    assert main(["preview", str(corpus.directory), "--story", story, "--out", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}\n"
    page = Page(path)
    page.loads_nothing()
    return page


@pytest.mark.parametrize("number", range(len(KEYS)), ids=[key[:12] for key in KEYS])
def test_every_story_by_its_key(
    strange_corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    story = strange_stories()[number]
    page = shown(strange_corpus, story.key, tmp_path / "page.html", capsys)
    assert page.all("code")[0].content == encode_key(story.key)
    assert len(page.all("article")) == len(story.articles)
    for article, element in zip(story.articles, page.all("article"), strict=True):
        way = "rtl" if article.language in RIGHT_TO_LEFT else "ltr"
        [summary, text] = page.all("p", dir=way, lang=LANGUAGE_CODES[article.language])
        # A control character shows as its picture, everything else as it is.
        assert summary.content == article.summary
        assert text.content == article.text.replace("\x01", "␁")
        assert article.url in element.content
    links = {element.attributes["href"] for element in page.all("a")} - {f"#{name}" for name in LANGUAGES}
    assert links == {article.url for article in story.articles if article.url.startswith("https://")}

    sequences = list((story.images or {}).values())
    if story.shared_images is not None:  # of the articles that have none of their own
        sequences.append(story.shared_images)
    figures = page.all("figure")
    assert len(figures) == sum(len(images.roi_IRV) for images in sequences)
    assert all(f"roi ({REGIONS}, {WIDTH}) float16" in figure.content for figure in figures)
    boxes = np.concatenate([images.boxes_IR4 for images in sequences]) if sequences else np.empty((0, REGIONS, 4))
    drawn = sorted(tip.content for tip in page.all("title") if tip.content.startswith("region "))
    told = sorted(
        f"region {region}: ({x1:.3f}, {y1:.3f}) to ({x2:.3f}, {y2:.3f})"
        for image in boxes
        for region, (x1, y1, x2, y2) in enumerate(image.tolist())
    )
    assert [tip.split(", norm")[0] for tip in drawn] == told

    names = [article.language for article in story.articles]
    pairs = set(story.edges or [(source, target) for source in names for target in names])
    cells = {tip.content for tip in page.all("title") if "→" in tip.content}
    assert cells == {f"{s} → {t}: {'an example' if (s, t) in pairs else 'none'}" for s in names for t in names}


@pytest.mark.parametrize("number", [0, 1, 2, 3, 4, 6, 9, 13, 25])
def test_stories_of_the_tiny_corpus(
    tiny_corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    """One article; no image; shared images drawn once; own images for some."""
    story = make_stories(tiny_corpus.languages, 96)[number]
    page = shown(tiny_corpus, story.key, tmp_path / "page.html", capsys)
    sequences = [story.shared_images] if story.shared_images else list((story.images or {}).values())
    assert len(page.all("figure")) == sum(len(images.roi_IRV) for images in sequences)
    assert len(page.all("article")) == len(story.articles)
    headings = [element.content for element in page.all("h3") if element.content.startswith("Sequence")]
    whose = ["all articles"] if story.shared_images else list(story.images or {})
    assert headings == [f"Sequence {place}: {name}" for place, name in enumerate(whose, 1)]


def test_ways_to_name_a_story(strange_corpus: Corpus) -> None:
    keys = strange_corpus.story_keys()
    for number, key in enumerate(KEYS):
        assert find_story(keys, key) == number  # as a person has it; "12" is a key before it is a number
        assert find_story(keys, keys[number]) == number  # as stored
    assert find_story(keys, "7") == 7
    assert find_story(keys, "www.bbc.com/news") == 0
    assert find_story(keys, "www%2Ebbc") == 0
    assert find_story(keys, "خبر/") == 2
    assert find_story(keys, "新闻 新") == 4


@pytest.mark.parametrize(
    ("wanted", "fix"),
    [
        ("www.bbc.com/news/world-13.html", "closest keys are 'www.bbc.com/news/world-12.html'"),
        ("%", "4 stories begin with '%', like خبر/"),
        ("99", "no story '99' among 8"),
        ("", "no story '' among 8"),
        ("\udcff", "a key is text"),
    ],
)
def test_stories_that_are_not_there(
    strange_corpus: Corpus, capsys: pytest.CaptureFixture[str], wanted: str, fix: str
) -> None:
    assert main(["preview", str(strange_corpus.directory), f"--story={wanted}"]) == 2
    error = capsys.readouterr().err
    assert fix in error
    assert error.count("\n") == 1


def test_a_key_among_very_many() -> None:
    keys = [f"story-{number:06d}" for number in range(50_000)]
    assert find_story(keys, "story-049999") == 49_999
    with pytest.raises(InputError, match="50,000 stories begin with 'story-0'"):
        find_story(keys, "story-0")
    with pytest.raises(InputError, match="closest keys are 'story-04000"):
        find_story(keys, "story-04000x")


def test_a_cut_key_shows_that_it_is_cut() -> None:
    assert spoken_key(encode_key("x" * 300)) == "x" * 120 + "…"
    assert spoken_key(encode_key("新闻 " * 100)).startswith("新闻 新闻 ")
    assert "\ufffd" not in spoken_key(encode_key("新闻 " * 100))
    assert spoken_key(encode_key("a.b/c d")) == "a.b/c d"


def test_the_page_has_a_name_of_its_own(
    strange_corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["preview", str(strange_corpus.directory), "--story", KEYS[2]]) == 0
    name = f"preview-{urllib.parse.quote(KEYS[2], safe='').replace('.', '%2E')}.html"
    assert capsys.readouterr().out == f"{name}\n"
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert main(["preview", str(strange_corpus.directory), "--story", KEYS[2], "--out", "no/page.html"]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_damaged_images_are_not_drawn(
    strange_corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from shutil import copytree

    copy = Path(copytree(strange_corpus.directory, tmp_path / "copy"))
    offset = int(strange_corpus.articles["roi_offset"][1])
    data = bytearray((copy / "train-000000.tar").read_bytes())
    data[offset + 200] ^= 1
    (copy / "train-000000.tar").write_bytes(data)
    assert main(["preview", str(copy), "--story", KEYS[1], "--out", str(tmp_path / "page.html")]) == 2
    assert "its checksum is wrong" in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()


def test_regions_that_are_alike_have_one_colour() -> None:
    random = np.random.default_rng(0)
    cat, dog, house = random.standard_normal((3, 20))
    images = [np.stack([[cat, dog, cat], [house, house, dog]]), np.stack([[dog, cat, house]])]
    [[one, two], [three]] = colours([roi.astype(np.float16) for roi in images])
    assert one[0] == one[2] == three[1]
    assert one[1] == two[2] == three[0]
    assert two[0] == two[1] == three[2]
    assert len({one[0], one[1], two[0]}) == 3
    grey = colours([np.ones((1, 2, 4), np.float16)])
    assert grey[0][0][0] == grey[0][0][1]


def test_the_images_themselves_where_they_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = strange_stories(pixels=True)
    write_shard(tmp_path / "train-000000.tar", made, LANGUAGES)
    corpus = finish_corpus(tmp_path, name="strange", languages=LANGUAGES, provenance={})
    page = shown(corpus, KEYS[3], tmp_path / "page.html", capsys)  # some of its images are shared, some are not
    assert made[3].images is not None
    assert made[3].shared_images is not None
    sequences = [made[3].shared_images, *made[3].images.values()]
    files = sorted(file for images in sequences for file in images.pixels or ())
    drawn = page.all("image")
    assert sorted(base64.b64decode(each.attributes["href"].partition(",")[2]) for each in drawn) == files
    assert {each.attributes["href"].partition(";")[0] for each in drawn} == {"data:image/png", "data:image/jpeg"}
    # As wide and high as they are: boxes are shares of both.
    ratios = sorted(int(each.attributes["width"]) / int(each.attributes["height"]) for each in drawn)
    sizes = [Image.open(io.BytesIO(file)).size for file in files]
    assert ratios == pytest.approx(sorted(wide / high for wide, high in sizes), abs=0.01)
    assert "no pixels" not in page.source
    says_nothing_to_the_console(tmp_path / "page.html")

    assert corpus.pixels is not None
    flipped = corpus.pixels[-1]
    data = bytearray((tmp_path / "train-000000.tar").read_bytes())
    data[int(flipped["offset"]) + 40] ^= 1
    (tmp_path / "train-000000.tar").write_bytes(data)
    story = encode_key(KEYS[4])
    assert main(["preview", str(tmp_path), "--story", KEYS[4], "--out", str(tmp_path / "none.html")]) == 2
    error = capsys.readouterr().err
    assert f"train-000000.tar, story {story}, arabic, image 2 of 2: " in error
    assert error.count("\n") == 1
    assert not (tmp_path / "none.html").exists()


def test_a_browser_has_nothing_to_say(
    strange_corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown(strange_corpus, KEYS[1], tmp_path / "page.html", capsys)
    says_nothing_to_the_console(tmp_path / "page.html")


def test_a_corpus_behind_a_url(
    tiny_corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same page and the same numbers, and no password in either."""
    monkeypatch.setenv("D2TV_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving(tiny_corpus.directory) as server:
        url = server.url.replace("://", "://me:secret@")
        local, remote = tmp_path / "local.html", tmp_path / "remote.html"
        for location, path in ((str(tiny_corpus.directory), local), (url, remote)):
            assert main(["preview", location, "--story", "story-0009", "--out", str(path)]) == 0
        assert remote.read_text() == local.read_text().replace(str(tiny_corpus.directory), server.url)
        capsys.readouterr()
        outputs = []
        for location in (str(tiny_corpus.directory), url):
            assert main(["inspect", location]) == 0
            outputs.append(capsys.readouterr().out)
        assert outputs[1] == outputs[0].replace(str(tiny_corpus.directory), server.url)
