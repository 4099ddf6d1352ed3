"""Test `d2tv watch` and `d2tv report` on a run of the real trainer."""

import re
from pathlib import Path

import pytest

from launcher.cli import main
from shards.format.index import Corpus
from tests.support.launch import Training
from tests.support.pages import Page, says_nothing_to_the_console
from tests.support.tiny import tiny_overrides
from trainer.telemetry.metrics import read_metrics


@pytest.fixture(scope="module")
def run(tiny_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six steps, two checkpoints, an evaluation."""
    run = tmp_path_factory.mktemp("real") / "run"
    with Training(run, tiny_overrides(tiny_corpus.directory, run), ranks=1) as training:
        assert training.wait() == 0, training.output[-4000:]
    return run


def test_watched(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", str(run), "--once"]) == 0
    shown = capsys.readouterr().out
    for said in (
        r"run  d2tv · corpus corpus · 1 rank ",
        r"step 6 of 6  100\.0%",
        r"finished at step 6, ",
        r"kd_teacher_to_student +\d",
        r"training mxls +\d",
        r"held-out mms +\d",
        r"examples/s, [\d.,]+ tokens/s, MFU [\d.]+%, data wait",
        r"slowest rank 0 \(\+0 s\), lr [\d.e-]+, norm \d",
        r"96 trained on, 0 placeholders, 0 skipped steps",
        r"checkpoint +step 6, .* ago, \d+ kB in ",
        r"mms +(english|french|hindi|urdu) \d\.\d\d, ",
        r"direction +\w+→\w+ \d\.\d\d, ",
    ):
        assert re.search(said, shown), (said, shown)


def test_reported(run: Path) -> None:
    assert main(["report", str(run)]) == 0
    page = Page(run / "report.html")
    page.loads_nothing()
    captions = [caption.content for caption in page.all("figcaption")]
    for title in ("Loss by term", "NLL by kind", "Learning rate", "Gradient norm", "Data wait", "MFU", "Slowest rank"):
        assert any(caption.startswith(title) for caption in captions), title
    facts = dict(re.findall("<dt>([^<]*)</dt><dd>([^<]*)</dd>", page.source))
    assert facts["steps"] == "6 of 6"
    assert facts["restarts"] == "0"
    assert facts["examples"] == "96"
    tips = [title.content for title in page.all("title")]
    told = [re.search(r"nats a token, [\d,]+ tokens of ([\d,]+) examples", tip) for tip in tips]
    assert sum(int(one[1]) for one in told if one) == 96  # every example once, in its direction
    assert len([tip for tip in tips if re.match(r"\w+: training mms [\d.]+, held-out mms [\d.]+", tip)]) == 4
    # A save that the next one waited for has no record: there are two only where the disk was quick.
    saved = [record for record in read_metrics(run / "metrics.jsonl") if record["kind"] == "checkpoint"]
    assert saved
    assert page.source.count('<circle class="saved"') == len(saved)
    assert re.search(
        r"<td>MXLS</td><td>\d\.\d{3}</td><td>\d\.\d{3}</td><td>-?[\d.]+%</td><td>\d+\.\d\d</td>", page.source
    )
    assert "step 6, 16 summaries decoded" in page.source
    says_nothing_to_the_console(run / "report.html")
