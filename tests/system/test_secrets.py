"""Canaries in every place where a secret may be given: no file and no line that a run writes has one."""

import base64
from pathlib import Path

import pytest

from launcher.cli import main
from shards.format.index import Corpus
from tests.support.http_server import serving
from tests.support.launch import Training
from tests.support.tiny import tiny_overrides

CANARY = "canary4dove"


def holders(*places: Path) -> list[Path]:
    """The files below the places that hold the canary, as it is or in base64, which Basic authentication writes."""
    words = [CANARY.encode(), *(base64.b64encode(f"{pad}{CANARY}".encode())[4:-4] for pad in ("", "a", "aa"))]
    files = [path for place in places for path in place.rglob("*") if path.is_file()]
    assert len(files) > 20
    return [path for path in files if any(word in path.read_bytes() for word in words)]


def test_no_file_and_no_line_of_a_run_has_a_secret(
    tmp_path: Path, tiny_corpus: Corpus, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    home, run = tmp_path / "home", tmp_path / "out" / "run"
    home.mkdir()
    run.parent.mkdir()
    (home / "netrc").write_text(f"machine 127.0.0.1 login me password {CANARY}\n")
    (home / "netrc").chmod(0o600)
    (home / "token").write_text(CANARY)
    monkeypatch.setenv("NETRC", str(home / "netrc"))
    monkeypatch.setenv("D2TV_CACHE", str(tmp_path / "out" / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("HF_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, CANARY)
    with serving(tiny_corpus.directory) as server:
        words = [*tiny_overrides(Path("unused"), run), f"corpus.path={server.url}", "training.steps=2"]
        words += ["checkpoint.every=2", "training.validate_every=2", "evaluation.examples_per_kind=2"]
        words += ["prometheus.enabled=true", "prometheus.port=0", "prometheus.last_scrape_seconds=0"]
        words += [f"prometheus.token_file={home / 'token'}"]
        with Training(run, words, ranks=1) as training:
            assert training.wait() == 0, training.output
        assert f"Basic {base64.b64encode(f'me:{CANARY}'.encode()).decode()}" in server.authorizations, "it was used"
    assert main(["report", str(run)]) == 0
    assert main(["export", str(run), str(tmp_path / "out" / "model"), f"corpus.path={tiny_corpus.directory}"]) == 0
    said = "".join((training.output, *capfd.readouterr()))
    assert "exported to" in said
    assert CANARY not in said
    assert holders(tmp_path / "out") == []


@pytest.mark.parametrize(
    "command", ["evaluate", "watch", "report", "export", "summarize", "inspect", "verify", "recipe"]
)
def test_no_refusal_shows_what_is_secret_in_a_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    url = f"http://me:{CANARY}@127.0.0.1:9/x?y={CANARY}#{CANARY}"
    words = {"export": ["out"], "summarize": ["--to", "en", "no-such-file"]}.get(command, [])
    assert main([command, url, *words]) == 2
    told = capsys.readouterr()
    assert "error: " in told.err
    assert CANARY not in told.out + told.err
    assert list(tmp_path.iterdir()) == []
