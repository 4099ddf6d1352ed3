"""Make a corpus of one split of published files, to evaluate on: it has no tokenizer, and lies nowhere afterwards."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from launcher.preparation.report import report_problems
from launcher.preparation.shards import shard_tasks, write_shards
from shards.corpora import open_source
from shards.corpora.npm import fetch
from shards.errors import InputError
from shards.files.caches import default_cache
from shards.format.index import Corpus, open_corpus
from shards.format.merge import finish_corpus, shard_problems
from shards.problems import Problems
from trainer.terminal.progress import stage

#: Bad input to bear with, and stories a shard, as of `d2tv prepare`.
_MOST_PROBLEMS, _STORIES_PER_SHARD = 1000, 64


@contextmanager
def held_out_corpus(name: str, data: Path, split: str, *, pixels: bool) -> Iterator[Corpus]:
    """Yield the corpus in `data` if it is one that was prepared of the source `name`, else one of a split of its files.

    pixels: that one keeps the images.

    Raises: InputError for another corpus, and as `open_source`; where the split has no story; for too many problems.
    """
    if (data / "manifest.json").is_file():
        corpus = open_corpus(data)
        if corpus.manifest["name"] != name:
            raise InputError(f"{data} is a corpus of {corpus.manifest['name']}: name one of {name} with --data")
        yield corpus
        return
    with tempfile.TemporaryDirectory(prefix="d2tv-") as folder:
        yield _made(name, data, split, Path(folder), pixels)


def _made(name: str, data: Path, split: str, folder: Path, pixels: bool) -> Corpus:
    directory, work = folder / "corpus", folder / "work"
    directory.mkdir()
    work.mkdir()
    cache = default_cache()
    with stage(f"reading {name}"):
        source = open_source(name, cache=cache, work=work, data=data, pixels=pixels, max_problems=_MOST_PROBLEMS)
    tasks = [task for task in shard_tasks(source, _STORIES_PER_SHARD) if task.split == split]
    problems = source.problems()
    if not tasks:
        raise InputError(f"{data} has no {split} examples of {name}: {problems.summary(information=True) or 'no file'}")
    for package in source.packages:
        fetch(package, cache)
    found = Problems(limit=_MOST_PROBLEMS)
    with stage("features and shards", sum(task.stories for task in tasks)) as progress:
        write_shards(source, tasks, directory, workers=1, problems=found, advance=progress.advance)
    problems.add(shard_problems(directory))
    report_problems(problems)
    provenance = {**source.provenance(), "problems": json.loads(problems.to_json())}
    return finish_corpus(directory, name=name, languages=source.languages, provenance=provenance)
