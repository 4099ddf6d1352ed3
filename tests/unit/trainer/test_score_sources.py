"""`--perturb sources`: which share of a score comes from the document and the images, and who ignores them."""

import json
import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from launcher.cli import main
from shards.batch.reader import Reader, ReaderConfig
from shards.format.index import Corpus
from tests.support.checkpoints import recipe_in, write_checkpoint
from tests.support.pages import Page
from trainer.evaluation.heldout import choose_examples
from trainer.evaluation.robustness.impact import describe_sources, lost_shares, sources
from trainer.evaluation.robustness.kinds import KINDS, parse_kinds
from trainer.evaluation.robustness.perturb import Material, perturbation


def entry(clean: list[float], perturbed: list[float]) -> dict[str, object]:
    rows = [[{"rouge1": value} for value in of] for of in (clean, perturbed)]
    return {"examples": len(clean), "whole": lost_shares(rows[0], rows[1], [f"s{n}" for n in range(len(clean))])}


def test_shares_and_what_is_ignored_by_hand() -> None:
    draw = random.Random(0)
    clean = [20.0] * 40
    kinds = {
        "no_document": entry(clean, [8.0] * 40),
        "wrong_document": entry(clean, [10.0] * 40),
        "wrong_images": entry(clean, [20 + draw.gauss(0, 1) for _ in range(40)]),
        "no_images": entry(clean, [15.0] * 40),
    }
    found = sources(kinds)
    assert found["document"]["removed"]["rouge1"]["share"] == pytest.approx(0.6)
    assert found["document"]["ignored"] is False
    assert found["images"]["ignored"] is True  # without them it is worse, with another's as good: it looks at none
    line, ignored = describe_sources(found)
    assert line.startswith("document 60% of ROUGE-1 (another story's: 50%), images 25% (another story's: ")
    assert ignored.startswith("↓ the model ignores its images: with another story's it scores as well (p ")
    # Nothing to lose: no share, and nothing that the document gives.
    nothing = sources({"no_document": entry([0.0] * 5, [0.0] * 5)})
    assert describe_sources(nothing)[0] == "document – of ROUGE-1"
    assert nothing["document"]["ignored"] is True
    assert sources({"no_document": {"examples": 3, "whole": None}}) == {}
    assert describe_sources({}) == []


def test_a_word_for_all_that_a_score_comes_from() -> None:
    names = [kind.name for kind in parse_kinds("sources")[0]]
    assert names == ["wrong_document", "no_document", "wrong_images", "no_images"]
    assert {name for name in KINDS for severity in range(1, 6) if KINDS[name].takes_all(severity)} == set(names)
    assert not any(KINDS[name].takes_all(4) for name in KINDS)
    assert {"wrong_document", "no_document"} <= {kind.name for kind in parse_kinds("text")[0]}


def test_another_document_is_of_the_split_and_the_language(tiny_corpus: Corpus) -> None:
    reader = Reader(tiny_corpus, ReaderConfig(io_threads=0))
    size = len(tiny_corpus.languages)
    groups = choose_examples(tiny_corpus, "test", [(s, t) for s in range(size) for t in range(size)], total=None)

    def no_features(_: object) -> None:
        raise AssertionError("documents need no features")

    material = Material(corpus=tiny_corpus, reader=reader, split="test", seed=0, extract=no_features)  # type: ignore[arg-type]
    texts = {language: set[str]() for language in tiny_corpus.languages}
    for row in set(tiny_corpus.edges["test"][:, 0].tolist()):
        texts[reader.article(row).language].add(reader.article(row).text)
    changed = []
    for severity in (1, 3, 5):
        change = perturbation(KINDS["wrong_document"], severity, material)
        assert change.covers(groups).all()
        changed.append(set(change.changes(groups).nonzero()[0].tolist()))
    assert changed[0] <= changed[1] <= changed[2] == set(range(len(groups.number)))
    for row, story in zip(groups.source[:, 0].tolist(), groups.story[:, 0].tolist(), strict=True):
        article = reader.article(row)
        other = change.perturbed(article, story)  # type: ignore[attr-defined]
        assert other.text != article.text
        assert other.text in texts[article.language]
        assert other == change.perturbed(article, story)  # type: ignore[attr-defined]
        assert (other.summary, other.language) == (article.summary, article.language)


def test_the_command_tells_where_the_score_comes_from(
    tiny_corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = recipe_in(tmp_path / "run", tiny_corpus, "evaluation.num_beams=1", "evaluation.examples_per_kind=16")
    write_checkpoint(recipe, tiny_corpus)
    assert main(["evaluate", str(recipe.run), "--perturb", "sources", "--severities", "5"]) == 0
    told = capsys.readouterr().out
    assert "of ROUGE-1" in told
    assert "↓ the model ignores its document" in told  # random weights score nothing with any
    report = json.loads((recipe.run / "evaluation" / "test-robustness.json").read_text())
    assert set(report["sources"]) == {"document", "images"}
    assert report["sources"]["document"]["removed"]["examples"] == 32
    assert report["sources"]["images"]["removed"]["examples"] < 32  # some stories have no image
    rows = pq.read_table(recipe.run / "evaluation" / "test-robustness.parquet").to_pylist()
    assert {row["kind"] for row in rows} == {"wrong_document", "no_document", "wrong_images", "no_images"}
    page = Page(recipe.run / "evaluation" / "test-robustness.html")
    page.loads_nothing()
    assert "Where the score comes from" in [heading.content for heading in page.all("h2")]
