"""Which examples are decoded together, and what of an evaluation is kept when it is killed."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.directions import parse_directions
from shards.errors import InputError
from shards.format.index import Corpus
from shards.stream.sampler import Groups
from trainer.evaluation.decoding import Predictions, decoding_batches
from trainer.evaluation.heldout import choose_examples, take_groups


def examples(corpus: Corpus, directions: str = "all", total: int | None = None) -> Groups:
    return choose_examples(corpus, "test", parse_directions(directions, corpus.languages), total=total)


def memory(corpus: Corpus, groups: Groups, place: int) -> tuple[int, ...]:
    """What the encoder computes for an example: its document and the images that it is fused with."""
    source = int(groups.source[place, 0])
    owner = corpus.articles[source]
    return (source, *((int(owner["shard"]), int(owner["roi_offset"])) if owner["images"] else ()))


@given(size=st.integers(1, 40), total=st.integers(0, 200))
def test_every_example_once_in_batches_of_whole_documents(tiny_corpus: Corpus, size: int, total: int) -> None:
    groups = examples(tiny_corpus, total=total)
    batches = decoding_batches(groups, tiny_corpus, size)
    assert sorted(place for batch in batches for place in batch.tolist()) == list(range(len(groups.number)))
    assert all(0 < len(batch) <= size for batch in batches)
    batches_of: dict[tuple[int, ...], list[int]] = {}
    for number, batch in enumerate(batches):
        for key in {memory(tiny_corpus, groups, place) for place in batch.tolist()}:
            batches_of.setdefault(key, []).append(number)
    counts: dict[tuple[int, ...], int] = {}
    for place in range(len(groups.number)):
        key = memory(tiny_corpus, groups, place)
        counts[key] = counts.get(key, 0) + 1
    for key, found in batches_of.items():
        assert len(found) == -(-counts[key] // size), "a document is encoded more often than it must be"


def test_long_documents_come_first(tiny_corpus: Corpus) -> None:
    groups = examples(tiny_corpus)
    length = tiny_corpus.articles["text_length"]
    longest = [int(length[groups.source[batch, 0]].max()) for batch in decoding_batches(groups, tiny_corpus, 8)]
    assert longest == sorted(longest, reverse=True)


def test_predictions_outlive_a_kill_and_another_number_of_ranks(tiny_corpus: Corpus, tmp_path: Path) -> None:
    groups = examples(tiny_corpus)
    folder = tmp_path / "evaluation" / "parts"
    found = Predictions(folder, groups, ["checkpoint", {"num_beams": 4}])
    found.begin()
    assert found.read() == {}
    found.add(0, 0, [{"number": 3, "prediction": "über\u2028 zwei"}])
    found.add(1, 1, [])
    with open(next(folder.glob("*-00000.jsonl")), "ab") as file:
        file.write(b'{"batch": 2, "rows": [{"num')  # the kill
    again = Predictions(folder, groups, ["checkpoint", {"num_beams": 4}])
    again.begin()
    assert again.read() == {0: [{"number": 3, "prediction": "über\u2028 zwei"}], 1: []}
    again.add(0, 2, [{"number": 4, "prediction": "x"}])
    assert sorted(again.read()) == [0, 1, 2]
    again.remove()
    assert not folder.exists()


def test_predictions_of_anything_else_do_not_count(tiny_corpus: Corpus, tmp_path: Path) -> None:
    groups = examples(tiny_corpus)
    for other_groups, facts in (
        (groups, ["another checkpoint"]),
        (take_groups(groups, slice(1, None)), ["checkpoint"]),
    ):
        before = Predictions(tmp_path, other_groups, facts)
        before.begin()
        before.add(0, 0, [{"number": 0, "prediction": "wrong"}])
    found = Predictions(tmp_path, groups, ["checkpoint"])
    found.begin()
    assert found.read() == {}
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_written_is_one_line(tiny_corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = Predictions(tmp_path / "file", examples(tiny_corpus), [])
    with pytest.raises(InputError, match="cannot be written"):
        found.begin()
    with pytest.raises(InputError, match="cannot be written"):
        found.add(0, 0, [])


def test_lines_are_json_that_any_tool_reads(tiny_corpus: Corpus, tmp_path: Path) -> None:
    found = Predictions(tmp_path, examples(tiny_corpus), [])
    found.begin()
    found.add(2, 7, [{"number": 1, "prediction": "a\nb"}])
    (path,) = tmp_path.iterdir()
    assert [json.loads(line) for line in path.read_text().splitlines() if line] == [
        {"batch": 7, "rows": [{"number": 1, "prediction": "a\nb"}]}
    ]
    assert np.array_equal(list(found.read()), [7])


def test_files_of_others_stay_among_the_predictions(tiny_corpus: Corpus, tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    (folder / "0123456789abcdef-00000.jsonl").mkdir(parents=True)
    (tmp_path / "precious").write_text("kept")
    (folder / "fedcba9876543210-00000.jsonl").symlink_to(tmp_path / "precious")
    for name in ("notes.txt", "0123456789abcdef.jsonl", "0123456789ABCDEF-00000.jsonl"):
        (folder / name).write_text("theirs")
    before = sorted(folder.iterdir())
    found = Predictions(folder, examples(tiny_corpus), [])
    found.begin()
    found.add(0, 0, [])
    found.remove()
    assert sorted(folder.iterdir()) == before
    assert (tmp_path / "precious").read_text() == "kept"


def test_a_linked_directory_of_predictions_stays_a_link(tiny_corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "parts").symlink_to("disk")
    found = Predictions(tmp_path / "parts", examples(tiny_corpus), [])
    found.begin()
    found.add(0, 0, [])
    found.remove()
    assert (tmp_path / "parts").is_symlink()
    assert list((tmp_path / "disk").iterdir()) == []
