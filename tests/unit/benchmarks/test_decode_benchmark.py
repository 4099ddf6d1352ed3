"""The decoding benchmark: its small run for real, which compares every text of both sides."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import decode
from benchmarks.decode import FIGURES, QUICK
from benchmarks.decode_plain import batches_by_direction
from benchmarks.decode_work import LANGUAGES, articles
from trainer.evaluation.decoding import decoding_batches


def test_quick_run_gives_every_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "_EMOJI", tmp_path / "none")
    out = tmp_path / "out.json"
    assert decode.main(["--quick", "--json", str(out)]) == 0
    found = json.loads(out.read_text(encoding="utf-8"))
    for name in FIGURES:
        if name.startswith("decode_speedup_emoji"):
            assert found[name] is None
        else:
            assert found[name] > 0
    assert found["decode_examples"] == QUICK.batch * QUICK.sources * len(LANGUAGES)
    shown = capsys.readouterr()
    assert "decode_speedup" in shown.out
    assert "no figure of the emoji corpus" in shown.err


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
