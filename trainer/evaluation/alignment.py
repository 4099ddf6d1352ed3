"""Measure how near the encoder puts documents of two languages that tell one story: ACROSS, Figure 6.

A document's state is the mean of its text encoder's states, before fusion. Of each direction, the source documents of
some stories are compared with the parallel documents in the target language: a matrix of cosines, a row a source
document, whose diagonal holds the parallel ones.

Shape suffixes: N stories of a direction, A articles, D the encoder's width.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.network import Network
from shards.arrays import Ints
from shards.batch.collate import Lengths, collate_articles
from shards.batch.reader import Reader
from shards.batch.spans import UnreadableError
from shards.batch.types import Batch, ImageRows
from shards.directions import Direction
from shards.format.index import Corpus
from shards.schema import Article
from shards.text.tokenizer import Tokenizer
from trainer.distributed import sum_over_ranks, together
from trainer.ranks import Ranks
from trainer.terminal.progress import stage

#: Stories of a direction, as in the paper; directions that are measured; of these, language pairs that are drawn.
STORIES, DIRECTIONS, DRAWN = 50, 12, 4
#: Where an encoder tells little apart, similarities differ in the fourth decimal.
_DECIMALS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Parallels:
    """Parallel documents of different stories, by row of the index. story_N: numbers of the stories."""

    direction: Direction
    source_N: Ints
    target_N: Ints
    story_N: Ints


@dataclass(frozen=True, kw_only=True, slots=True)
class Documents:
    """Mean encoder states of articles. row_A: of the index, sorted.  read_A: False where there is no state."""

    row_A: Ints
    state_AD: Tensor
    read_A: Tensor


class Texts:
    """Read documents alone into batches: nothing of their images."""

    def __init__(self, reader: Reader, tokenizer: Tokenizer, lengths: Lengths) -> None:
        self._reader, self._tokenizer, self._lengths = reader, tokenizer, lengths

    def __call__(self, rows: Sequence[int], languages: Sequence[str]) -> tuple[Batch | None, list[int]]:
        """Return a batch of the articles that can be read, and their places in `rows`. languages: the corpus'."""
        read: dict[int, Article] = {}
        for place, row in enumerate(rows):
            with contextlib.suppress(UnreadableError):
                read[place] = self._reader.article(row)
        if not read:
            return None, []
        articles = list(read.values())
        images = ImageRows.of([None] * len(articles), images=1, regions=1, feature_size=0)
        batch = collate_articles(articles, articles, images, self._tokenizer, self._lengths, languages=languages)
        return batch, list(read)


def choose_parallels(corpus: Corpus, split: str, directions: Sequence[Direction]) -> list[Parallels]:
    """Return the documents to compare, in those cross-lingual directions that have most stories, at least two.

    The choice depends on the corpus alone: runs are measured on the same documents. Directions share stories where they
    can, because an article is encoded once for all of them.
    """
    story_of, starts = corpus.articles["story"].astype(np.int64), corpus.directions[split]
    turn = np.random.default_rng(0).permutation(story_of.max(initial=-1) + 1)
    found: list[tuple[int, Parallels]] = []
    for source, target in directions:
        number = target * len(corpus.languages) + source
        edges = corpus.edges[split][starts[number] : starts[number + 1]].astype(np.int64)
        # An article may have variants: each story once.
        stories, first = np.unique(story_of[edges[:, 1]], return_index=True)
        if source == target or len(stories) < 2:
            continue
        order = np.argsort(turn[stories])[:STORIES]
        source_N, target_N = edges[first[order]].T
        parallels = Parallels(direction=(source, target), source_N=source_N, target_N=target_N, story_N=stories[order])
        found.append((len(stories), parallels))
    return [parallels for _, parallels in sorted(found, key=lambda one: -one[0])[:DIRECTIONS]]


