"""Token and TLS of the metrics: files that can hold neither are refused, and open endpoints are warned of."""

from pathlib import Path

import pytest

from shards.errors import InputError
from trainer.recipe import load_recipe
from trainer.recipe.sections import PrometheusSection
from trainer.telemetry.prometheus.guards import check_guards, exposure

GUARDS = ("token_file", "certificate", "key")


@pytest.mark.parametrize("key", GUARDS)
@pytest.mark.parametrize("given", ["override", "file"])
def test_an_empty_path_is_no_way_to_turn_a_guard_off(tmp_path: Path, key: str, given: str) -> None:
    """As `prometheus.token_file=$UNSET` gives it."""
    certificate = "" if key == "certificate" else "certificate: cert.pem, "
    (tmp_path / "mine.yaml").write_text(f'extends: d2tv\nprometheus: {{{certificate}{key}: ""}}\n')
    name, overrides = ("d2tv", [f"prometheus.{key}="]) if given == "override" else (str(tmp_path / "mine.yaml"), [])
    with pytest.raises(InputError, match=rf"prometheus\.{key}.* is empty") as caught:
        load_recipe(name, overrides)
    assert "\n" not in str(caught.value)


def test_null_is_none() -> None:
    recipe = load_recipe("d2tv", [f"prometheus.{key}=null" for key in GUARDS])
    assert [getattr(recipe.prometheus, key) for key in GUARDS] == [None] * 3


def test_a_file_that_can_hold_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    for key in GUARDS:
        others = {"certificate": tmp_path / "absent"} if key == "key" else {}
        for path, message in ((tmp_path, "is no file"), (tmp_path / "empty", "is empty")):
            with pytest.raises(InputError, match=message):
                check_guards(PrometheusSection(**{**others, key: path}))
            check_guards(PrometheusSection(**{**others, key: path}, enabled=False))
        check_guards(PrometheusSection(**{**others, key: tmp_path / "absent"}))  # nothing is served without it
    (tmp_path / "token").write_text("sesame\n")
    check_guards(PrometheusSection(token_file=tmp_path / "token"))


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "", "10.0.0.7", "node7"])
def test_an_address_that_others_reach_is_told_of_once(tmp_path: Path, address: str) -> None:
    open_to_all = exposure(address, PrometheusSection())
    assert open_to_all is not None
    assert "prometheus.token_file" in open_to_all
    clear = exposure(address, PrometheusSection(token_file=tmp_path / "token"))
    assert clear is not None
    assert "prometheus.certificate" in clear
    assert exposure(address, PrometheusSection(token_file=tmp_path / "t", certificate=tmp_path / "c")) is None


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.0.1", "::1", "localhost"])
def test_loopback_is_nothing_to_tell(address: str) -> None:
    assert exposure(address, PrometheusSection()) is None
