"""The batches that the decoding benchmark compares. Its quick run: tests/system/test_quick_benchmarks.py."""

from pathlib import Path

import numpy as np

from benchmarks.decode import QUICK
from benchmarks.decode_plain import batches_by_direction
from benchmarks.decode_work import articles
from trainer.evaluation.decoding import decoding_batches


def test_both_sides_have_every_example_once_in_full_batches(tmp_path: Path) -> None:
    work = articles(tmp_path, QUICK)
    language = work.corpus.articles["language"]
    ours = decoding_batches(work.groups, work.corpus, work.batch)
    loop = list(batches_by_direction(work.groups, work.corpus, work.batch))
    for batches in (ours, loop):
        assert sorted(np.concatenate(batches).tolist()) == work.groups.number.tolist()
        assert {len(batch) for batch in batches} == {QUICK.batch}
    assert all(len(np.unique(language[work.groups.target[batch, 0]])) == 1 for batch in loop)
    assert all(len(np.unique(work.groups.source[batch, 0])) == 1 for batch in ours)
