"""Alignment of an evaluation: which documents are compared, their states on any number of ranks, and the report."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from models.network import Network
from shards.batch.collate import Lengths
from shards.batch.reader import Reader, ReaderConfig
from shards.directions import Direction, parse_directions
from shards.format.index import Corpus, open_corpus
from shards.text.tokenizer import Tokenizer, open_tokenizer
from tests.support.checkpoints import moved, recipe_in
from trainer.evaluation import alignment
from trainer.evaluation.alignment import (
    Documents,
    Parallels,
    Texts,
    alignment_report,
    choose_parallels,
    cosines,
    encode_documents,
    figures_of,
)
from trainer.evaluation.describe import describe_alignment
from trainer.network import build_network
from trainer.ranks import Ranks

LENGTHS = Lengths(document=32, summary=12)


def directions_of(corpus: Corpus, text: str = "all") -> list[Direction]:
    return parse_directions(text, corpus.languages)


@pytest.fixture(scope="module")
def tokenizer(tiny_corpus: Corpus) -> Tokenizer:
    return open_tokenizer(tiny_corpus.directory / "tokenizer")


@pytest.fixture(scope="module", params=["mt5", "mbart"])
def network(
    tiny_corpus: Corpus, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Network:
    more = ["network.text.architecture=mbart", "network.text.d_kv=", "network.text.max_position_embeddings=64"]
    run = tmp_path_factory.mktemp("network") / "run"
    recipe = recipe_in(run, tiny_corpus, *(more if request.param == "mbart" else ()))
    return moved(build_network(recipe, tokenizer)).product.eval()


@pytest.fixture
def reader(tiny_corpus: Corpus) -> Iterator[Reader]:
    opened = Reader(tiny_corpus, ReaderConfig(io_threads=0))
    yield opened
    opened.close()


def encode(
    network: Network, corpus: Corpus, chosen: list[Parallels], reader: Reader, tokenizer: Tokenizer, ranks: Ranks
) -> Documents:
    return encode_documents(
        network,
        corpus,
        chosen,
        Texts(reader, tokenizer, LENGTHS),
        batch_size=5,
        ranks=ranks,
        device=torch.device("cpu"),
        begin_batch=lambda: None,
    )


def test_rows_are_parallel_documents_of_different_stories_of_the_split(tiny_corpus: Corpus) -> None:
    chosen = choose_parallels(tiny_corpus, "test", directions_of(tiny_corpus))
    articles, edges = tiny_corpus.articles, set(map(tuple, tiny_corpus.edges["test"].tolist()))
    assert len(chosen) == 12
    for of in chosen:
        source, target = of.direction
        assert source != target
        assert set(zip(of.source_N.tolist(), of.target_N.tolist(), strict=True)) <= edges
        assert (articles["language"][of.source_N] == source).all()
        assert (articles["language"][of.target_N] == target).all()
        assert (articles["story"][of.source_N] == of.story_N).all()
        assert (articles["story"][of.target_N] == of.story_N).all()
        assert len(set(of.story_N.tolist())) == len(of.story_N) >= 2


def test_the_sample_is_the_same_each_time_and_bounded(tiny_corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = choose_parallels(tiny_corpus, "train", directions_of(tiny_corpus))
    assert max(len(of.story_N) for of in whole) == alignment.STORIES
    monkeypatch.setattr(alignment, "STORIES", 6)
    monkeypatch.setattr(alignment, "DIRECTIONS", 5)
    few = choose_parallels(tiny_corpus, "train", directions_of(tiny_corpus))
    assert [of.direction for of in few] == [of.direction for of in whole[:5]]
    for some, all_of in zip(few, whole, strict=False):
        assert some.story_N.tolist() == all_of.story_N[:6].tolist()
    counts_TS = tiny_corpus.direction_counts("train")
    measured = [counts_TS[target, source] for source, target in (of.direction for of in few)]
    assert measured == sorted((n for (s, t), n in directed(counts_TS) if s != t), reverse=True)[:5]
    (alone,) = choose_parallels(tiny_corpus, "train", directions_of(tiny_corpus, "hi-ur"))
    same = next(of for of in whole if of.direction == alone.direction)
    assert alone.story_N.tolist() == same.story_N[:6].tolist(), "whatever else is evaluated"


def directed(counts_TS: np.ndarray) -> list[tuple[Direction, int]]:
    return [((s, t), int(counts_TS[t, s])) for t in range(len(counts_TS)) for s in range(len(counts_TS))]


def test_monolingual_directions_have_no_alignment(tiny_corpus: Corpus) -> None:
    chosen = choose_parallels(tiny_corpus, "test", directions_of(tiny_corpus, "mms"))
    nothing = Documents(row_A=np.zeros(0, np.int64), state_AD=torch.zeros(0, 4), read_A=torch.zeros(0) > 0)
    report = alignment_report(tiny_corpus, chosen, nothing)
    assert report == {"unreadable": 0, "directions": {}, "matrices": {}}
    assert describe_alignment({"alignment": report}) is None
    assert describe_alignment({}) is None, "an earlier release's"


def test_states_are_those_of_transformers_encoder_a_document_at_a_time(
    tiny_corpus: Corpus, network: Network, reader: Reader, tokenizer: Tokenizer, alone: Ranks
) -> None:
    chosen = choose_parallels(tiny_corpus, "test", directions_of(tiny_corpus))
    documents = encode(network, tiny_corpus, chosen, reader, tokenizer, alone)
    rows = documents.row_A.tolist()
    assert rows == sorted({row for of in chosen for row in (*of.source_N.tolist(), *of.target_N.tolist())})
    assert documents.read_A.all()
    alone_AD = torch.empty_like(documents.state_AD)
    for place, row in enumerate(rows):
        article = reader.article(row)
        ids = torch.tensor([tokenizer.encode(article.text, LENGTHS.document, article.language)])
        with torch.inference_mode():
            alone_AD[place] = network.backbone.model.encoder(input_ids=ids).last_hidden_state[0].mean(dim=0)
    torch.testing.assert_close(documents.state_AD, alone_AD, rtol=1e-4, atol=1e-5)

    report, names = alignment_report(tiny_corpus, chosen, documents), tiny_corpus.languages
    for of in chosen:
        source_ND, target_ND = (alone_AD[np.searchsorted(rows, side)] for side in (of.source_N, of.target_N))
        expected = figures_of(cosines(source_ND, target_ND))
        found = report["directions"][">".join(names[side] for side in of.direction)]
        assert found == pytest.approx({"stories": len(of.story_N), **expected}, abs=1e-4)
    every = report["directions"].values()
    total = sum(of["stories"] for of in every)
    assert report["recall1"] == pytest.approx(sum(of["stories"] * of["recall1"] for of in every) / total)
    assert report["chance"] == pytest.approx(len(every) / total)
    assert len(report["matrices"]) == 4
    assert len({frozenset(name.split(">")) for name in report["matrices"]}) == 4, "no two of the same languages"
    keys = tiny_corpus.story_keys()
    for name, matrix in report["matrices"].items():
        of = next(of for of in chosen if ">".join(names[side] for side in of.direction) == name)
        assert matrix["stories"] == [keys[story] for story in of.story_N.tolist()]
        expected = cosines(*(alone_AD[np.searchsorted(rows, side)] for side in (of.source_N, of.target_N)))
        torch.testing.assert_close(torch.tensor(matrix["similarity"], dtype=torch.float64), expected, rtol=0, atol=1e-4)


def test_ranks_share_the_documents_and_their_sum_is_one_rank_s(
    tiny_corpus: Corpus, network: Network, reader: Reader, tokenizer: Tokenizer, alone: Ranks
) -> None:
    chosen = choose_parallels(tiny_corpus, "test", directions_of(tiny_corpus))
    whole = encode(network, tiny_corpus, chosen, reader, tokenizer, alone)
    parts = [
        encode(network, tiny_corpus, chosen, reader, tokenizer, Ranks(rank=rank, local_rank=rank, world_size=3))
        for rank in range(3)
    ]
    assert (sum(part.read_A.long() for part in parts) == 1).all(), "each document on one rank"
    assert torch.equal(sum(part.state_AD for part in parts), whole.state_AD), "to the last bit"


def test_a_document_that_cannot_be_read_is_left_out_and_counted(
    tiny_corpus: Corpus, network: Network, tokenizer: Tokenizer, alone: Ranks, tmp_path: Path
) -> None:
    chosen = choose_parallels(tiny_corpus, "test", directions_of(tiny_corpus))
    shutil.copytree(tiny_corpus.directory, tmp_path / "corpus")
    of = chosen[0]
    row = int(of.target_N[1])
    with open(tmp_path / "corpus" / "text.bin", "r+b") as arena:
        arena.seek(int(tiny_corpus.articles["text_offset"][row]) + 2)
        arena.write(b"\xff\xff")
    corpus = open_corpus(tmp_path / "corpus")
    reader = Reader(corpus, ReaderConfig(io_threads=0))
    report = alignment_report(corpus, chosen, encode(network, corpus, chosen, reader, tokenizer, alone))
    reader.close()
    assert report["unreadable"] == 1
    name = ">".join(corpus.languages[side] for side in of.direction)
    assert report["directions"][name]["stories"] == len(of.story_N) - 1
    assert corpus.story_keys()[int(of.story_N[1])] not in report["matrices"][name]["stories"]
    assert str(describe_alignment({"alignment": report})).endswith("; 1 unreadable")
