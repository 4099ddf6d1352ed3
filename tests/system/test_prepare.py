"""`d2tv prepare emoji`, killed and started again: never fooled by half an output."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shards.errors import InputError
from shards.index import open_corpus
from tests.distributed.harness import ROOT

#: Two training shards and one of each other split; the first characters have few drawings, so it is quick.
STORIES = "90"


def start(out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "launcher.cli", "prepare", "emoji", "--stories", STORIES, "--out", str(out)]
    environment = os.environ | {"DS_ACCELERATOR": "cpu"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepare") / "emoji"
    process = start(out)
    process.communicate(timeout=300)
    assert process.returncode == 0
    return out


def test_a_complete_corpus_is_left_alone(undisturbed: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*")}
    process = start(undisturbed)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "complete" in output
    assert {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*")} == before


def test_killed_and_started_again_gives_the_same_corpus(undisturbed: Path, tmp_path: Path) -> None:
    out, work = tmp_path / "emoji", tmp_path / "emoji.partial"
    process = start(out)
    deadline = time.monotonic() + 240
    while not any(work.glob("train-*.index.npz")):
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with pytest.raises(InputError, match="no corpus at"):
        open_corpus(out)
    done = {path.name: path.stat().st_mtime_ns for path in work.glob("*.tar")}
    assert done

    process = start(out)
    process.communicate(timeout=300)
    assert process.returncode == 0
    assert not work.exists()
    assert {name: (out / name).stat().st_mtime_ns for name in done} == done, "a whole shard was written again"
    manifests = [json.loads((folder / "manifest.json").read_text()) for folder in (undisturbed, out)]
    assert manifests[0] == manifests[1]


def test_every_direction_of_44_languages_has_an_example(undisturbed: Path) -> None:
    corpus = open_corpus(undisturbed)
    assert len(corpus.languages) == 44
    assert (corpus.direction_counts("train") > 0).sum() == 44 * 44
