"""Names of pretrained models and tokenizers: directories, paths that are none, and ids of the hub."""

import os
from pathlib import Path

import pytest

from shards.errors import InputError
from shards.storage.hub import directory_of
from shards.text.tokenizer import open_tokenizer
from tests.support.pretrained import hub_repository, hub_without_network, save_mt5
from tests.support.tiny import WORDS


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "here" / "models").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")


def test_a_directory_is_itself(tmp_path: Path) -> None:
    for where in ("models", "./models", "../here/models", str(tmp_path)):
        assert directory_of(where, "x") == Path(where)


def test_a_directory_comes_before_an_id_of_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hub_without_network(monkeypatch, tmp_path)
    hub_repository(tmp_path, "local/first")
    os.makedirs("local/first")
    assert directory_of("local/first", "x") == Path("local/first")


@pytest.mark.parametrize(
    "where",
    ["/models/absent", "./absent", "../absent/x", "~/models", "some/where/else", "models/absent", "absent", "a/b/", ""],
)
def test_a_path_that_is_no_directory_is_refused_at_once(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("asked the hub"))
    with pytest.raises(InputError, match=r"^key=value: there is no such directory") as error:
        directory_of(where, "key=value")
    assert "hub" not in str(error.value)
    assert ("~" in str(error.value)) == where.startswith("~")


def test_what_may_be_an_id_names_both_causes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hub_without_network(monkeypatch, tmp_path)
    with pytest.raises(
        InputError, match=r"there is no such directory, and the hub gives nothing .*\(.*\): give"
    ) as error:
        directory_of("pretrained/mt5-base", "key=value")
    assert "\n" not in str(error.value)


def test_a_hub_that_does_not_answer_is_asked_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(InputError, match="Connect"):
        directory_of("nobody/answers", "key=value")
    assert waits == []


def test_a_tokenizer_of_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    directory = save_mt5(hub_repository(tmp_path, "someone/tokenizer"))
    hub_without_network(monkeypatch, tmp_path)
    by_id, by_path = open_tokenizer("someone/tokenizer"), open_tokenizer(directory)
    assert by_id.vocab_size == by_path.vocab_size
    for text in WORDS.values():
        assert by_id.encode(text, 100) == by_path.encode(text, 100)
    with pytest.raises(InputError, match="no tokenizer in someone/else: there is no such directory, and the hub"):
        open_tokenizer("someone/else")
