"""Who computes which group: the same examples in the same order for any ranks, threads and micro-batches."""

import threading
from itertools import islice
from typing import Any

import pytest
import torch

from shards.batch.loader import Loader
from shards.batch.types import Batch
from shards.errors import InputError
from shards.format.index import Corpus
from shards.stream.mixture import MixtureConfig
from shards.stream.partition import Partition
from shards.stream.sampler import Groups, Sampler
from tests.support.tiny import tiny_collator

G, GROUPS_PER_STEP, STEPS = 4, 8, 3


def loader(corpus: Corpus, *, rank: int, ranks: int, micro: int, threads: int, first_step: int = 0) -> Loader:
    return Loader(
        Sampler(corpus, split="train", mixture=MixtureConfig(), seed=5, group_size=G),
        tiny_collator(corpus),
        Partition(groups_per_step=GROUPS_PER_STEP, groups_per_micro_batch=micro, rank=rank, world_size=ranks),
        first_step=first_step,
        threads=threads,
        prefetch=3,
    )


def rows_of(batch: Batch) -> list[dict[str, Any]]:
    """The rows of a batch without the padding, which depends on the micro-batch."""
    rows = []
    for row in range(len(batch)):
        masked = {
            name: getattr(batch, f"{name}_ids_B{letter}")[row][getattr(batch, f"{name}_mask_B{letter}")[row]].tolist()
            for name, letter in (("source", "M"), ("target", "M"), ("summary", "N"))
        }
        names = ("start", "cross", "weight", "source_language", "target_language", "story", "group", "slot")
        scalars = {name: getattr(batch, f"{name}_B")[row].item() for name in names}
        images = {
            "roi": batch.roi_BIRV[row].numpy().tobytes(),
            "boxes": batch.boxes_BIR4[row].numpy().tobytes(),
            "images": batch.image_mask_BI[row].tolist(),
            "image_number": batch.images_B[row].item(),
        }
        rows.append(masked | scalars | images)
    return rows


