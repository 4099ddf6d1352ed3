"""Test `d2tv annotate KEY --ratings FILE ...`: the results of saved files, and those that are refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.annotation.key import CRITERIA, Item, Key, read_key, write_key
from launcher.annotation.ratings import read_ratings
from launcher.annotation.results import work_out
from launcher.cli import main
from shards.errors import InputError
from tests.support.annotations import ratings, write_ratings
from tests.unit.launcher.test_annotate import refused


def both(capsys: pytest.CaptureFixture[str], key: Path, *files: Path, more: tuple[str, ...] = ()) -> tuple[str, Any]:
    """Return what is printed, and the JSON."""
    out = key.parent / "results.json"
    words = ["annotate", str(key), "--ratings", *map(str, files), "--json", str(out), "--format", "markdown", *more]
    assert main(words) == 0
    return capsys.readouterr().out, json.loads(out.read_text())


def test_means_significance_and_agreement_come_out_of_the_files(key: Path, capsys: pytest.CaptureFixture[str]) -> None:
    of = read_key(key)
    level = {"mms": 2, "vanilla": 2, "dual": 4}
    files = []
    for name, more in (("Ann", 0), ("Ben", 0), ("Cem", 1)):
        content = ratings(of, name, lambda i, a, c, s, more=more: level[s] + (more if c == "conciseness" else 0))
        files.append(write_ratings(key.parent / f"{name}.json", content))
    printed, found = both(capsys, key, *files)
    results = {(one["group"], one["system"], one["criterion"]): one for one in found["results"]}
    assert results["all", "dual", "fluency"]["mean"] == 4.0
    assert results["all", "dual", "conciseness"]["mean"] == pytest.approx(4 + 1 / 3)
    assert results["all", "mms", "informativeness"]["mean"] == 2.0
    assert results["all", "dual", "fluency"]["difference"]["mean"] == 2.0
    assert results["all", "dual", "fluency"]["mark"] == "*"  # so few stories show no more
    assert results["all", "dual", "fluency"]["pairs"] == 60
    assert results["all", "vanilla", "fluency"]["p"] == 1.0
    assert results["all", "mms", "fluency"]["difference"] is None
    assert all(one["missing"] == 0 for one in found["results"])
    kappa = {one["criterion"]: one["of"]["kappa"] for one in found["agreement"]}
    assert kappa["fluency"] == kappa["informativeness"] == 1.0
    assert kappa["conciseness"] < 0.2
    assert {one["categories"] for one in found["agreement"]} == {5}
    head = printed.splitlines()[0]
    assert head == "| examples | system | Flu. | Con. | Inf. | ratings |"
    assert r"| **4.00**\* |" in printed
    assert "Fleiss' kappa (1971) of 3 annotators, 5 categories without order" in printed
    assert "against mms: paired bootstrap over stories, 10,000 samples, seed 0" in printed
    assert "missing:" not in printed
    _, against = both(capsys, key, *files, more=("--baseline", "dual", "--samples", "200"))
    assert next(one for one in against["results"] if one["system"] == "mms")["difference"]["mean"] == -2.0


def test_a_half_filled_file_counts_and_is_left_out_pair_by_pair(key: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A severe annotator who rated half of the page, and one system alone in part, must not sink that system."""
    of = read_key(key)
    # Ann gives the two 4 and 3; Ben, severe, 2 and 1, and of the first half alone, where he skips mms at item 1.
    ann = ratings(of, "Ann", lambda i, a, c, s: 4 if s == "dual" else 3)
    half = ratings(
        of,
        "Ben",
        lambda i, a, c, s: None if int(i) > 10 or (i == "1" and s == "mms") else 2 if s == "dual" else 1,
    )
    files = [write_ratings(key.parent / f"{content['annotator']}.json", content) for content in (ann, half)]
    printed, found = both(capsys, key, *files)
    results = {(one["group"], one["system"], one["criterion"]): one for one in found["results"]}
    better, mms = results["all", "dual", "fluency"], results["all", "mms", "fluency"]
    assert better["ratings"] == 30
    assert better["missing"] == 10
    assert mms["ratings"] == 29
    assert better["pairs"] == 29
    assert better["difference"]["mean"] == 1.0
    assert better["mean"] == pytest.approx((20 * 4 + 10 * 2) / 30)
    [agreed] = [one for one in found["agreement"] if one["criterion"] == "fluency"]
    rated = [letter for number, letter in of.summaries if int(number) <= 10]
    assert agreed["summaries"] == len(rated) - 1
    assert agreed["left_out"] == len(of.summaries) - len(rated) + 1
    assert "ratings are missing: means and tests are of what is there" in printed
    assert "left out: summaries that not all of them have rated" in printed
    missing = 3 * (len(of.summaries) - len(rated) + 1)
    assert [one["missing"] for one in found["annotators"]] == [0, missing]
    assert f"| Ben | {3 * (len(rated) - 1)} | {missing} |" in printed


