"""Divide a corpus into tasks of one shard each, and share them among worker processes."""

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from launcher.preparation.augmentation.augment import Augmenter
from shards.corpora import Source
from shards.errors import InputError
from shards.format.manifest import SPLITS
from shards.format.part_index import read_part
from shards.format.writer import index_path, shard_is_whole, write_shard
from shards.problems import Problems
from shards.variant_counts import VariantCounts
from trainer.evaluation.scoring.processes import begin_worker


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardTask:
    """One shard: stories `start` to `stop` - 1 of a split, and its number there."""

    split: str
    number: int
    start: int
    stop: int

    @property
    def stories(self) -> int:
        return self.stop - self.start

    def path(self, directory: Path) -> Path:
        return directory / f"{self.split}-{self.number:06d}.tar"


def shard_tasks(source: Source, stories_per_shard: int) -> list[ShardTask]:
    """Return all shards of the corpus, in order."""
    return [
        ShardTask(split=split, number=number, start=start, stop=min(start + stories_per_shard, source.stories(split)))
        for split in SPLITS
        for number, start in enumerate(range(0, source.stories(split), stories_per_shard))
    ]


def write_shards(
    source: Source,
    tasks: Sequence[ShardTask],
    directory: Path,
    *,
    workers: int,
    problems: Problems,
    advance: Callable[[int], None],
    augmenter: Augmenter | None = None,
) -> None:
    """Write those of `tasks` that are not whole, in `workers` processes. The bytes do not depend on their number.

    augmenter: adds variants to the stories of the training split.
    problems: gets what the shards counted, those included that were whole, and its limit ends the work.
    advance: called with the number of stories in each shard that is done.

    Raises: InputError as soon as there are too many problems, or when a worker dies.
    """
    whole = {task: _whole(path) for task in tasks if shard_is_whole(path := task.path(directory))}
    for task in _to_be_read_again(whole, problems):
        del whole[task]
    for task, of in whole.items():
        problems.add(of.problems)
        advance(task.stories)
    missing = [task for task in tasks if task not in whole]
    if workers == 1 or len(missing) < 2:
        for task in missing:
            problems.add(_write(source, augmenter, task, directory, problems.limit))
            advance(task.stories)
        return
    import torch  # seconds, which a refusal need not spend

    workers = min(workers, len(missing))
    threads = max(1, torch.get_num_threads() // workers)
    others = set(multiprocessing.active_children())
    # Spawned, for a fork copies the locks of threads that it does not copy.
    with ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin_worker,
        initargs=(source, augmenter, threads),
    ) as pool:
        futures = {pool.submit(_write_in_worker, task, directory, problems.limit): task for task in missing}
        finished = False
        try:
            for future in as_completed(futures):
                problems.add(future.result())
                advance(futures[future].stories)
            finished = True
        except BrokenProcessPool as error:
            raise InputError(
                "a worker process died, perhaps for lack of memory: the same command with fewer --workers goes on"
            ) from error
        finally:
            if not finished:
                # Whatever ended it, Ctrl-C too: the others are in the middle of shards that are no longer wanted.
                for process in set(multiprocessing.active_children()) - others:
                    process.terminate()
                pool.shutdown(cancel_futures=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Whole:
    """Hold what a shard that is whole has: its stories, and the problems that it counted."""

    stories: int
    problems: Problems


def _whole(path: Path) -> _Whole:
    part = read_part(index_path(path))
    return _Whole(stories=len(part["keys"]), problems=Problems.from_json(str(part["problems"])))


def _to_be_read_again(counted: Mapping[ShardTask, _Whole], problems: Problems) -> set[ShardTask]:
    """Return the whole shards of which something could not be read, where they all have too many problems or no story.

    That ended an earlier call, and the files may have been mended since, which no listing of them shows.
    """
    total = problems.total + sum(of.problems.total for of in counted.values())
    if (problems.limit is None or total <= problems.limit) and (
        not counted or any(of.stories for of in counted.values())
    ):
        return set()
    return {task for task, of in counted.items() if any(kind.startswith("unreadable ") for kind in of.problems.counts)}


#: A worker's copies of the source and of what augments it.
_worker_source: Source
_worker_augmenter: Augmenter | None


def _begin_worker(source: Source, augmenter: Augmenter | None, threads: int) -> None:
    import torch

    global _worker_source, _worker_augmenter
    _worker_source, _worker_augmenter = source, augmenter
    torch.set_num_threads(threads)
    begin_worker()


def _write_in_worker(task: ShardTask, directory: Path, limit: int | None) -> Problems:
    return _write(_worker_source, _worker_augmenter, task, directory, limit)


def _write(
    source: Source, augmenter: Augmenter | None, task: ShardTask, directory: Path, limit: int | None
) -> Problems:
    problems, counts = Problems(limit=limit), VariantCounts()
    stories = source.load(task.split, task.start, task.stop, problems)
    if augmenter is not None and task.split == "train":
        stories = augmenter.stories(stories, counts)
    write_shard(task.path(directory), stories, source.languages, problems, counts)
    return problems
