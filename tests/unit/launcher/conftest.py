"""Fixtures of the tests of `d2tv annotate`: systems, and a page of their summaries."""

import shutil
from pathlib import Path

import pytest

from launcher.annotation.key import key_path
from launcher.cli import main
from shards.format.index import Corpus
from tests.support.annotations import NAMES, write, write_system


@pytest.fixture(scope="module")
def systems(tiny_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Runs for all tests to read; a test that changes one makes its own copy."""
    folder = tmp_path_factory.mktemp("systems")
    return [str(write_system(folder / name, tiny_corpus, write)) for name in NAMES]


@pytest.fixture(scope="module")
def page_of_twenty(systems: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("page") / "page.html"
    assert main(["annotate", *systems, "--examples", "20", "--out", str(out)]) == 0
    return out


@pytest.fixture
def key(page_of_twenty: Path, tmp_path: Path) -> Path:
    """The key of a page of twenty examples, beside it."""
    shutil.copy(page_of_twenty, tmp_path)
    return Path(shutil.copy(key_path(page_of_twenty), tmp_path))
