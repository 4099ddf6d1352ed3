"""Test `d2tv annotate`: the examples that are drawn, and what the page hides."""

import json
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.annotation.key import CRITERIA, key_path, read_key
from launcher.annotation.sample import draw, shuffled
from launcher.cli import main
from launcher.pages.templates import visible
from shards.format.index import Corpus
from shards.format.merge import finish_corpus
from shards.format.writer import write_shard
from tests.support.annotations import NAMES, ratings, write, write_ratings, write_system
from tests.support.forkserver import ROOT
from tests.support.pages import Page, says_nothing_to_the_console
from tests.support.strange import LANGUAGES, strange_stories
from trainer.evaluation.predictions import read_predictions, write_predictions


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    assert main(["annotate", *map(str, words)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    return error


def test_the_page_shows_every_summary_and_says_nowhere_who_wrote_it(
    systems: list[str], tmp_path: Path, tiny_corpus: Corpus, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "page.html"
    assert main(["annotate", *systems, "--examples", "30", "--out", str(out)]) == 0
    told = capsys.readouterr().out
    page, key = Page(out), read_key(key_path(out))
    page.loads_nothing(own_script=True)
    source = page.source.replace(key.page, "")
    for word in (*NAMES, *systems, str(tmp_path), str(tiny_corpus.directory), "story-00"):
        assert not re.search(rf"\b{re.escape(word)}\b", source), word
    assert len(page.all("section")) == len(key.items) == 30
    texts = [element.content for element in page.all("p", **{"class": "summary"})]
    empty = page.source.count("An empty summary")
    assert len(texts) + empty == len(key.summaries)
    # Where two wrote the same, it stands once and counts for both.
    same = sum(len(names) - 1 for item in key.items.values() for names in item.summaries.values())
    assert same > 0
    assert f"{same} of 90 summaries are another system's word for word" in told
    assert len(key.summaries) == 90 - same
    assert f"{empty} of 90 summaries are empty" in told
    # Each letter is each system's at times.
    of_a = Counter(name for item in key.items.values() for name in item.summaries["A"])
    assert set(of_a) == set(NAMES)
    assert max(of_a.values()) < 25
    radios = page.all("input", type="radio")
    assert len(radios) == 5 * len(CRITERIA) * len(key.summaries)
    assert not page.all("p", **{"class": "reference"})
    says_nothing_to_the_console(out)


def test_the_same_command_writes_the_same_page_and_another_one_never_replaces_its_key(
    systems: list[str], key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*systems, "--examples", "20", "--out", str(tmp_path / "page.html")]
    before = (tmp_path / "page.html").read_bytes(), key.read_bytes()
    assert main(["annotate", *words]) == 0
    assert ((tmp_path / "page.html").read_bytes(), key.read_bytes()) == before
    assert "is the key of another page" in refused(capsys, *words, "--seed", "1")
    assert ((tmp_path / "page.html").read_bytes(), key.read_bytes()) == before
    other = tmp_path / "other.html"
    assert main(["annotate", *systems, "--examples", "20", "--seed", "1", "--out", str(other)]) == 0
    assert read_key(key_path(other)).page != read_key(key).page


def test_the_document_is_the_targets_unless_asked_otherwise(
    systems: list[str], tmp_path: Path, tiny_corpus: Corpus
) -> None:
    out = tmp_path / "page.html"
    words = ["annotate", *systems, "--directions", "en-ur", "--examples", "3"]
    assert main([*words, "--out", str(out)]) == 0
    page = Page(out)
    assert [element.content for element in page.all("h3") if "Document" in element.content] == ["Document in urdu"] * 3
    assert len(page.all("p", lang="ur", dir="rtl")) == 3
    assert main([*words, "--document", "source", "--reference", "--out", str(tmp_path / "source.html")]) == 0
    page = Page(tmp_path / "source.html")
    assert len(page.all("p", lang="en", dir="ltr")) == 3
    references = page.all("p", **{"class": "reference"})
    assert len(references) == 3
    assert all(element.attributes["lang"] == "ur" for element in references)
    documents = [element.content.strip() for element in Page(out).all("p", lang="ur", dir="rtl")]
    # The tiny corpus' summaries are the first words of their documents.
    assert all(text.startswith(element.content.strip()) for text, element in zip(documents, references, strict=True))
    key = read_key(tmp_path / "source.key.json")
    assert {(item.source, item.target) for item in key.items.values()} == {("english", "urdu")}


def test_only_what_all_systems_have_is_drawn(
    systems: list[str], tmp_path: Path, tiny_corpus: Corpus, capsys: pytest.CaptureFixture[str]
) -> None:
    fewer = write_system(tmp_path / "fewer", tiny_corpus, write, skip=40)
    total = len(tiny_corpus.edges["test"])
    assert main(["annotate", systems[0], f"B={fewer}", "--examples", "9999", "--out", str(tmp_path / "p.html")]) == 0
    told = capsys.readouterr().out
    assert f"there are no more than {total - 40} of the 9999 examples" in told
    assert "40 examples are not in all of the systems and left out" in told
    key = read_key(tmp_path / "p.key.json")
    assert key.systems == ["mms", "B"]
    assert len(key.items) == total - 40


def test_baselines_and_files_of_other_systems_are_rated_beside_runs(
    systems: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = read_predictions(Path(systems[0]), "test")[:30]
    lines = [
        {"story": row.story, "source": row.source, "target": row.target, "prediction": f"foreign {row.number}"}
        for row in rows
    ]
    file = tmp_path / "llm.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    out = tmp_path / "page.html"
    words = [systems[0], str(file), "lead", "--examples", "8", "--document", "source", "--out", str(out)]
    assert main(["annotate", *words]) == 0
    assert "llm: " in capsys.readouterr().out  # examples of its directions that it has no line for
    key, page = read_key(key_path(out)), Page(out)
    assert key.systems == ["mms", "llm", "lead"]
    texts = iter(element.content for element in page.all("p", **{"class": "summary"}))
    documents = [element.content.strip() for element in page.all("div", **{"class": "document"})]
    for document, item in zip(documents, key.items.values(), strict=True):
        for names in item.summaries.values():
            text = next(texts)
            assert text.startswith("foreign ") == ("llm" in names)
            assert "lead" not in names or document.startswith(text)


@settings(max_examples=20)
@given(st.integers(1, 40), st.integers(0, 3), st.randoms(use_true_random=False))
def test_examples_are_drawn_evenly_and_whatever_their_order(count: int, seed: int, order: random.Random) -> None:
    keys = [(f"s{story}", source, target) for story in range(12) for source in "ab" for target in "ab"]
    keys = [key for key in keys if key[1:] != ("b", "b") or key[0] < "s2"]
    shuffled_keys = list(keys)
    order.shuffle(shuffled_keys)
    found = draw(shuffled_keys, count, seed)
    assert found == draw(keys, count, seed)
    assert len(set(found)) == len(found) == min(count, len(keys))
    sizes = Counter(key[1:] for key in keys)
    counts = Counter(key[1:] for key in found)
    open_ones = [counts[direction] for direction in sizes if counts[direction] < sizes[direction]]
    assert not open_ones or max(counts.values()) - min(open_ones) <= 1
    everywhere = [(f"s{story}", source, target) for story in range(12) for source in "ab" for target in "ab"]
    assert len({key[0] for key in draw(everywhere, count, seed)}) == min(count, 12)


def test_the_order_of_one_page_says_nothing_of_anothers() -> None:
    """Annotators who were told the order of one page could otherwise read it off the next."""
    orders = {
        tuple(
            names[0] for _, names in shuffled({"a": f"x{n}", "b": f"y{n}", "c": f"z{n}"}, 0, ("s", "e", "u")).values()
        )
        for n in range(60)
    }
    assert len(orders) == 6


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["nowhere"], "nowhere has no evaluation of test"),
        (["{run}", "--split", "validation"], "has no evaluation of validation"),
        (["{run}", "--examples", "0"], "--examples 0: at least 1"),
        (["{run}", "--directions", "ru-en"], "russian"),
        (["{run}", "--directions", "en"], "directions: 'en' is none of all, mms, mxls"),
        (["{run}", "{run}"], "two have one name"),
        (["A={run},{other}"], "A is 2 runs, which wrote different summaries: name one of them"),
        (["{run}", "--out", "/proc/none/x.html"], "cannot be written"),
        (["{run}", "--corpus", "{tmp}"], "{tmp}"),
        (["{bare}"], "name the corpus that the predictions are of by --corpus DIR"),
        (["lead", "oracle"], "name a run or a file of predictions beside the baselines"),
        (["{key}"], "is the key of a page: name what annotators saved with --ratings FILE ..."),
        (["{run}", "--baseline", "mms", "--json", "x"], "--baseline, --json: reads files: name them with --ratings"),
        (["{key}", "--examples", "3", "--ratings", "x"], "--examples: writes a page, for which there is no --ratings"),
        (["{key}", "{key}", "--ratings", "x"], "--ratings wants one key"),
        (["{run}", "--ratings", "x"], "is a directory: --ratings wants the .key.json"),
        (["{page}", "--ratings", "x"], "is no key of d2tv annotate"),
        (["nowhere", "--ratings", "x"], "nowhere is no key of d2tv annotate (No such file or directory)"),
        (["{key}", "--ratings", "nowhere"], "nowhere cannot be read: No such file or directory"),
        (["{key}", "--ratings", "{key}"], "is no file of ratings: name what annotators saved from the page"),
        (["{key}", "--ratings", "{tmp}"], "cannot be read: it is a directory"),
        (
            ["{key}", "--ratings", "{good}", "--baseline", "mmss"],
            "--baseline mmss: no such system (did you mean 'mms'?)",
        ),
        (["{key}", "--ratings", "{good}", "--samples", "5"], "--samples 5: at least 100"),
        (["{key}", "--ratings", "{good}", "--seed", "-1"], "--seed -1: at least 0"),
        (["{key}", "--ratings", "{good}", "--json", "/proc/none/x"], "/proc/none/x cannot be written"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    systems: list[str],
    key: Path,
    tmp_path: Path,
    tiny_corpus: Corpus,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    error: str,
) -> None:
    names = {
        "run": systems[0],
        "other": systems[1],
        "bare": str(write_system(tmp_path / "bare", tiny_corpus, write, recipe=False)),
        "key": str(key),
        "page": str(tmp_path / "page.html"),
        "good": str(write_ratings(tmp_path / "good.json", ratings(read_key(key), "Ann", lambda i, a, c, s: 3))),
        "tmp": str(tmp_path),
    }
    filled = [word.format(**names) for word in words]
    if "--out" not in words and "--ratings" not in words:
        filled += ["--out", str(tmp_path / "new.html")]
    assert error.format(**names) in refused(capsys, *filled)
    assert not (tmp_path / "new.html").exists()


def test_predictions_of_another_corpus_are_not_shown_with_this_ones_documents(
    systems: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [shutil.copytree(run, tmp_path / Path(run).name) for run in systems]
    rows = read_predictions(runs[1], "test")
    write_predictions(runs[1], "test", rows, ["rouge1"], {"corpus": "ab" * 32})
    out = tmp_path / "page.html"
    assert f"is not the corpus that {runs[1]} was evaluated on" in refused(capsys, *runs, "--out", out)
    for run in runs:  # as an older release wrote them, and of a story that nobody knows
        write_predictions(run, "test", [replace(rows[0], story="lost")], ["rouge1"])
    assert "has no article of lost in" in refused(capsys, *runs, "--out", out)


def test_strange_stories_are_shown_with_their_pictures_and_what_cannot_be_read_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stories = strange_stories(pixels=True)
    folder = tmp_path / "corpus"
    folder.mkdir()
    write_shard(folder / "test-000000.tar", stories, LANGUAGES)
    corpus = finish_corpus(folder, name="strange", languages=LANGUAGES, provenance={})
    run = write_system(tmp_path / "run", corpus, lambda name, story, number: "</p><script>alert(1)</script>\x00\x1b[2J")
    out = tmp_path / "page.html"
    words = ["annotate", str(run), "--examples", "999", "--document", "source", "--out", str(out)]
    assert main(words) == 0
    assert "lacks" not in capsys.readouterr().out
    page = Page(out)
    page.loads_nothing(own_script=True)
    assert len(page.all("section")) == len(corpus.edges["test"])
    documents = {article.text for story in stories for article in story.articles}
    assert {element.content.strip() for element in page.all("div", **{"class": "document"})} <= {
        visible(text).strip() for text in documents
    }
    pictures = page.all("img")
    assert len(pictures) > 10
    assert all(element.attributes["alt"].startswith("Image ") for element in pictures)
    says_nothing_to_the_console(out)

    data = bytearray((folder / "test-000000.tar").read_bytes())
    with_pictures = next(images.pixels for images in (stories[2].images or {}).values() if images.pixels)
    data[data.index(with_pictures[0]) + 40] ^= 1
    (folder / "test-000000.tar").write_bytes(data)
    key_path(out).unlink()
    assert main(words) == 0
    assert "an example lacks its document or images: " in capsys.readouterr().out
    assert Page(out).all("p", **{"class": "bad"})


def test_neither_form_imports_torch(systems: list[str], key: Path) -> None:
    files = [write_ratings(key.parent / "a.json", ratings(read_key(key), "Ann", lambda i, a, c, s: 3))]
    for words in ([*systems, "--out", key.parent / "new.html"], [key, "--ratings", *files]):
        script = "import sys, launcher.cli; code = launcher.cli.main(sys.argv[1:]); print('torch' in sys.modules, code)"
        done = subprocess.run(
            [sys.executable, "-c", script, "annotate", *map(str, words)], capture_output=True, text=True, cwd=ROOT
        )
        assert done.stdout.splitlines()[-1] == "False 0", done.stderr
