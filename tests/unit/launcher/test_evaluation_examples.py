"""Test the examples on an evaluation's page: which are chosen, and the images that they show."""

import dataclasses
import io
import random
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import escape
from PIL import Image

from launcher.evaluation_page import build_page
from launcher.examples import choose, read
from launcher.pages.evaluation import Place
from launcher.pages.templates import visible
from shards.batch.reader import Reader, ReaderConfig
from shards.format.merge import finish_corpus
from shards.format.stores import open_storage
from shards.format.writer import encode_key, write_shard
from tests.support.pages import Page
from tests.support.strange import KEYS, LANGUAGES, image_file, strange_stories
from tests.unit.launcher.test_evaluation_page import predictions, report_of
from trainer.evaluation.predictions import Prediction
from trainer.evaluation.scoring.measures import MEASURES


def test_the_best_the_middle_and_the_worst_are_of_different_stories() -> None:
    rows = predictions(("english", "french", "urdu"), 6)
    chosen = choose(rows, lambda row: row.target, 0)
    assert [(group, place) for group, place, _ in chosen] == [
        (group, place) for group in ("english", "french", "urdu") for place in ("best", "middle", "worst", "drawn")
    ]
    for group in ("english", "french", "urdu"):
        of = [row for name, _, row in chosen if name == group]
        assert len({row.story for row in of}) == 4
        best, middle, worst = (row.scores["rougeL"] or 0 for row in of[:3])
        assert best > middle > worst


@settings(max_examples=25)
@given(st.randoms(use_true_random=False), st.integers(0, 5), st.integers(1, 3))
def test_the_choice_depends_on_the_rows_and_the_seed_alone(order: random.Random, seed: int, each: int) -> None:
    rows = predictions(("english", "urdu"), each)
    shuffled = list(rows)
    order.shuffle(shuffled)
    assert choose(shuffled, lambda row: row.target, seed) == choose(rows, lambda row: row.target, seed)


def of_story(key: str, source: str, target: str) -> tuple[str, Place, Prediction]:
    scores: dict[str, float | None] = dict.fromkeys(MEASURES, 1.0)
    texts = {"prediction": "x", "reference": "y"}
    row = Prediction(
        number=0, story=encode_key(key), source=source, target=target, language=None, scores=scores, **texts
    )
    return "MXLS", "best", row


def test_an_example_shows_the_images_that_the_network_saw(tmp_path: Path) -> None:
    stories = strange_stories(pixels=True)
    large = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (300, 600, 3), np.uint8)
    Image.fromarray(noise).save(large, "PNG")
    shared = stories[4].shared_images
    assert shared is not None
    stories[4] = dataclasses.replace(
        stories[4], shared_images=dataclasses.replace(shared, pixels=(large.getvalue(), image_file(1)))
    )
    write_shard(tmp_path / "test-000000.tar", stories, LANGUAGES)
    corpus = finish_corpus(tmp_path, name="strange", languages=LANGUAGES, provenance={})
    reader = Reader(corpus, ReaderConfig(io_threads=0), open_storage(corpus))
    own = stories[2].images
    assert own is not None
    chosen = [
        of_story(KEYS[2], "english", "chinese_simplified"),
        of_story(KEYS[2], "urdu", "english"),  # which has none
        of_story(KEYS[4], "urdu", "english"),
        of_story(KEYS[7], "urdu", "english"),
    ]
    target, without, *_ = read(chosen, corpus, reader, 2)
    assert target.images is not None
    assert target.images.pixels == (own["english"].pixels or ())[:2]
    assert without.images is None
    target, source, big, none = read(chosen, corpus, reader, 2, "target_or_source")
    for example, language in ((target, "chinese_simplified"), (source, "english")):
        assert example.images is not None
        assert example.images.pixels == (own[language].pixels or ())[:2]
    assert target.document == next(a.text for a in stories[2].articles if a.language == "english")
    assert target.name == KEYS[2]
    assert big.images is not None
    assert big.images.pixels is not None
    assert big.sizes == ((440, 220), Image.open(io.BytesIO(image_file(1))).size)
    assert len(big.images.pixels[0]) < len(large.getvalue())
    assert none.images is None
    page = tmp_path / "page.html"
    rows = [row for _, _, row in chosen]
    report = report_of(rows, {})
    page.write_text(build_page("run", report, rows, [target, source, big, none]), encoding="utf-8")
    Page(page).loads_nothing()
    assert len(Page(page).all("image")) == 2 + 2 + 2

    data = bytearray((tmp_path / "test-000000.tar").read_bytes())
    data[data.index((own["english"].pixels or ())[0]) + 40] ^= 1
    (tmp_path / "test-000000.tar").write_bytes(data)
    torn = read(chosen[1:2], corpus, reader, 2, "target_or_source")[0]
    assert torn.images is None
    assert torn.problem is not None
    assert "image 1 of" in torn.problem
    source_page = build_page("run", report, rows, [torn])
    assert escape(visible(torn.problem)) in source_page
    assert escape(visible(str(torn.document))) in source_page
    reader.close()
