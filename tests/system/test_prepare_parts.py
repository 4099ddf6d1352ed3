"""`d2tv prepare crosssum` at scale, in small: workers, parts of a job, kills, bad input, memory."""

import gzip
import json
import os
import random
import signal
import tarfile
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from launcher.preparation.directory import scratch
from launcher.preparation.prepare import prepare
from launcher.preparation.settings import PrepareSettings, Share, settings_for
from shards.corpora import SOURCES
from shards.errors import InputError
from shards.files.caches import default_cache
from shards.files.lock import locked
from shards.format.index import Corpus, open_corpus
from tests.support.crosssum_tree import REGIONS, WIDTH, CrossSumTree
from tests.support.prepare import Prepare, run
from tests.support.waiting import until

STORIES, STORIES_PER_SHARD = 120, 6


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 stories in up to four languages, 20 shards and more; three things are wrong with it."""
    tree = CrossSumTree(tmp_path_factory.mktemp("data"))
    for number in range(STORIES):
        split = ("train", "train", "train", "val", "test")[number % 5]
        group = [(name, f"https://x.example/{name}.{number:03d}") for name in ("english", "french", "hindi", "urdu")]
        group = group[: number % 4 + 1]
        for language, url in group:
            tree.article(language, url, split=split, images=number % 3, text=f"{language} word{number} " * 8)
        for pair in pairwise(group):
            tree.pair(*pair, split=split, both=True)
    tree.line("xlsum/english_train.jsonl", "{")
    tree.article("urdu", "empty", text="")
    tree.image("https://x.example/english.000", 0, features=np.full((REGIONS, WIDTH), np.nan, np.float32))
    return tree.write()


@pytest.fixture(scope="module")
def settings() -> PrepareSettings:
    return settings_for("crosssum", vocab_size=400, stories_per_shard=STORIES_PER_SHARD)


def build(settings: PrepareSettings, out: Path, data: Path, **share: object) -> Corpus | None:
    return prepare(settings, out, default_cache(), data, Share(**share))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def undisturbed(settings: PrepareSettings, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    corpus = build(settings, tmp_path_factory.mktemp("undisturbed") / "corpus", data)
    assert corpus is not None
    return corpus


def words(data: Path, out: Path, *more: str) -> list[str | Path]:
    per_shard = str(STORIES_PER_SHARD)
    return ["crosssum", "--data", data, "--out", out, "--vocab-size=400", "--stories-per-shard", per_shard, *more]


def test_what_was_wrong_is_in_the_manifest_and_on_the_screen(
    undisturbed: Corpus, settings: PrepareSettings, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    problems = undisturbed.manifest["provenance"]["problems"]
    counted = problems["counts"].copy()
    assert counted.pop("missing features") > 0
    assert counted == {"broken line": 1, "empty text": 1, "non-finite features": 1}
    assert problems["named"]["empty text"] == ["xlsum/urdu_train.jsonl:19"]
    assert str(data) not in json.dumps(dict(undisturbed.manifest))
    build(settings, tmp_path / "corpus", data)
    output = capsys.readouterr().out
    assert "3 problems in the input, of which --max-problems allows 1,000" in output
    assert "(information)" in output


def test_two_workers_write_the_same_corpus(
    undisturbed: Corpus, settings: PrepareSettings, data: Path, tmp_path: Path
) -> None:
    corpus = build(settings, tmp_path / "corpus", data, workers=2)
    assert corpus is not None
    assert corpus.content_hash == undisturbed.content_hash


def test_parts_in_any_order_give_the_same_corpus(
    undisturbed: Corpus,
    settings: PrepareSettings,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "corpus"
    with pytest.raises(InputError, match="run the parts first"):
        build(settings, out, data, finish=True)
    for part in (3, 1):
        assert build(settings, out, data, part=(part, 3)) is None
    assert "run the same command with --finish for --part" in capsys.readouterr().out
    with pytest.raises(
        InputError, match=r"of 2. shards are not there yet, train-000001\.tar the first: run --part 2/3,"
    ):
        build(settings, out, data, finish=True)
    # Another setting must not make what the parts have done begin anew.
    other = settings_for("crosssum", vocab_size=400, stories_per_shard=5)
    for share in ({"part": (2, 3)}, {"finish": True}, {}):
        with pytest.raises(InputError, match="begun with other settings"):
            build(other, out, data, **share)
    # Nor may one release go on with what another has made of the same files.
    with monkeypatch.context() as later:
        later.setitem(SOURCES, "crosssum", replace(SOURCES["crosssum"], revision=2))
        with pytest.raises(InputError, match="begun with other settings"):
            build(settings, out, data, part=(2, 3))
    build(settings, out, data, part=(2, 3))
    corpus = build(settings, out, data, finish=True)
    assert corpus is not None
    assert corpus.content_hash == undisturbed.content_hash
    assert not (tmp_path / "corpus.partial").exists()
    assert build(settings, out, data, finish=True) is not None  # complete is complete


def test_parts_and_workers_of_packed_texts_give_the_same_corpus(
    undisturbed: Corpus, settings: PrepareSettings, data: Path, tmp_path: Path
) -> None:
    """An archive a language as XL-Sum publishes them, and compressed pairs, with the features beside them."""
    packed = tmp_path / "packed"
    for path in (path for path in data.rglob("*") if path.is_file()):
        (packed / path.parent.name).mkdir(parents=True, exist_ok=True)
        if path.suffix == ".h5":
            (packed / path.parent.name / path.name).symlink_to(path)
        elif "-" in path.name:
            (packed / path.parent.name / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    for language in ("english", "french", "hindi", "urdu"):
        with tarfile.open(packed / f"{language}_XLSum_v2.0.tar.bz2", "w:bz2") as archive:
            for path in sorted((data / "xlsum").glob(f"{language}_*")):
                archive.add(path, path.name)
    build(settings, tmp_path / "corpus", packed, part=(2, 2))
    build(settings, tmp_path / "corpus", packed, part=(1, 2), workers=2)
    corpus = build(settings, tmp_path / "corpus", packed, finish=True)
    assert corpus is not None
    # The hash of all content also covers the provenance, where the files' names are.
    for what in ("languages", "splits", "shards", "files"):
        assert corpus.manifest[what] == undisturbed.manifest[what]
    counts = corpus.manifest["provenance"]["problems"]["counts"]
    assert counts == undisturbed.manifest["provenance"]["problems"]["counts"]


def test_parts_at_the_same_time_in_one_directory(undisturbed: Corpus, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "corpus"
    parts = [Prepare(words(data, out, "--part", f"{part}/2")) for part in (1, 2)]
    for part in parts:
        with part:
            code, _, errors = part.finish()
            assert code == 0, errors
    code, _, errors = run(*words(data, out, "--finish"))
    assert code == 0, errors
    assert open_corpus(out).content_hash == undisturbed.content_hash


def test_one_at_a_time_in_a_directory_parts_apart(
    settings: PrepareSettings, data: Path, undisturbed: Corpus, tmp_path: Path
) -> None:
    out, work = tmp_path / "corpus", tmp_path / "corpus.partial"
    work.mkdir()
    with locked(work / "prepare.lock"):  # as a call without --part
        for share in ({}, {"finish": True}, {"part": (1, 2)}):
            with pytest.raises(InputError, match=r"another d2tv prepare is at work in .*corpus\.partial"):
                build(settings, out, data, **share)
    with locked(work / "prepare.lock", shared=True):  # as a part
        for share in ({}, {"finish": True}):
            with pytest.raises(InputError, match="another d2tv prepare is at work in"):
                build(settings, out, data, **share)
        for part in (1, 2):
            build(settings, out, data, part=(part, 2))
    corpus = build(settings, out, data)
    assert corpus is not None
    assert corpus.content_hash == undisturbed.content_hash
    assert not list(out.glob("*.lock"))


def test_two_of_the_same_command_at_once(undisturbed: Corpus, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "corpus"
    with Prepare(words(data, out)) as one, Prepare(words(data, out)) as two:
        results = [each.finish() for each in (one, two)]
    assert 0 in {code for code, *_ in results}
    for code, _, errors in results:
        assert code == 0 or "another d2tv prepare is at work in" in errors
    assert open_corpus(out).content_hash == undisturbed.content_hash
    assert not list(tmp_path.glob("*.partial"))


def begin_with_other_settings(work: Path) -> None:
    scratch(work).mkdir(parents=True)
    (scratch(work) / "settings.json").write_text('{"format_version": 2, "source": "help"}')


def test_other_settings_begin_anew_under_the_lock(settings: PrepareSettings, data: Path, tmp_path: Path) -> None:
    out, work = tmp_path / "corpus", tmp_path / "corpus.partial"
    (work / "tokenizer").mkdir(parents=True)
    begin_with_other_settings(work)
    (work / "train-000000.index.npz").write_text("of other settings")
    assert build(settings, out, data) is not None
    assert not work.exists()


def wait_until_gone(group: int) -> None:
    """Until no process of the group is left: workers end when their parent does."""

    def gone() -> bool:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        return False

    until(gone, lambda: "a worker has outlived the command")


def shards_in(work: Path) -> int:
    """Count the whole ones; none when the directory is not there, or has just been given its name."""
    try:
        return sum(name.endswith(".index.npz") for name in os.listdir(work))
    except FileNotFoundError:
        return 0


def kill_now_and_then(data: Path, out: Path) -> tuple[int, dict[str, int]]:
    """Prepare, killed up to four times; return the number of kills, and when each shard then whole was written."""
    work, draw = out.with_name(f"{out.name}.partial"), random.Random(7)
    kills = 0
    whole: dict[str, int] = {}
    while True:
        with Prepare(words(data, out, *(["--workers=2"] if kills == 1 else []))) as prepare:
            shards = shards_in(work)
            # Some shards further each time, then at a moment of its own: in a shard, between two, in what follows.
            while prepare.process.poll() is None and shards_in(work) < min(shards + 6, 22):
                time.sleep(0.001)
            time.sleep(draw.uniform(0, 0.15))
            if kills == 4 or prepare.process.poll() is not None:
                return kills, whole
            os.kill(prepare.process.pid, signal.SIGKILL)
            prepare.process.wait()
            kills += 1
            wait_until_gone(prepare.process.pid)
            with pytest.raises(InputError, match="no corpus at"):
                open_corpus(out)
            for name, written in whole.items():
                assert (work / name).stat().st_mtime_ns == written, "a whole shard was written again"
            whole = {path.name.replace(".index.npz", ".tar"): 0 for path in work.glob("*.index.npz")}
            whole = {name: (work / name).stat().st_mtime_ns for name in whole}


def test_killed_at_any_moment_the_same_command_goes_on(undisturbed: Corpus, data: Path, tmp_path: Path) -> None:
    for attempt in range(10):
        out = tmp_path / f"corpus{attempt}"
        kills, whole = kill_now_and_then(data, out)
        if kills > 1:  # else this process had no turn before the command was done
            break
    assert kills > 1
    code, _, errors = run(*words(data, out))
    assert code == 0, errors
    assert open_corpus(out).content_hash == undisturbed.content_hash
    assert {name: (out / name).stat().st_mtime_ns for name in whole} == whole


def test_too_many_problems_end_the_build_also_when_parts_add_up(
    settings: PrepareSettings, data: Path, tmp_path: Path
) -> None:
    code, _, errors = run(*words(data, tmp_path / "a", "--max-problems=1"))
    assert code == 2
    assert errors.count("\n") == 1
    assert errors.startswith("error: 2 problems in the input, of which --max-problems allows 1: broken line 1 (xlsum/")
    assert not (tmp_path / "a").exists()
    # The source has two problems; the third is in a shard, and one part alone meets it.
    out = tmp_path / "b"
    refusals = []
    for part in (1, 2):
        try:
            build(settings, out, data, part=(part, 2), max_problems=2)
        except InputError as error:
            refusals.append(str(error))
    assert len(refusals) == 1
    assert "non-finite features 1" in refusals[0]
    for part in (1, 2):
        build(settings, out, data, part=(part, 2), max_problems=3)
    with pytest.raises(InputError, match="3 problems in the input"):
        build(settings, out, data, finish=True, max_problems=2)
    assert build(settings, out, data, finish=True, max_problems=3) is not None


@pytest.mark.parametrize(("kilobytes", "where"), [(20, "the index"), (200, "a shard")])
def test_a_full_disk_is_one_line(data: Path, tmp_path: Path, kilobytes: int, where: str) -> None:
    code, _, errors = run(*words(data, tmp_path / "full", "--stories-per-shard=500"), largest_file=kilobytes)
    assert code == 2, errors
    assert errors.startswith(
        {"the index": "error: cannot write the index ", "a shard": "error: File too large; with that mended"}[where]
    ), errors
    assert errors.count("\n") == 1
    assert not list((tmp_path / "full.partial").glob("*.partial"))


def test_a_place_that_cannot_be_written_is_one_line(data: Path, settings: PrepareSettings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"^Not a directory: .*file/corpus"):
        build(settings, tmp_path / "file/corpus", data)


def test_other_data_is_another_corpus(settings: PrepareSettings, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "corpus"
    tree = CrossSumTree(tmp_path / "other")
    for number in range(9):
        tree.article("english", f"u{number}", text=f"a word or {number} " * 9)
    with pytest.raises(InputError, match="or build text alone with --without-images"):
        build(settings, out, tree.write())
    settings = replace(settings, without_images=True)
    assert build(settings, out, tree.write()) is not None
    assert open_corpus(out).manifest["provenance"]["settings"]["without_images"] is True
    with pytest.raises(InputError, match="prepared from other data"):
        build(settings, out, data)


def peak_anonymous_mb(process: Prepare) -> Iterator[float]:
    """Anonymous memory of a process in MB, every few milliseconds until it ends: the page cache does not count."""
    status = Path(f"/proc/{process.process.pid}/status")
    while process.process.poll() is None:
        for line in status.read_text().splitlines():
            if line.startswith("RssAnon:"):
                yield int(line.split()[1]) / 1000
        time.sleep(0.003)


def test_memory_does_not_grow_with_the_corpus(tmp_path: Path) -> None:
    peaks = []
    texts = 0
    for stories in (40, 320):
        tree = CrossSumTree(tmp_path / str(stories))
        for number in range(stories):
            for language in ("english", "french"):
                start = 37 * number % 6000
                text = " ".join(f"{language[0]}{word * word % 2003}" for word in range(start, start + 12_000))
                texts += len(text)
                tree.article(language, f"{language}/{number}", text=text)
            tree.pair(("english", f"english/{number}"), ("french", f"french/{number}"), text="t", summary="s")
        data = tree.write()
        del tree
        command = [
            "crosssum",
            "--data",
            data,
            "--out",
            tmp_path / f"out{stories}",
            "--vocab-size=300",
            "--without-images",
        ]
        with Prepare([*command, "--stories-per-shard=8"]) as process:
            peaks.append(max(peak_anonymous_mb(process)))
            assert process.finish()[0] == 0
    # Seven eighths of the text are the larger corpus' surplus: 35 MB of it.
    assert texts > 40e6
    assert peaks[1] - peaks[0] < 12, peaks
