"""Make a corpus directory of a source (`d2tv prepare`), in stages that survive a kill.

Everything is written under `<out>.partial`: shards one by one, each whole or not there, then the tokenizer, then the
index and the manifest; the directory takes its name when it is complete. The shards may be written by several
processes, and by the parts of a cluster's job, with the same result.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from launcher.preparation.augmentation.augment import Augmenter, open_augmenter
from launcher.preparation.augmentation.model import check_model, fingerprint
from launcher.preparation.directory import begin, clean, held, leave, note_parts, parts_of, scratch
from launcher.preparation.report import report_problems, report_variants, summary
from launcher.preparation.settings import PrepareSettings, Share, check
from launcher.preparation.shards import ShardTask, shard_tasks, write_shards
from launcher.preparation.tokenizer import train_tokenizer
from shards.corpora import SOURCES, Progress, Source, data_files, open_source
from shards.corpora.npm import fetch
from shards.errors import InputError
from shards.format.index import Corpus, open_corpus
from shards.format.manifest import FORMAT_VERSION
from shards.format.merge import finish_corpus, shard_problems, shard_variant_counts
from shards.format.part_index import read_part
from shards.format.writer import index_path, shard_is_whole
from shards.problems import Problems
from trainer.terminal.log import log
from trainer.terminal.progress import stage, track


def prepare(
    settings: PrepareSettings, out: Path, cache: Path, data: Path | None = None, share: Share | None = None
) -> Corpus | None:
    """Build the corpus, or the rest of it, or nothing where it is complete. None where other parts are still missing.

    data: the directory with the source's files, for those that have one. Nothing is removed that `prepare` did not
    write. Raises `InputError`, also for a full disk.
    """
    share = share or Share()
    out = Path(os.path.realpath(out)) if out.is_symlink() else out  # a link stays, what it names is built
    try:
        check(settings, share)
        if (out / "manifest.json").is_file():
            return _complete(settings, out, data)
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise InputError(f"{out} exists and is not a corpus: choose another --out")
        return _build(settings, out, cache, data, share)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        raise InputError(
            f"{error.strerror or error}{where}; with that mended (or another --out) the same command goes on"
        ) from error


def _complete(settings: PrepareSettings, out: Path, data: Path | None) -> Corpus:
    corpus = open_corpus(out)
    provenance = corpus.manifest["provenance"]
    if provenance.get("settings") != settings.noted():
        raise InputError(f"{out} was prepared with other settings: remove it, or choose another --out")
    # The data may be gone by now; where it is not, it must be the same.
    if data is not None and data.is_dir() and provenance.get("data") != _fingerprint(settings, data):
        raise InputError(f"{out} was prepared from other data than {data}: remove it, or choose another --out")
    model = settings.augment.model if settings.augment else None
    if model is not None and model.is_dir() and provenance["augmentation"].get("model") != _model_hash(settings):
        raise InputError(f"{out} was prepared with another model than {model}: remove it, or choose another --out")
    clean(out)  # for a call that was killed right after giving it its name
    log.info(f"{out}: complete, {summary(corpus)}")
    return corpus


def _fingerprint(settings: PrepareSettings, data: Path | None) -> dict[str, Any] | None:
    listing = data_files(settings.source, data, without_images=settings.without_images)
    return listing.fingerprint() if listing else None


def _model_hash(settings: PrepareSettings) -> str | None:
    """Return the fingerprint of the translation model, None where there is none. `InputError` as `check_model`."""
    model = settings.augment.model if settings.augment else None
    if model is None:
        return None
    check_model(model)
    with stage("hashing the translation model"):
        return fingerprint(model)


def _build(settings: PrepareSettings, out: Path, cache: Path, data: Path | None, share: Share) -> Corpus | None:
    with stage("listing the files of --data", quiet=data is None):
        files = _fingerprint(settings, data)
    model = _model_hash(settings)
    work = out.with_name(out.name + ".partial")
    if share.finish and not work.is_dir():
        raise InputError(f"{work} is not there, so there is nothing to finish: run the parts first")
    with held(work, alone=not share.part):
        if (out / "manifest.json").is_file():  # another has finished meanwhile
            leave(work)
            return _complete(settings, out, data)
        return _build_in(work, files, model, settings, out, cache, data, share)


def _build_in(
    work: Path,
    files: dict[str, Any] | None,
    model: str | None,
    settings: PrepareSettings,
    out: Path,
    cache: Path,
    data: Path | None,
    share: Share,
) -> Corpus | None:
    revision = SOURCES[settings.source].revision
    # What the shards do not depend on is left out: another vocabulary does not cost the features again.
    shaping = {
        "format_version": FORMAT_VERSION,
        "source": settings.source,
        "stories_per_shard": settings.stories_per_shard,
        "stories": settings.stories,
        "data": files,
        **({"revision": revision} if revision > 1 else {}),
        **({"pixels": True} if settings.pixels else {}),
        **({"augment": settings.augment.noted() | {"model": model}} if settings.augment else {}),
    }
    begin(work, shaping, alone=not (share.part or share.finish))
    with _opening(settings.source) as progress:
        source = open_source(
            settings.source,
            cache=cache,
            work=scratch(work),
            data=data,
            without_images=settings.without_images,
            pixels=settings.pixels,
            stories=settings.stories,
            max_problems=share.max_problems,
            progress=progress,
        )
    tasks = shard_tasks(source, settings.stories_per_shard)
    problems = Problems(limit=share.max_problems)
    problems.add(source.problems())
    if not any(task.split == "train" for task in tasks):  # the tokenizer would have nothing to learn from, hours later
        raise InputError(_without_stories(source, tasks, problems))
    augmenter = _open_augmenter(settings, source)
    if not share.finish:
        _download(source, cache)
        mine = tasks
        if share.part:
            note_parts(work, share.part[1])
            mine = tasks[share.part[0] - 1 :: share.part[1]]
        _write(source, augmenter, mine, work, share.workers, problems)
        if share.part:
            _report_part(share.part, tasks, mine, work, problems)
            return None
    _check_whole(tasks, work)
    problems = Problems(limit=share.max_problems)
    problems.add(source.problems())
    problems.add(shard_problems(work))
    of_training = (read_part(index_path(task.path(work))) for task in tasks if task.split == "train")
    if not any(len(part["keys"]) for part in of_training):
        raise InputError(_without_stories(source, tasks, problems))
    provenance = {
        **source.provenance(),
        **({"data": files} if files else {}),
        "problems": json.loads(problems.to_json()),
        "settings": settings.noted(),
        **({"augmentation": augmenter.provenance(shard_variant_counts(work), model)} if augmenter else {}),
    }
    _finish(source, settings, work, provenance)
    os.replace(work, out)  # which may be there, empty
    clean(out)
    corpus = open_corpus(out)
    report_problems(problems)
    report_variants(corpus)
    log.info(f"{out}: {summary(corpus)}")
    return corpus


def _open_augmenter(settings: PrepareSettings, source: Source) -> Augmenter | None:
    if settings.augment is None:
        return None
    augmenter = open_augmenter(settings.augment, source.languages, lists=SOURCES[settings.source].lists)
    if unknown := augmenter.unknown_languages():
        log.info(f"the translation model does not know {', '.join(unknown)}: there are no variants of or in them")
    return augmenter


@contextmanager
def _opening(source: str) -> Iterator[Progress]:
    """Show how far a source is with what it does while it is opened: downloads, or reading all of its files."""
    with stage(f"opening the {source} corpus") as opening:
        doing, last = "", 0

        def show(what: str, done: int, total: int) -> None:
            nonlocal doing, last
            if what != doing:
                doing, last = what, total
                opening.note(what)
            opening.reach(done, total)

        yield show
        opening.reach(last)


def _without_stories(source: Source, tasks: list[ShardTask], problems: Problems) -> str:
    """Say that there is nothing to train on, and all that was wrong with the input."""
    where = "story in its training split" if tasks else "story"
    why = problems.summary(information=True)
    return f"the {source.name} corpus has no {where}: " + (why or "see that its data is what it should be")


def _download(source: Source, cache: Path) -> None:
    """Fetch all that the source will need, so that what follows needs no network. What is there is only verified."""
    if not source.packages:
        return
    log.info(f"packages of the {source.name} corpus, kept in {cache}")
    for package in track(source.packages, "downloads"):
        fetch(package, cache)


def _write(
    source: Source,
    augmenter: Augmenter | None,
    tasks: list[ShardTask],
    work: Path,
    workers: int,
    problems: Problems,
) -> None:
    with stage("features and shards", sum(each.stories for each in tasks)) as progress:
        write_shards(
            source,
            tasks,
            work,
            workers=workers,
            problems=problems,
            advance=progress.advance,
            augmenter=augmenter,
        )


def _report_part(
    part: tuple[int, int],
    tasks: list[ShardTask],
    mine: list[ShardTask],
    work: Path,
    problems: Problems,
) -> None:
    report_problems(problems)
    left = sum(not shard_is_whole(task.path(work)) for task in tasks)
    then = (
        f"{left} of all {len(tasks)} are still to come from other parts; when all are done, "
        if left
        else f"so are all {len(tasks)}: "
    )
    log.info(
        f"part {part[0]}/{part[1]}: its {len(mine)} shards are whole; {then}"
        "run the same command with --finish for --part"
    )


def _check_whole(tasks: list[ShardTask], work: Path) -> None:
    missing = [number for number, task in enumerate(tasks) if not shard_is_whole(task.path(work))]
    if missing:
        parts = parts_of(work) or 1
        words = [f"--part {part + 1}/{parts}" for part in sorted({number % parts for number in missing})]
        raise InputError(
            f"{len(missing)} of {len(tasks)} shards are not there yet, {tasks[missing[0]].path(work).name} the first: "
            f"run {', '.join(words[:8])}{' and so on' if len(words) > 8 else ''}, or neither --part nor --finish"
        )


def _finish(source: Source, settings: PrepareSettings, work: Path, provenance: dict[str, Any]) -> None:
    """Write tokenizer, index and manifest, unless a call that was killed had finished them."""
    manifest = work / "manifest.json"
    if manifest.is_file():
        if open_corpus(work).manifest["provenance"] == provenance:
            return
        manifest.unlink()  # before anything that it vouches for changes
    with stage("training SentencePiece on the training split"):
        train_tokenizer(
            work,
            source.languages,
            vocab_size=settings.vocab_size,
            character_coverage=settings.character_coverage,
        )
    with stage("merging the shards' indexes"):
        finish_corpus(work, name=source.name, languages=source.languages, provenance=provenance)
