"""Test `d2tv inspect` against a slow count over stories and tars, on terminals and pages of all sizes."""

import io
import json
import math
import re
import statistics
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from launcher.cli import main
from launcher.inspection import facts as facts_module
from launcher.inspection import inspect_corpus as inspection
from launcher.inspection.facts import corpus_facts
from launcher.pages.colours import levels
from shards.format.index import Corpus
from shards.format.merge import finish_corpus
from shards.format.writer import split_of, write_shard
from shards.languages import LANGUAGE_CODES
from shards.schema import Story
from tests.support.pages import Page, says_nothing_to_the_console
from tests.support.strange import LANGUAGES, strange_stories
from tests.support.tiny import make_corpus, make_stories


@pytest.fixture(scope="module")
def wide_corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """44 languages."""
    return make_corpus(
        tmp_path_factory.mktemp("wide") / "corpus",
        languages=tuple(LANGUAGE_CODES)[:44],
        stories=12,
        feature_size=8,
        regions=4,
        vocab_size=1200,
    )


def texts_of(corpus: Corpus, split: str) -> dict[str, list[tuple[int, int]]]:
    """language -> (characters of the document, of the summary) of every article, from the tars alone."""
    found: dict[str, list[tuple[int, int]]] = {}
    for tar in corpus.directory.glob(f"{split}-*.tar"):
        with tarfile.open(tar) as archive:
            for member in archive:
                if member.name.endswith(".json"):
                    record = json.load(archive.extractfile(member))  # type: ignore[arg-type]
                    language = member.name.split(".")[1]
                    found.setdefault(language, []).append((len(record["text"]), len(record["summary"])))
    return found


def edges_of(stories: list[Story], split: str) -> Counter[tuple[str, str]]:
    counts: Counter[tuple[str, str]] = Counter()
    for story in stories:
        if split_of(story.key) == split:
            names = [article.language for article in story.articles]
            counts.update(story.edges if story.edges is not None else [(s, t) for s in names for t in names])
    return counts


def percentile(values: list[int], share: float) -> float:
    place = (len(values) - 1) * share
    low, high = sorted(values)[math.floor(place)], sorted(values)[math.ceil(place)]
    return low + (high - low) * (place - math.floor(place))


@pytest.mark.parametrize("split", ["train", "validation"])
def test_the_numbers_are_those_of_a_slow_count(tiny_corpus: Corpus, split: str) -> None:
    stories = make_stories(tiny_corpus.languages, 96)
    facts = corpus_facts(tiny_corpus, split)
    edges, texts = edges_of(stories, split), texts_of(tiny_corpus, split)
    of_split = [story for story in stories if split_of(story.key) == split]
    assert facts.totals[split] == (
        len(of_split),
        sum(len(story.articles) for story in of_split),
        edges.total(),
        len(edges),
    )
    for source, source_facts in enumerate(facts.languages):
        for target, target_facts in enumerate(facts.languages):
            assert facts.counts_TS[target, source] == edges[source_facts.name, target_facts.name]
        lengths = texts[source_facts.name]
        assert source_facts.articles == len(lengths)
        for measured, values in (
            (source_facts.document, [document for document, _ in lengths]),
            (source_facts.summary, [summary for _, summary in lengths]),
        ):
            assert measured.median == round(statistics.median(values))
            assert measured.most == round(percentile(values, 0.95))
            assert measured.longest == max(values)
    images: Counter[int] = Counter()
    for story in of_split:
        for article in story.articles:
            own = (story.images or {}).get(article.language)
            kept = own if own is not None else story.shared_images
            images[0 if kept is None else len(kept.roi_IRV)] += 1
    assert dict(enumerate(facts.images.tolist())) == {n: images[n] for n in range(max(images) + 1)}


