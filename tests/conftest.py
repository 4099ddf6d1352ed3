"""Fixtures of all tests. One thread a test process: results do not depend on the machine's cores."""

import pytest
import torch

from shards.index import Corpus
from tests.tiny import make_corpus

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """The corpus of tests/tiny.py, made once. Read it; a test that damages one makes its own copy."""
    return make_corpus(tmp_path_factory.mktemp("tiny") / "corpus")
