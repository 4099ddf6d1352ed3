"""`d2tv prepare`: a source -> a finished corpus directory, in stages that a kill cannot confuse.

Everything is written under `<out>.partial`: shards one by one, each whole or not there, then the
tokenizer, then the index and the manifest; the directory takes its name when it is complete.
"""

import json
import os
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from shards.corpora import Source, open_source, packages_of
from shards.corpora.npm import fetch
from shards.errors import InputError
from shards.files import write_atomically
from shards.index import SPLITS, Corpus, open_corpus
from shards.merge import finish_corpus
from shards.tokenizer import train_sentencepiece
from shards.writer import shard_is_whole, split_of, write_shard
from trainer.console import progress_bar


@dataclass(frozen=True, kw_only=True, slots=True)
class PrepareSettings:
    """What shapes a corpus besides its source. `stories` limits it, for trials."""

    source: str
    vocab_size: int = 1500
    character_coverage: float = 0.98  # rare Han characters are spelled in bytes
    stories_per_shard: int = 64
    stories: int | None = None


#: What the shards do not depend on: another vocabulary does not cost the features again.
_TOKENIZER_SETTINGS = ("vocab_size", "character_coverage")


def prepare(settings: PrepareSettings, out: Path, cache: Path) -> Corpus:
    """Build the corpus, or the rest of it, or nothing where it is complete. Raises `InputError`."""
    console = Console(soft_wrap=True, highlight=False)
    if (out / "manifest.json").is_file():
        corpus = open_corpus(out)
        if corpus.manifest["provenance"].get("settings") != asdict(settings):
            raise InputError(f"{out} was prepared with other settings: remove it, or choose another --out")
        console.print(f"{out}: complete, {_summary(corpus)}", markup=False)
        return corpus
    if out.exists() and any(out.iterdir()):
        raise InputError(f"{out} exists and is not a corpus: choose another --out")
    work = out.with_name(out.name + ".partial")
    _begin(work, settings, console)
    _download(settings.source, cache, console)
    source = open_source(settings.source, cache)
    keys = source.keys()[: settings.stories]
    _write_shards(source, keys, work, settings.stories_per_shard)
    _train_tokenizer(work, source.languages, settings, console)
    corpus = finish_corpus(
        work,
        name=source.name,
        languages=source.languages,
        provenance={**source.provenance(), "settings": asdict(settings)},
    )
    if out.exists():
        out.rmdir()
    os.replace(work, out)
    console.print(f"{out}: {_summary(corpus)}", markup=False)
    return open_corpus(out)


def _download(source: str, cache: Path, console: Console) -> None:
    """Fetch all that the source will need, so that what follows needs no network. What is there is only verified."""
    packages = packages_of(source)
    console.print(f"packages of the {source} corpus, kept in {cache}", markup=False)
    with progress_bar() as bar:
        for package in bar.track(packages, description="downloads"):
            fetch(package, cache)


def _begin(work: Path, settings: PrepareSettings, console: Console) -> None:
    """Go on in a directory that an earlier run with the same settings left, else begin anew."""
    shaping = {key: value for key, value in asdict(settings).items() if key not in _TOKENIZER_SETTINGS}
    wanted = json.dumps(shaping)
    note = work / "settings.json"
    if work.exists() and (not note.is_file() or note.read_text(encoding="utf-8") != wanted):
        console.print(f"{work} was begun with other settings: beginning anew", markup=False)
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    write_atomically(note, wanted.encode())


def _write_shards(source: Source, keys: Sequence[str], work: Path, stories_per_shard: int) -> None:
    by_split: dict[str, list[str]] = {split: [] for split in SPLITS}
    for key in keys:
        by_split[split_of(key)].append(key)
    with progress_bar() as bar:
        task = bar.add_task("features and shards", total=len(keys))
        for split, split_keys in by_split.items():
            for number, begin in enumerate(range(0, len(split_keys), stories_per_shard)):
                chunk = split_keys[begin : begin + stories_per_shard]
                tar = work / f"{split}-{number:06d}.tar"
                if not shard_is_whole(tar):
                    write_shard(tar, source.load(chunk), source.languages)
                bar.advance(task, len(chunk))


def _train_tokenizer(work: Path, languages: Sequence[str], settings: PrepareSettings, console: Console) -> None:
    wanted = {key: asdict(settings)[key] for key in _TOKENIZER_SETTINGS}
    note = work / "tokenizer-settings.json"
    if note.is_file() and json.loads(note.read_text(encoding="utf-8")) == wanted:
        return
    with console.status("training SentencePiece on the training split"):
        train_sentencepiece(
            work / "tokenizer",
            _training_texts(work),
            languages=languages,
            vocab_size=settings.vocab_size,
            character_coverage=settings.character_coverage,
        )
    write_atomically(note, json.dumps(wanted).encode())


def _training_texts(work: Path) -> Iterator[str]:
    """Documents and summaries of the training shards, without touching the features between them."""
    for tar in sorted(work.glob("train-*.tar")):
        with tarfile.open(tar, "r:") as archive:
            for member in archive:
                if member.name.endswith(".json"):
                    file = archive.extractfile(member)
                    assert file is not None
                    record: dict[str, Any] = json.load(file)
                    yield record["text"]
                    yield record["summary"]


def _summary(corpus: Corpus) -> str:
    splits = corpus.manifest["splits"]
    counts = ", ".join(f"{splits[s]['stories']:,} {s}" for s in SPLITS)
    directions = int((corpus.direction_counts("train") > 0).sum())
    articles = sum(splits[s]["articles"] for s in SPLITS)
    return f"{counts} stories, {articles:,} articles, {directions:,} directions, {len(corpus.languages)} languages"
