"""Read every byte of a corpus and print all that is wrong with it (`d2tv verify`)."""

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

from shards.errors import InputError
from shards.format.manifest import SPLITS, Manifest
from shards.format.verification.findings import Findings
from shards.format.verification.manifest import check_file, check_keys, read_claims
from shards.format.verification.parts import ShardTask
from shards.format.verification.pixels import check_pixels
from shards.format.verification.shard import ShardReport, check_shard
from shards.format.verification.tables import Articles, check_articles, check_edges
from shards.locations import is_url, shown
from trainer.terminal.progress import stage, track
from trainer.terminal.text import Console

#: A worker takes as long to start as one process to check so much.
_BYTES_A_WORKER = 2**27


def default_workers(location: str) -> int:
    """Return one a core that this process may use, but no more than the shards in `location` are worth."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    size = sum(path.stat().st_size for path in Path(location).glob("*.tar") if path.is_file())
    return min(cores, 1 + size // _BYTES_A_WORKER)


def verify(location: str, workers: int) -> int:
    """Print every problem of the corpus in the directory `location`. 0 when it is sound, 1 when it is not.

    Does not stop at a problem: what a damaged file leaves to be checked is checked.
    Raises `InputError` where there is no manifest of this format, and for a URL.
    """
    if is_url(location):
        raise InputError(f"verify reads directories: copy {shown(location)} to one, or run it where the corpus lies")
    directory = Path(location)
    if workers < 1:
        raise InputError(f"--workers must be at least 1, got {workers}")
    findings = Findings()
    manifest = read_claims(directory, findings)
    members = _check(directory, manifest, workers, findings)
    out = Console(file=sys.stdout, soft_wrap=True)
    if not findings.count:
        size = sum(shard.bytes for shard in manifest.shards) + sum(file.bytes for file in manifest.files.values())
        splits = manifest.splits.values()
        variants = f"{sum(s.variants for s in splits):,} variants, " if manifest.has_variants else ""
        out.print(
            f"{directory}: sound. {len(manifest.shards):,} shards of {members:,} members, {size:,} bytes, "
            f"{sum(s.stories for s in splits):,} stories, {sum(s.articles for s in splits):,} articles, {variants}"
            f"{sum(s.edges for s in splits):,} edges; content hash {manifest.content_hash}"
        )
        return 0
    out.print(f"{directory}: {findings.count:,} problem{'s' * (findings.count > 1)}")
    for line in findings.lines():
        out.print(f"  {line}")
    out.print("Put back the files that are named from a sound copy, or remove the directory and prepare it again.")
    return 1


def _check(directory: Path, manifest: Manifest, workers: int, findings: Findings) -> int:
    """Collect all findings, in an order independent of the workers; return the number of members in the tars."""
    shown = Console(stderr=True)
    for name in track(list(manifest.files), "hashes of the index", out=shown):
        check_file(directory, manifest, name, findings)
    with stage("tables of the index", 3 + len(SPLITS), out=shown) as progress:
        keys = check_keys(directory, manifest, findings)
        progress.advance()
        articles = check_articles(directory, manifest, findings)
        progress.advance()
        pixels = check_pixels(directory, manifest, findings)
        progress.advance()
        for split in SPLITS:
            if articles is not None:
                check_edges(directory, manifest, articles, split, findings)
            progress.advance()
    tasks = _tasks(directory, manifest, articles, pixels, keys)
    reports = []
    with stage("shards", len(tasks), out=shown) as progress:
        for report in _reports(tasks, workers):
            findings.extend(report.findings)
            reports.append(report)
            progress.advance()
    _report_strangers(reports, findings)
    known = {shard.name for shard in manifest.shards}
    for path in sorted(directory.glob("*.tar")):
        if path.name not in known:
            findings.add(f"{path.name}: is in no manifest: it is not part of this corpus")
    return sum(report.members for report in reports)


def _tasks(
    directory: Path,
    manifest: Manifest,
    articles: Articles | None,
    pixels: list[tuple[int, int]] | None,
    keys: list[int] | None,
) -> list[ShardTask]:
    first = manifest.first_stories.tolist()
    return [
        ShardTask(
            directory=directory,
            number=number,
            name=shard.name,
            size=shard.bytes,
            first_story=first[number],
            stories=shard.stories,
            rows=articles.rows[number] if articles is not None else None,
            pixels=pixels[number] if pixels is not None else None,
            variants=articles.variants[number] if articles is not None else (0, 0),
            keys_at=keys[number] if keys is not None else None,
            languages=manifest.languages,
            labels=manifest.labels,
            regions=manifest.regions,
            feature_size=manifest.feature_size,
        )
        for number, shard in enumerate(manifest.shards)
    ]


def _reports(tasks: Sequence[ShardTask], workers: int) -> Iterator[ShardReport]:
    """Yield every shard's report, in their order."""
    workers = min(workers, len(tasks))
    if workers < 2:
        yield from map(check_shard, tasks)
        return
    # Spawned, since a process with threads (the bar's) must not be forked; an interrupt is the parent's to act on.
    pool = ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN)
    )
    try:
        yield from pool.map(check_shard, tasks)
    except BrokenProcessPool as error:
        raise InputError("a worker was killed, for want of memory perhaps: try again with --workers 1") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _report_strangers(reports: Sequence[ShardReport], findings: Findings) -> None:
    """Report tars that hold none of their articles, and whose they are if another shard lacks them."""
    owner = {report.expected: report.name for report in reports if report.expected is not None}
    holds = {report.name: owner.get(report.found) for report in reports if report.foreign and report.found is not None}
    for report in reports:
        if not report.foreign:
            continue
        other = holds.get(report.name)
        if other is None:
            findings.add(
                f"{report.name}: belongs to another corpus: it begins with {report.found}, and nothing that the index "
                "has in it is there"
            )
        elif holds.get(other) != report.name:
            findings.add(f"{report.name}: holds the articles of {other}, and none of its own")
        elif report.name < other:  # once for the two
            findings.add(f"{report.name} and {other} are exchanged: each holds the articles of the other")
