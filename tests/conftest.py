"""Fixtures of all tests. One thread a test process: results do not depend on the machine's cores."""

import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import torch
import torch.distributed as dist

from shards.format.index import Corpus
from tests.support.forkserver import Program
from tests.support.hostile.oracle import Oracle
from tests.support.tiny import make_corpus
from tests.support.waiting import HANGING
from trainer.ranks import Ranks

#: Files that take longest, longest first: one that began late would run on alone at the end.
_LONGEST = (
    "test_slurm",
    "test_quick_trainings",
    "test_restarts",
    "test_layer_options",
    "test_survival",
    "test_watched_run",
    "test_quick_benchmarks",
    "test_watchdog",
    "test_checkpoint_trouble",
    "test_prepare_parts",
    "test_resharding",
    "test_metrics_endpoints",
    "test_golden_curves",
    "test_export_command",
    "test_precisions",
)

torch.set_num_threads(1)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell has what it starts in the background ignore SIGINT, and programs under test would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
# No test asserts how long something takes: machines are shared.
hypothesis.settings.register_profile(
    "shared machines", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("shared machines")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest."""
    place = {name: number for number, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))


@pytest.fixture(autouse=True)
def no_lines_of_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage prints lines when it takes long, which depends on the machine: what a test reads must not."""
    monkeypatch.setattr("trainer.terminal.progress.tick_until", lambda *_: None)


@pytest.fixture
def alone() -> Iterator[Ranks]:
    """A process group of one, for what sums over ranks."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield Ranks(rank=0, local_rank=0, world_size=1)
    dist.destroy_process_group()


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """The corpus of tests/support/tiny.py, made once. Read it; a test that damages one makes its own copy."""
    return make_corpus(tmp_path_factory.mktemp("tiny") / "corpus")


@pytest.fixture(scope="session")
def labelled_corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """The same with a label of each article."""
    return make_corpus(tmp_path_factory.mktemp("labelled") / "corpus", labels=True)


@pytest.fixture(scope="session", autouse=True)
def operators(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Compile what DeepSpeed wants of this machine, where tests that start ranks were collected: before the first."""
    if any(item.path.parent.name in ("distributed", "system") for item in request.session.items):
        log = tmp_path_factory.mktemp("operators") / "log"
        assert Program("tests.support.operators", [], output=log).wait(HANGING) == 0, log.read_text()


@pytest.fixture
def oracle(request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Oracle]:
    """The oracle of a fuzz test, whose counts are printed at the end."""
    kind = request.node.name.removeprefix("test_").replace("_", " ")
    of_kind = Oracle(kind, tmp_path, capsys)
    yield of_kind
    request.node.user_properties.append(("fuzz", f"{kind}: {of_kind.summary()}"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how the cases of the fuzz suite (tests/system/test_fuzz*.py) ended, by kind."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    lines = {value for report in reports for name, value in getattr(report, "user_properties", ()) if name == "fuzz"}
    if lines:
        terminalreporter.section("fuzz suite: how its cases ended")
        for line in sorted(lines):
            terminalreporter.write_line(str(line))