def test_what_the_mixture_makes_of_the_corpus(tiny_corpus: Corpus, capsys: pytest.CaptureFixture[str]) -> None:
    """Shares and passes by CrossSum's formula, written out."""
    counts = edges_of(make_stories(tiny_corpus.languages, 96), "train")
    total = counts.total()
    of_target = {t: sum(n for (_, target), n in counts.items() if target == t) for t in tiny_corpus.languages}
    outer = {t: (n / total) ** 0.5 for t, n in of_target.items()}
    share = {}
    for (source, target), n in counts.items():
        inner = sum((m / of_target[target]) ** 0.75 for (_, other), m in counts.items() if other == target)
        share[source, target] = outer[target] / sum(outer.values()) * (n / of_target[target]) ** 0.75 / inner
    assert main(["inspect", str(tiny_corpus.directory)]) == 0
    shown = capsys.readouterr().out
    mms = sum(value for (source, target), value in share.items() if source == target)
    assert f"mms {mms:.1%}, mxls {1 - mms:.1%} of the slots" in shown
    assert f"an epoch-equivalent is {total:,} slots" in shown
    rows = re.findall(r"^  (\w+) -> (\w+) +([\d,]+) +([\d.]+)% +([\d.]+)$", shown, re.MULTILINE)
    assert len(rows) == 15
    for source, target, examples, percent, passes in rows:
        assert int(examples.replace(",", "")) == counts[source, target]
        assert float(percent) == pytest.approx(100 * share[source, target], rel=6e-3)
        assert float(passes) == pytest.approx(share[source, target] * total / counts[source, target], rel=6e-3)
    by_count = sorted(counts.values())
    assert [counts[s, t] for s, t, *_ in rows[:5]] == by_count[:5]
    assert [counts[s, t] for s, t, *_ in rows[5:10]] == by_count[::-1][:5]
    most = max(share[pair] * total / counts[pair] for pair in counts)
    assert float(rows[10][4]) == pytest.approx(most, rel=6e-3)


def test_overrides_shape_the_mixture(tiny_corpus: Corpus, capsys: pytest.CaptureFixture[str]) -> None:
    proportional = ["mixture.outer_exponent=1", "mixture.inner_exponent=1"]
    assert main(["inspect", str(tiny_corpus.directory), *proportional]) == 0
    rows = re.findall(r"^  \w+ -> \w+ .* ([\d.]+)$", capsys.readouterr().out, re.MULTILINE)
    assert set(rows) == {"1"}
    assert main(["inspect", str(tiny_corpus.directory), "mixture.kinds=[mms]", "--recipe", "mms"]) == 0
    shown = capsys.readouterr().out
    assert "mms 100.0%, mxls 0.0% of the slots" in shown
    assert "12 directions that have examples get no share" in shown


