"""Choose held-out examples, share them among the ranks, and measure a network's NLL on them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from models.network import Network
from models.objectives.base import Objective
from models.sharing import Text
from shards.arrays import Ints
from shards.batch.collate import Collator
from shards.batch.types import StreamBatch
from shards.directions import Direction, by_kind
from shards.errors import InputError
from shards.format.index import Corpus
from shards.stream.sampler import Groups
from trainer.distributed import raise_together, sum_over_ranks
from trainer.ranks import Ranks


def choose_examples(corpus: Corpus, split: str, directions: Sequence[Direction], *, total: int | None) -> Groups:
    """Return examples of a split as groups of one: `total` in all (None: every one), none twice.

    Directions take turns, so the total is spread evenly over them. The choice depends on the corpus alone: runs that
    differ in objective, seed or world size are measured on the same examples.
    """
    starts = corpus.directions[split]
    turns, edges = [], []
    for source, target in directions:
        number = target * len(corpus.languages) + source
        size = int(starts[number + 1] - starts[number])
        order = np.random.default_rng([0, number]).permutation(size)
        turns.append(np.arange(len(order)))
        edges.append(starts[number] + order)
    place = np.random.default_rng(0).permutation(len(directions))
    turn_of = np.concatenate([np.zeros(0, np.int64), *turns])
    place_of = np.concatenate([np.zeros(0, np.int64), *(np.full(len(t), p) for t, p in zip(turns, place, strict=True))])
    chosen = np.concatenate([np.zeros(0, np.int64), *edges])[np.lexsort((place_of, turn_of))][:total]
    pairs = corpus.edges[split][chosen].astype(np.int64)
    return Groups(
        number=np.arange(len(chosen)),
        source=pairs[:, :1],
        target=pairs[:, 1:],
        story=corpus.articles["story"][pairs[:, 1:]].astype(np.int64),
    )


def share_of_rank(groups: Groups, ranks: Ranks) -> Groups:
    """Return every world_size-th group: each example is on exactly one rank."""
    return take_groups(groups, slice(ranks.rank, None, ranks.world_size))


def in_batches(groups: Groups, collate: Collator, batch_size: int) -> Iterator[StreamBatch]:
    """Yield batches of at most `batch_size` groups, in order."""
    for begin in range(0, len(groups.number), batch_size):
        yield collate(take_groups(groups, slice(begin, begin + batch_size)))


def concatenate(parts: Sequence[Groups]) -> Groups:
    """Return the groups of all parts, numbered anew."""
    return Groups(
        number=np.arange(sum(len(part.number) for part in parts)),
        source=np.concatenate([part.source for part in parts]),
        target=np.concatenate([part.target for part in parts]),
        story=np.concatenate([part.story for part in parts]),
    )


def take_groups(groups: Groups, rows: slice | Ints) -> Groups:
    """Return some of the groups, by place."""
    return Groups(
        number=groups.number[rows], source=groups.source[rows], target=groups.target[rows], story=groups.story[rows]
    )


class HeldOut:
    """A fixed sample of a held-out split, evenly over the directions of each kind.

    groups: by kind, for those of which the split has examples.
    """

    def __init__(
        self,
        corpus: Corpus,
        collate: Collator,
        *,
        split: str,
        directions: Sequence[Direction],
        examples_per_kind: int,
        batch_size: int,
        ranks: Ranks,
    ) -> None:
        self._collate, self._batch_size, self._languages = collate, batch_size, len(corpus.languages)
        chosen = {
            kind: choose_examples(corpus, split, of_kind, total=examples_per_kind)
            for kind, of_kind in by_kind(directions).items()
        }
        self.groups = {kind: groups for kind, groups in chosen.items() if len(groups.number)}
        self._mine = {kind: share_of_rank(groups, ranks) for kind, groups in self.groups.items()}

    def nll(
        self, network: Network, device: torch.device, begin_batch: Callable[[], None], reads: Text = "source"
    ) -> dict[str, "HeldOutNLL"]:
        """Return the NLL by kind over all ranks (all ranks call this). begin_batch: called before every batch.

        reads: what summaries are written from, as of `Network.row_nll`.
        """
        return {
            kind: mean_nll(
                network,
                in_batches(groups, self._collate, self._batch_size),
                device,
                begin_batch,
                languages=self._languages,
                reads=reads,
            )
            for kind, groups in self._mine.items()
        }

    def measure(self, objective: Objective, device: torch.device, begin_batch: Callable[[], None]) -> dict[str, float]:
        """Return the objective's own measures by name, on a batch of every rank's share of its kind (all call this).

        Those without a count are left out. Dropout draws the same masks at every call, so that steps compare.
        """
        names = objective.measured
        if not names:
            return {}
        sums = torch.zeros(len(names), 2, dtype=torch.float64, device=device)
        problem: InputError | None = None
        begin_batch()
        try:
            mine = self._mine.get(objective.measured_kind)
            batches = () if mine is None else in_batches(mine, self._collate, self._batch_size)
            if (batch := next(iter(batches), None)) is not None:
                with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
                    torch.manual_seed(0)
                    found = objective.measure(batch)
                sums += torch.stack([found[name] for name in names])
        except InputError as error:
            problem = error
        raise_together(problem)
        totals = sum_over_ranks(sums.flatten()).view(-1, 2).tolist()
        return {name: total / count for name, (total, count) in zip(names, totals, strict=True) if count}


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldOutNLL:
    """The NLL of a sample.

    nll: nats a target token, over the readable examples.  unreadable: the count of the others.
    by_target: nll by target language (L,), NaN for those without an example.
    """

    nll: float
    unreadable: int
    by_target: tuple[float, ...]


def mean_nll(
    network: Network,
    batches: Iterable[StreamBatch],
    device: torch.device,
    begin_batch: Callable[[], None],
    *,
    languages: int,
    reads: Text = "source",
) -> HeldOutNLL:
    """Return the NLL over all ranks' batches (all ranks call this, with any number of batches).

    languages: the corpus' number of languages.  reads: as of `Network.row_nll`.
    """
    training = network.training
    network.eval()
    # Nats by target language, tokens by target language, unreadable examples.
    sums = torch.zeros(2 * languages + 1, dtype=torch.float64, device=device)
    problem: InputError | None = None
    try:
        with torch.inference_mode():
            begin_batch()
            for batch in batches:
                begin_batch()
                nll_B, tokens_B = network.row_nll(batch, reads)
                target_B = batch.target_language_B.to(device)
                sums.index_add_(0, target_B, nll_B.double())
                sums.index_add_(0, target_B + languages, tokens_B.double())
                sums[-1] += len(batch.unreadable)
    except InputError as error:
        problem = error
    raise_together(problem)
    network.train(training)
    *values, unreadable = sum_over_ranks(sums).tolist()
    nats, tokens = values[:languages], values[languages:]
    return HeldOutNLL(
        nll=_mean(sum(nats), sum(tokens)),
        unreadable=int(unreadable),
        by_target=tuple(_mean(of, count) for of, count in zip(nats, tokens, strict=True)),
    )


def _mean(nats: float, tokens: float) -> float:
    return nats / tokens if tokens else float("nan")