def encode_documents(
    network: Network,
    corpus: Corpus,
    chosen: Sequence[Parallels],
    texts: Texts,
    *,
    batch_size: int,
    ranks: Ranks,
    device: torch.device,
    begin_batch: Callable[[], None],
) -> Documents:
    """Return the states of all documents of `chosen`, each encoded once, in float32 on the host.

    All ranks call this, with a network in eval mode, and get the same to the last bit whatever their number.
    begin_batch: called before every batch.
    """
    row_A = np.unique([row for of in chosen for side in (of.source_N, of.target_N) for row in side.tolist()])
    # Documents of like length lie together.
    order = np.argsort(-corpus.articles["text_length"][row_A.astype(np.int64)].astype(np.int64), kind="stable")
    batches = [order[begin : begin + batch_size] for begin in range(0, len(order), batch_size)]
    state_AD = torch.zeros(len(row_A), network.hidden_size, device=device)
    read_A = torch.zeros(len(row_A), device=device)
    begin_batch()
    with together(), torch.inference_mode(), stage("alignment", quiet=not ranks.is_first):
        for places in batches[ranks.rank :: ranks.world_size]:
            begin_batch()
            batch, there = texts(row_A[places].tolist(), corpus.languages)
            if batch is not None:
                place_B = torch.from_numpy(places[there]).to(device)
                state_AD[place_B] = network.document_means(batch)
                read_A[place_B] = 1
    # A document is on one rank and zeros are on the others: the sum is its state.
    return Documents(row_A=row_A, state_AD=sum_over_ranks(state_AD).cpu(), read_A=sum_over_ranks(read_A).cpu() > 0)


def alignment_report(corpus: Corpus, chosen: Sequence[Parallels], documents: Documents) -> dict[str, Any]:
    """Return the part `alignment` of an evaluation's report.

    directions: name -> `figures_of` its matrix and its count of stories.  matrices: name -> keys of the stories and
    similarities, of some.  unreadable: documents that are left out. The other keys are means over all source documents;
    they are missing where no direction has two stories.
    """
    keys = corpus.story_keys()
    directions: dict[str, dict[str, float]] = {}
    matrices: dict[str, dict[str, Any]] = {}
    drawn: set[frozenset[int]] = set()  # the matrix of the opposite direction is the same, transposed
    for parallels in chosen:
        source_N, target_N = (np.searchsorted(documents.row_A, of) for of in (parallels.source_N, parallels.target_N))
        both_N = (documents.read_A[source_N] & documents.read_A[target_N]).numpy()
        if both_N.sum() < 2:
            continue
        similarity_NN = cosines(documents.state_AD[source_N[both_N]], documents.state_AD[target_N[both_N]])
        name = ">".join(corpus.languages[side] for side in parallels.direction)
        directions[name] = {"stories": len(similarity_NN), **figures_of(similarity_NN)}
        if len(drawn) < DRAWN and frozenset(parallels.direction) not in drawn:
            drawn.add(frozenset(parallels.direction))
            matrices[name] = {
                "stories": [keys[story] for story in parallels.story_N[both_N].tolist()],
                "similarity": [[round(value, _DECIMALS) for value in row] for row in similarity_NN.tolist()],
            }
    return {
        **_over_documents(directions),
        "unreadable": int((~documents.read_A).sum()),
        "directions": directions,
        "matrices": matrices,
    }


def cosines(source_ND: Tensor, target_ND: Tensor) -> Tensor:
    """Return the cosine of every source state with every target state, (N, N) float64."""
    return F.normalize(source_ND.double(), dim=-1) @ F.normalize(target_ND.double(), dim=-1).T


def figures_of(similarity_NN: Tensor) -> dict[str, float]:
    """Return recall@1, what chance gives, and the mean similarities of pairs and of others, of at least two documents.

    recall1: the share of rows whose own pair, on the diagonal, is more similar than any other: a tie does not count.
    """
    size, own_N = len(similarity_NN), similarity_NN.diagonal()
    others_NN = similarity_NN.masked_fill(torch.eye(size, dtype=torch.bool), -torch.inf)
    return {
        "recall1": float((own_N > others_NN.amax(dim=1)).double().mean()),
        "chance": 1 / size,
        "pairs": float(own_N.mean()),
        "others": float((similarity_NN.sum() - own_N.sum()) / (size * (size - 1))),
    }


def _over_documents(directions: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return the means over all source documents."""
    documents = sum(of["stories"] for of in directions.values())
    names = ("recall1", "chance", "pairs", "others") if directions else ()
    return {name: sum(of["stories"] * of[name] for of in directions.values()) / documents for name in names}
