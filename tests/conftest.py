"""Fixtures of all tests. One thread a test process: results do not depend on the machine's cores."""

import sys
from pathlib import Path

import pytest
import torch

# `pytest` alone puts only the test's own directory on the path; helpers are imported as tests.tiny.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from shards.index import Corpus
from tests.tiny import make_corpus

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """The corpus of tests/tiny.py, made once. Read it; a test that damages one makes its own copy."""
    return make_corpus(tmp_path_factory.mktemp("tiny") / "corpus")
