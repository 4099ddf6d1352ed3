"""Test the page of `d2tv annotate` in a real browser, offline: rated, reloaded, saved, loaded and read back."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.annotation.key import CRITERIA, Key, key_path, read_key
from launcher.cli import main
from shards.format.index import Corpus
from tests.support.annotations import ratings, write_ratings, write_system
from tests.support.chromium import Tab, chromium

COUNT = 6
NAME = "document.getElementById('annotator')"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, tiny_corpus: Corpus) -> Path:
    folder = tmp_path_factory.mktemp("annotation")
    systems = [
        str(write_system(folder / name, tiny_corpus, lambda name, story, number: f"{len(name)} words of {number}"))
        for name in ("mms", "d2tv")
    ]
    out = folder / "annotation.html"
    assert main(["annotate", *systems, "--examples", str(COUNT), "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with chromium(tmp_path_factory.mktemp("chromium")) as tab:
        yield tab


@pytest.fixture
def tab(browser: Tab, page: Path) -> Iterator[Tab]:
    """The page as it opens the first time. It must fetch nothing, and nothing may go wrong in its script."""
    browser.begin()
    for file in browser.downloads.iterdir():
        file.unlink()
    browser.open(page)
    yield browser
    assert {address for address in browser.requests if not address.startswith("blob:")} == {page.as_uri()}
    assert browser.console == []


def checked(tab: Tab) -> dict[str, str]:
    found = tab.run(
        "Object.fromEntries([...document.querySelectorAll(':checked')].filter(e => e.type === 'radio')"
        ".map(e => [e.name, e.value]))"
    )
    return dict(found)


def reload_until(tab: Tab, expected: dict[str, str]) -> None:
    """Reload as a person does, who takes longer than a browser to hand its storage from one process to the next."""

    def as_expected() -> bool:
        tab.reload()
        return checked(tab) == expected

    tab.until(as_expected)


def text(tab: Tab, identity: str) -> str:
    return str(tab.run(f"document.getElementById('{identity}').textContent"))


def click(tab: Tab, selector: str) -> None:
    tab.run(f"document.querySelector('{selector}').click()")


def rate_all(tab: Tab, total: int) -> None:
    """With the keyboard alone, from the top of the page."""
    click(tab, "#unrated")
    for number in range(total):
        tab.press("12345"[number % 5])
        if tab.run("document.activeElement.id") == "next":
            tab.press("Enter")
            tab.run("document.querySelector('.item:not([hidden]) input').focus()")


def saved(tab: Tab, name: str) -> dict[str, Any]:
    """The file that is downloaded."""
    tab.run(f"{NAME}.value = {json.dumps(name)}; {NAME}.dispatchEvent(new Event('input'))")
    click(tab, "#save")
    said = text(tab, "status")
    assert said.startswith("Saved ratings-"), said
    path = tab.downloads / said.removeprefix("Saved ").split(":")[0]
    tab.until(path.is_file)
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    path.rename(tab.downloads / "saved.json")
    return content


def test_rating_with_the_keyboard_saving_and_reading_back(
    tab: Tab, page: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = read_key(key_path(page))
    total = len(CRITERIA) * len(key.summaries)
    assert text(tab, "count") == f"0 of {total} ratings"
    assert tab.run("document.querySelectorAll('.item:not([hidden])').length") == 1
    rate_all(tab, total)
    assert text(tab, "count") == f"{total} of {total} ratings"
    assert text(tab, "status") == "Everything is rated: save a file and hand it in."
    content = saved(tab, "Änne 1")
    assert content["annotator"] == "Änne 1"
    names = [(item, letter, criterion) for item, letter in key.summaries for criterion in CRITERIA]
    for number, (item, letter, criterion) in enumerate(names):
        assert content["ratings"][item][letter][criterion] == number % 5 + 1
    other = write_ratings(tmp_path / "other.json", ratings(key, "Ben", lambda i, a, c, s: 3))
    words = ["annotate", str(key_path(page)), "--ratings", str(tab.downloads / "saved.json"), str(other)]
    assert main([*words, "--json", str(tmp_path / "out.json")]) == 0
    found = json.loads((tmp_path / "out.json").read_text())
    assert [one["missing"] for one in found["annotators"]] == [0, 0]
    assert all(one["missing"] == 0 for one in found["results"])


def test_a_reload_loses_nothing_and_a_rating_can_be_changed_and_taken_back(tab: Tab) -> None:
    click(tab, "#unrated")
    tab.press("4", "2", "5")
    tab.run(f"{NAME}.value = 'Ann'; {NAME}.dispatchEvent(new Event('input'))")
    click(tab, "#next")
    before = checked(tab)
    assert before == {"1.A.fluency": "4", "1.A.conciseness": "2", "1.A.informativeness": "5"}
    reload_until(tab, before)
    assert tab.run(f"{NAME}.value") == "Ann"
    assert tab.run("document.querySelector('.item:not([hidden])').dataset.item") == "2"
    click(tab, "#previous")
    tab.run("document.querySelector('[name=\"1.A.fluency\"]').focus()")
    tab.press("1")
    tab.press("Delete")  # of the next group, where the focus is now
    assert checked(tab) == {"1.A.fluency": "1", "1.A.informativeness": "5"}
    reload_until(tab, {"1.A.fluency": "1", "1.A.informativeness": "5"})
    # A click on the label of a value rates as well.
    click(tab, 'label:has([name="1.B.fluency"][value="3"])')
    assert checked(tab)["1.B.fluency"] == "3"
    assert text(tab, "count").startswith("3 of ")


def test_a_half_filled_file_is_loaded_back_and_gone_on_with(tab: Tab, page: Path) -> None:
    key = read_key(key_path(page))
    click(tab, "#unrated")
    tab.press("4", "2")
    content = saved(tab, "Ann")
    assert "still to come" in text(tab, "status")
    assert content["ratings"] == {"1": {"A": {"fluency": 4, "conciseness": 2}}}
    tab.run("localStorage.clear()")
    reload_until(tab, {})
    tab.choose_file("#load", tab.downloads / "saved.json")
    tab.until(lambda: text(tab, "status") == "Loaded saved.json.")
    assert checked(tab) == {"1.A.fluency": "4", "1.A.conciseness": "2"}
    assert tab.run(f"{NAME}.value") == "Ann"
    click(tab, "#unrated")
    tab.press("5")
    assert text(tab, "count") == f"3 of {3 * len(key.summaries)} ratings"
    # What was rated since is not given up unasked.
    with tab.answering(accept=False) as asked:
        tab.choose_file("#load", tab.downloads / "saved.json")
        tab.until(lambda: asked)
    assert asked == ["1 rating made here differ from the file, which takes their place. Load it?"]
    assert len(checked(tab)) == 3
    with tab.answering(accept=True):
        tab.choose_file("#load", tab.downloads / "saved.json")
        tab.until(lambda: text(tab, "status") == "Loaded saved.json.")
    assert len(checked(tab)) == 2


def test_wrong_files_are_refused_with_the_reason_and_change_nothing(tab: Tab, page: Path, tmp_path: Path) -> None:
    key: Key = read_key(key_path(page))
    click(tab, "#unrated")
    tab.press("4")
    good = ratings(key, "Ben", lambda i, a, c, s: 3)
    wrong = {
        "it is no JSON": json.dumps(good)[:-9],
        "it holds no ratings": "null",
        "it is of another page": json.dumps(good | {"page": "ab"}),
        "it is not whole": json.dumps(good | {"ratings": None}),
        "this page has no fluency of summary A of item 99": json.dumps(
            good | {"ratings": {"99": good["ratings"]["1"]}}
        ),
        "fluency of summary A of item 1 is 6": json.dumps(good | {"ratings": {"1": {"A": {"fluency": 6}}}}),
    }
    for reason, content in wrong.items():
        (tmp_path / "wrong.json").write_text(content)
        tab.choose_file("#load", tmp_path / "wrong.json")
        tab.until(lambda reason=reason: text(tab, "problem") == f"wrong.json was not loaded: {reason}.")
        assert checked(tab) == {"1.A.fluency": "4"}


def test_no_file_without_a_name_and_another_person_begins_anew(tab: Tab) -> None:
    click(tab, "#unrated")
    tab.press("4")
    click(tab, "#save")
    assert "Write your name or initials first" in text(tab, "problem")
    assert tab.run("document.activeElement.id") == "annotator"
    assert list(tab.downloads.glob("ratings-*")) == []
    with tab.answering(accept=True) as asked:
        click(tab, "#anew")
    assert "This removes 1 rating and the name" in asked[0]
    assert checked(tab) == {}
    reload_until(tab, {})


def test_a_browser_that_keeps_nothing_says_so(tab: Tab) -> None:
    tab.run("Storage.prototype.setItem = () => { throw new Error('full') }")
    click(tab, "#unrated")
    tab.press("4")
    assert "This browser keeps nothing for this page: save a file before you close it." in text(tab, "problem")
    assert checked(tab) == {"1.A.fluency": "4"}
    saved(tab, "Ann")


def test_every_control_has_a_name_for_a_screen_reader(tab: Tab) -> None:
    nodes = tab.call("Accessibility.getFullAXTree")["nodes"]
    roles = (
        "radio",
        "button",
        "textbox",
        "combobox",
        "progressbar",
        "progressIndicator",
        "group",
        "radiogroup",
        "region",
    )
    named = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node["ignored"] and node["role"]["value"] in roles
    ]
    assert all(name for _, name in named), [node for node in named if not node[1]]
    names = [name for _, name in named]
    assert {"fluency of summary A", "informativeness of summary B", "Save a file", "Progress", "Item"} <= set(names)
    assert {name for role, name in named if role == "radio"} == {"1", "2", "3", "4", "5"}