def test_one_annotator_alone_and_one_who_has_rated_nothing(key: Path, capsys: pytest.CaptureFixture[str]) -> None:
    of = read_key(key)
    one = write_ratings(key.parent / "a.json", ratings(of, "Ann", lambda i, a, c, s: 3))
    none = write_ratings(key.parent / "b.json", ratings(of, "Ben", lambda i, a, c, s: None))
    two = write_ratings(key.parent / "c.json", ratings(of, "Cem", lambda i, a, c, s: 3))
    for files in ([one], [one, none]):
        printed, found = both(capsys, key, *files)
        assert "of 1 annotator, 5 categories without order; it is of two annotators or more" in printed
        assert all(agreed["of"] is None for agreed in found["agreement"])
    printed, found = both(capsys, key, one, none, two)
    assert all(agreed["of"]["kappa"] is None for agreed in found["agreement"])
    assert "fluency has one value alone, of which chance explains all" in printed
    assert f"| Ben | 0 | {3 * len(of.summaries)} |" in printed
    assert main(["annotate", str(key), "--ratings", str(one), "--format", "latex"]) == 0
    assert r"\begin{tabular}{llrrrr}" in capsys.readouterr().out
    assert "nothing is rated yet" in refused(capsys, key, "--ratings", none)


def damaged(content: dict[str, Any], what: str) -> str:
    """A file of ratings that is wrong in one way."""
    first = content["ratings"]["1"]
    match what:
        case "other page":
            content["page"] = "0123456789abcdef"
        case "unknown item":
            content["ratings"]["21"] = first
        case "unknown summary":
            first["Z"] = first["A"]
        case "unknown criterion":
            first["A"]["grammar"] = 3
        case "six" | "none" | "half" | "true" | "text":
            first["A"]["fluency"] = {"six": 6, "none": None, "half": 2.5, "true": True, "text": "4"}[what]
        case "no name":
            content["annotator"] = " "
        case "a list":
            content["ratings"] = []
        case "a number for an item":
            content["ratings"]["1"] = 4
        case "another format":
            content["format"] = "csv"
    text = json.dumps(content)
    match what:
        case "empty":
            return "\n"
        case "half written":
            return text[: len(text) // 2]
        case "twice":
            return text.replace('"A": {', '"A": {"fluency": 1, ', 1)
        case "only a list":
            return "[]"
    return text


@pytest.mark.parametrize(
    ("what", "error"),
    [
        ("other page", "is of page '0123456789abcdef'"),
        ("unknown item", "the page has no item '21'"),
        ("unknown summary", "the page has no item 1, summary Z"),
        ("unknown criterion", "item 1, summary A: no such criterion as 'grammar'"),
        ("six", "item 1, summary A: fluency is 6: a rating is 1 to 5"),
        ("none", "fluency is None: a rating is 1 to 5"),
        ("half", "fluency is 2.5"),
        ("true", "fluency is True"),
        ("text", "fluency is '4': a rating is 1 to 5"),
        ("no name", "does not say whose it is"),
        ("a list", "the ratings should be an object"),
        ("a number for an item", "item 1 should be an object"),
        ("another format", "is no file of ratings"),
        ("empty", "is empty: save it again from the page"),
        ("half written", "is no file of ratings ("),
        ("twice", "'fluency' comes twice"),
        ("only a list", "is no file of ratings"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_it(
    key: Path, capsys: pytest.CaptureFixture[str], what: str, error: str
) -> None:
    of = read_key(key)
    good = write_ratings(key.parent / "good.json", ratings(of, "Ann", lambda i, a, c, s: 3))
    bad = key.parent / "bad.json"
    bad.write_text(damaged(ratings(of, "Ben", lambda i, a, c, s: 2), what))
    said = refused(capsys, key, "--ratings", good, bad)
    assert error in said
    assert str(bad) in said


def test_the_same_annotator_twice_is_refused(key: Path, capsys: pytest.CaptureFixture[str]) -> None:
    of = read_key(key)
    files = [
        write_ratings(key.parent / name, ratings(of, who, lambda i, a, c, s: 3))
        for name, who in (("a.json", "Ann José"), ("b.json", " ann \u200b jose\u0301"))
    ]
    said = refused(capsys, key, "--ratings", *files)
    assert "are both of annotator 'ann " in said
    assert str(files[0]) in said
    assert "are both of annotator" in refused(capsys, key, "--ratings", files[0], files[0])


def test_neither_key_nor_ratings_are_replaced(key: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rated = write_ratings(key.parent / "a.json", ratings(read_key(key), "Ann", lambda i, a, c, s: 3))
    for path in (key, rated):
        before = path.read_bytes()
        said = refused(capsys, key, "--ratings", rated, "--json", path)
        assert f"{path} is what this command reads: name another --json" in said
        assert path.read_bytes() == before


@settings(max_examples=40)
@given(data=st.data())
def test_whatever_a_file_holds_is_read_or_refused(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A file comes from another person's machine, through a mail or a chat."""
    key = Key(
        page="p",
        split="test",
        systems=["a"],
        items={"1": Item(story="s", source="english", target="urdu", summaries={"A": ["a"]})},
    )
    values = st.recursive(
        st.none() | st.booleans() | st.integers(-1, 7) | st.floats() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(st.sampled_from(["1", "A", "fluency", "x"]), inner, max_size=3)
        ),
        max_leaves=8,
    )
    content = {"format": "d2tv ratings", "page": "p", "annotator": "Ann", "ratings": data.draw(values)}
    content |= data.draw(st.dictionaries(st.sampled_from(["page", "annotator", "format"]), values, max_size=1))
    path = tmp_path_factory.mktemp("ratings") / "a.json"
    path.write_text(json.dumps(content))
    try:
        [found] = read_ratings([path], key)
    except InputError as error:
        refusal = str(error)
    else:
        assert set(found.values.values()) <= {1, 2, 3, 4, 5}
        assert set(found.values) <= {("1", "A", criterion) for criterion in CRITERIA}
        work_out(key, [found], baseline="a", samples=100, seed=0)
        return
    assert str(path) in refusal
    assert "\n" not in refusal


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"page": 3}, "page: Input should be a valid string"),
        ({"items": {}}, "no system or no item"),
        ({"systems": ["mms"]}, "item 1 has not one summary of each system"),
        ({"more": 1}, "more: Extra inputs are not permitted"),
    ],
)
def test_a_damaged_key_is_one_line(
    key: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], error: str
) -> None:
    key.write_text(json.dumps(json.loads(key.read_text()) | change))
    assert error in refused(capsys, key, "--ratings", "x")


def test_a_key_is_read_as_it_was_written(tmp_path: Path) -> None:
    item = Item(story="ü/1", source="english", target="urdu", summaries={"A": ["ق"], "B": ["b", "c"]})
    key = Key(page="0f", split="test", systems=["ق", "b", "c"], items={"1": item})
    write_key(tmp_path / "k.json", key)
    assert read_key(tmp_path / "k.json") == key
