"""The table of predictions: what was written is read again, whole, and what is damaged is told of."""

import math
import os
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.errors import InputError
from trainer.evaluation.predictions import (
    Prediction,
    predictions_path,
    read_predictions,
    read_scores,
    write_predictions,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
MEASURES = ("rouge1", "lase")


def rows_of(
    texts: list[tuple[str, str, str | None]], scores: list[tuple[float | None, float | None]]
) -> list[Prediction]:
    return [
        Prediction(
            number=3 * number,
            story=f"s{number}",
            source="english",
            target="urdu",
            prediction=prediction,
            reference=reference,
            language=language,
            scores=dict(zip(MEASURES, values, strict=True)),
        )
        for number, ((prediction, reference, language), values) in enumerate(zip(texts, scores, strict=False))
    ]


def write(run: Path, rows: list[Prediction]) -> Path:
    (run / "evaluation").mkdir(exist_ok=True)
    write_predictions(run, "test", rows, MEASURES)
    return predictions_path(run, "test")


SCORE = st.none() | st.floats(-100, 100)


@given(
    texts=st.lists(st.tuples(TEXT, TEXT, st.none() | TEXT), max_size=9),
    scores=st.lists(st.tuples(SCORE, SCORE), max_size=9),
)
def test_what_was_written_is_read(
    texts: list[tuple[str, str, str | None]], scores: list[tuple[float | None, float | None]]
) -> None:
    rows = rows_of(texts, scores)
    with tempfile.TemporaryDirectory() as directory:
        write(Path(directory), rows)
        assert read_predictions(Path(directory), "test") == rows
        defined = {row.key: {name: v for name, v in row.scores.items() if v is not None} for row in rows}
        assert read_scores(Path(directory), "test") == defined


def test_other_tools_find_typed_columns(tmp_path: Path) -> None:
    schema = pq.read_schema(write(tmp_path, rows_of([("a", "b", None)], [(None, None)])))
    assert schema.names == ["number", "story", "source", "target", "prediction", "reference", "language", *MEASURES]
    assert [schema.field(name).type for name in ("number", "language", "lase")] == [
        pa.int64(),
        pa.string(),
        pa.float64(),
    ]


def test_what_is_not_there_or_damaged_is_one_line(tmp_path: Path) -> None:
    again = rf"d2tv evaluate {tmp_path} --split test"
    with pytest.raises(InputError, match=f"^{tmp_path} has no evaluation of test: {again}$"):
        read_scores(tmp_path, "test")
    path = write(tmp_path, rows_of([("das ist ein Satz", "b", None)] * 50, [(1.0, 2.0)] * 50))
    whole = path.read_bytes()
    place = whole.index(b"das ist ein Satz")
    for damaged in (b"", b"{}\n", whole[:-30], whole[:place] + b"x" + whole[place + 1 :]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=f"^{path} cannot be read .*: {again}$"):
            read_predictions(tmp_path, "test")
    table = pq.read_table(pa.BufferReader(whole))
    for other in (table.drop_columns("story"), table.set_column(0, "number", pa.array(["x"] * 50))):
        pq.write_table(other, path)
        with pytest.raises(InputError, match=f"^{path} is no table of predictions .*: {again}$"):
            read_scores(tmp_path, "test")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300])
def test_numbers_that_are_no_scores_are_refused(tmp_path: Path, value: float) -> None:
    write(tmp_path, rows_of([("a", "b", None)] * 2, [(0.5, None), (value, 0.5)]))
    for read in (read_predictions, read_scores):
        with pytest.raises(InputError, match=f"{MEASURES[0]} that is no score: d2tv evaluate"):
            read(tmp_path, "test")


def test_a_fifo_in_place_of_the_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "evaluation").mkdir()
    os.mkfifo(predictions_path(tmp_path, "test"))
    with pytest.raises(InputError, match="not a regular file"):
        read_predictions(tmp_path, "test")