def steps_of(
    corpus: Corpus, *, ranks: int, micro: int, threads: int, first_step: int = 0
) -> list[list[dict[str, Any]]]:
    """Every step's rows in slot order, from the loaders of all ranks."""
    steps: list[list[dict[str, Any]]] = [[] for _ in range(STEPS)]
    for rank in range(ranks):
        one = loader(corpus, rank=rank, ranks=ranks, micro=micro, threads=threads, first_step=first_step)
        for step in range(STEPS):
            for batch in islice(one, GROUPS_PER_STEP // (micro * ranks)):
                steps[step] += rows_of(batch)
        one.close()
    return [sorted(step, key=lambda row: row["slot"]) for step in steps]


@pytest.fixture(scope="module")
def plain(tiny_corpus: Corpus) -> list[list[dict[str, Any]]]:
    return steps_of(tiny_corpus, ranks=1, micro=GROUPS_PER_STEP, threads=0)


@pytest.mark.parametrize(
    ("ranks", "micro", "threads"),
    [(1, 8, 1), (1, 8, 4), (1, 1, 0), (1, 2, 3), (2, 4, 0), (2, 4, 2), (2, 1, 4), (4, 2, 0), (4, 2, 1), (4, 1, 4)],
)
def test_the_examples_of_a_step_do_not_depend_on_who_reads_them(
    tiny_corpus: Corpus, plain: list[list[dict[str, Any]]], ranks: int, micro: int, threads: int
) -> None:
    assert steps_of(tiny_corpus, ranks=ranks, micro=micro, threads=threads) == plain


def test_a_step_is_the_next_slots_and_nothing_else(plain: list[list[dict[str, Any]]]) -> None:
    size = GROUPS_PER_STEP * G
    for number, step in enumerate(plain):
        assert [row["slot"] for row in step] == list(range(number * size, (number + 1) * size))
        assert [row["group"] for row in step] == [row["slot"] // G for row in step]


def test_a_loader_made_anew_at_a_step_goes_on_from_there(tiny_corpus: Corpus) -> None:
    one = loader(tiny_corpus, rank=1, ranks=2, micro=2, threads=2)
    batches = list(islice(one, 6))
    one.close()
    again = loader(tiny_corpus, rank=1, ranks=2, micro=2, threads=0, first_step=2)
    for expected in batches[4:]:
        assert rows_of(next(again)) == rows_of(expected)


def test_ranks_share_the_groups_and_leave_none() -> None:
    for ranks, micro in ((1, 1), (2, 2), (3, 4), (4, 3)):
        seen = []
        for rank in range(ranks):
            part = Partition(groups_per_step=24, groups_per_micro_batch=micro, rank=rank, world_size=ranks)
            for micro_step in range(3 * part.micro_steps):
                first = part.first_group(micro_step)
                seen += range(first, first + micro)
        assert sorted(seen) == list(range(72))


def test_a_step_that_does_not_divide_names_the_multiple() -> None:
    with pytest.raises(InputError, match="world sizes that fit are 1, 2, 4, 8; or make it a multiple of 6"):
        Partition(groups_per_step=16, groups_per_micro_batch=2, rank=0, world_size=3)
    with pytest.raises(InputError, match="micro-batch: make it a multiple of 6"):
        Partition(groups_per_step=16, groups_per_micro_batch=3, rank=0, world_size=2)


def test_what_breaks_in_a_thread_reaches_the_caller_at_its_place(tiny_corpus: Corpus) -> None:
    """Bad data is never skipped: the batches before it come, then its error, in every thread count."""
    real = tiny_collator(tiny_corpus)

    def breaks_at_group_8(groups: Groups) -> Batch:
        if 8 in groups.number:
            raise InputError("damaged")
        return real(groups)

    for threads in (0, 3):
        one = Loader(
            Sampler(tiny_corpus, split="train", mixture=MixtureConfig(), seed=5, group_size=G),
            breaks_at_group_8,
            Partition(groups_per_step=8, groups_per_micro_batch=4, rank=0, world_size=1),
            first_step=0,
            threads=threads,
            prefetch=4,
        )
        assert [int(next(one).group_B[0]) for _ in range(2)] == [0, 4]
        with pytest.raises(InputError, match="damaged"):
            next(one)
        one.close()


@pytest.mark.parametrize("threads", [0, 3])
def test_what_breaks_in_the_sampler_reaches_the_caller_at_its_place(
    tiny_corpus: Corpus, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    real, callers = Sampler.groups, set()

    def breaks_at_group_4(self: Sampler, start: int, count: int) -> Groups:
        callers.add(threading.current_thread())
        if start == 4:
            raise InputError("the index is damaged")
        return real(self, start, count)

    monkeypatch.setattr(Sampler, "groups", breaks_at_group_4)
    one = loader(tiny_corpus, rank=0, ranks=1, micro=2, threads=threads)
    assert [int(next(one).group_B[0]) for _ in range(2)] == [0, 2]
    with pytest.raises(InputError, match="index is damaged"):
        next(one)
    one.close()
    assert len(callers) == 1
    assert (threading.current_thread() in callers) == (threads == 0)  # a new block is no wait of the caller's


def test_closing_leaves_no_thread(tiny_corpus: Corpus) -> None:
    before = set(threading.enumerate())
    one = loader(tiny_corpus, rank=0, ranks=1, micro=2, threads=4)
    next(one)
    assert set(threading.enumerate()) - before
    one.close()
    assert set(threading.enumerate()) == before


def test_batches_are_the_callers_own(tiny_corpus: Corpus) -> None:
    """Prefetched buffers are not reused under a batch that is still in use."""
    one = loader(tiny_corpus, rank=0, ranks=1, micro=4, threads=2)
    first = next(one)
    copy = first.roi_BIRV.clone()
    for _ in range(6):
        next(one)
    one.close()
    assert torch.equal(first.roi_BIRV, copy)