def test_long_corpora_are_sampled(tiny_corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest are found all the same, and nothing else changes."""
    whole = corpus_facts(tiny_corpus, "train")
    monkeypatch.setattr(facts_module, "SAMPLE", 20)
    sampled = corpus_facts(tiny_corpus, "train")
    assert sampled.sample == 20
    assert whole.sample is None
    for one, other in zip(whole.languages, sampled.languages, strict=True):
        assert (one.document.longest, one.summary.longest) == (other.document.longest, other.summary.longest)
        assert one.articles == other.articles
        assert other.document.median <= one.document.longest


def test_the_steps_of_the_heat_map() -> None:
    values = np.array([[0, 1, 10], [100, 1000, 10**9]])
    steps = levels(values)
    assert steps[0, 0] == 0
    assert steps[0, 1] == 1
    assert steps[1, 2] == 9
    assert (np.diff(steps.ravel()) >= 0).all()
    assert levels(np.full((2, 2), 7)).tolist() == [[5, 5], [5, 5]]
    assert levels(np.zeros((2, 2), np.int64)).tolist() == [[0, 0], [0, 0]]


def heat_map(corpus: Corpus, **options: object) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, highlight=False, **options)  # type: ignore[arg-type]
    inspection._print_heat_map(corpus_facts(corpus, "train"), console)
    return out.getvalue().splitlines()


def test_44_languages_fit_80_columns_of_plain_text(
    wide_corpus: Corpus, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert main(["inspect", str(wide_corpus.directory)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines[1:])) <= 80
    assert not any(line.endswith(" ") for line in lines)
    rows = [match for line in lines if (match := re.fullmatch(r"(\S+) +([.1-9]{44}) +([\d,]+)", line))]
    assert [row[1] for row in rows] == [LANGUAGE_CODES[language] for language in wide_corpus.languages]
    counts = wide_corpus.direction_counts("train")
    assert [int(row[3].replace(",", "")) for row in rows] == counts.sum(axis=1).tolist()
    digits = np.array([[0 if cell == "." else int(cell) for cell in row[2]] for row in rows])
    assert (digits == 0).tolist() == (counts == 0).tolist()
    for step in range(1, 10):  # a higher digit is never fewer examples
        if (digits == step).any() and (digits > step).any():
            assert counts[digits == step].max() < counts[digits > step].min()


def test_44_languages_fit_120_columns_in_colour(wide_corpus: Corpus) -> None:
    plain = re.compile(r"\x1b\[[0-9;]*m")
    lines = heat_map(wide_corpus, width=120, force_terminal=True, color_system="truecolor")
    assert max(len(plain.sub("", line)) for line in lines) <= 120
    assert sum(line.count("█") for line in lines if "zh" in line) > 0
    assert len({colour for line in lines for colour in re.findall(r"38;2;[\d;]+", line)}) > 3
    # Few colours would be a muddle: digits then, as in a file.
    assert not any("█" in line for line in heat_map(wide_corpus, width=120, force_terminal=True, color_system=None))


def test_a_narrow_terminal_shows_the_largest_languages(wide_corpus: Corpus) -> None:
    lines = heat_map(wide_corpus, width=40)
    assert "(the 21 largest of 44 languages; all with --html)" in lines
    assert len([line for line in lines if re.fullmatch(r"\S+ +[.1-9]{21} +[\d,]+", line)]) == 21


def test_the_page(wide_corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "page.html"
    assert main(["inspect", str(wide_corpus.directory), "--html", str(path)]) == 0
    assert capsys.readouterr().out.endswith(f"page: {path}\n")
    page = Page(path)
    page.loads_nothing()
    counts, names = wide_corpus.direction_counts("train"), wide_corpus.languages
    tips = [element.content for element in page.all("title") if "→" in element.content]
    assert len(tips) == 2 * 44 * 44
    expected = {f"{names[s]} → {names[t]}: {counts[t, s]:,} examples" for s in range(44) for t in range(44)}
    assert {tip.split(", share")[0] for tip in tips} == expected
    labels = [element.content for element in page.all("text")]
    assert all(labels.count(name) == 4 for name in names)
    says_nothing_to_the_console(path)


def test_a_split_without_examples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_shard(tmp_path / "train-000000.tar", strange_stories(), LANGUAGES)
    finish_corpus(tmp_path, name="<b>strange</b>", languages=LANGUAGES, provenance={})
    path = tmp_path / "page.html"
    assert main(["inspect", str(tmp_path), "--split", "test", "--html", str(path)]) == 0
    assert "test has no examples" in capsys.readouterr().out
    page = Page(path)
    page.loads_nothing()
    assert page.all("h1")[0].content == "<b>strange</b>: test"


@pytest.mark.parametrize(
    ("arguments", "fix"),
    [
        (["{corpus}", "--recipe", "d2tw"], "did you mean 'd2tv'"),
        (["{corpus}", "mixture.outer=1"], "unknown key 'mixture.outer'"),
        (["{corpus}", "mixture.languages=[cy]"], "is not in the corpus"),
        (["{corpus}", "--html", "{corpus}/no/page.html"], "cannot be written"),
        (["{corpus}/nowhere"], "d2tv prepare"),
    ],
)
def test_what_cannot_be_inspected(
    tiny_corpus: Corpus, capsys: pytest.CaptureFixture[str], arguments: list[str], fix: str
) -> None:
    assert main(["inspect", *(argument.format(corpus=tiny_corpus.directory) for argument in arguments)]) == 2
    error = capsys.readouterr().err
    assert fix in error
    assert error.count("\n") == 1
