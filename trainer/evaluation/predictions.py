"""Write and read an evaluation's predictions with their scores: RUN/evaluation/<split>-predictions.parquet.

Those of the baselines on the same examples lie beside it with the same columns: <split>-lead.parquet and so on.

A row an example. Columns: number, story, source, target, prediction, reference, language, and every measure as float64.
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shards.errors import InputError
from shards.files.read import open_regular, parse_json
from shards.files.write import write_atomically
from trainer.evaluation.kept import evaluation_folder, kept_evaluations

#: The columns before the measures.
_COLUMNS = pa.schema(
    [
        pa.field("number", pa.int64(), nullable=False),
        pa.field("story", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("target", pa.string(), nullable=False),
        pa.field("prediction", pa.string(), nullable=False),
        pa.field("reference", pa.string(), nullable=False),
        pa.field("language", pa.string()),
    ]
)
#: Key of the facts in the table's metadata.
_FACTS = b"d2tv.facts"
#: A larger score is damage: no measure reaches it, and sums of such overflow.
_LARGEST_SCORE = 1e6
#: Name of the run's own table, beside those of the baselines.
MODEL = "predictions"
#: An example: story, source and target language.
Key = tuple[str, str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """A prediction with its scores.

    number: the example's place among all that were chosen.  language: identified in the prediction.
    scores: measure -> value in per cent, None where it is not defined.
    """

    number: int
    story: str
    source: str
    target: str
    prediction: str
    reference: str
    language: str | None
    scores: Mapping[str, float | None]

    @property
    def key(self) -> Key:
        return self.story, self.source, self.target


def predictions_path(run: Path, split: str, of: str = MODEL) -> Path:
    """Return the table's file.

    run: or one of its `evaluation/<label>`, and of: `MODEL` or a baseline's name, here and below.
    """
    return evaluation_folder(run) / f"{split}-{of}.parquet"


def write_predictions(
    run: Path,
    split: str,
    rows: Sequence[Prediction],
    measures: Sequence[str],
    facts: Mapping[str, Any] | None = None,
    of: str = MODEL,
) -> None:
    """Write the table whole or not at all, the same bytes for the same rows. Raises `OSError`.

    facts: all that the rows depend on, for `read_facts`.
    """
    columns = {name: [getattr(row, name) for row in rows] for name in _COLUMNS.names}
    columns |= {name: [row.scores.get(name) for row in rows] for name in measures}
    schema = pa.schema(
        [*_COLUMNS, *(pa.field(name, pa.float64()) for name in measures)],
        metadata={_FACTS: json.dumps(facts, sort_keys=True).encode()},
    )
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns, schema=schema), buffer, compression="zstd", write_page_checksum=True)
    write_atomically(predictions_path(run, split, of), buffer.getvalue())


def read_predictions(run: Path, split: str, of: str = MODEL) -> list[Prediction]:
    """Return the rows in the order in which they were written. `InputError` where the table is missing or damaged."""
    table = _read(run, split, of=of)
    columns = [table.column(name).to_pylist() for name in _COLUMNS.names]
    return [
        Prediction(**dict(zip(_COLUMNS.names, row, strict=True)), scores=scores)
        for row, scores in zip(zip(*columns, strict=True), _scores(table), strict=True)
    ]


def read_references(run: Path, split: str) -> dict[Key, str]:
    """Return the reference of every example. `InputError` as from `read_predictions`."""
    return {row.key: row.reference for row in read_predictions(run, split)}


def read_facts(run: Path, split: str, of: str = MODEL) -> Any:
    """Return the facts of a table; None where it has none. `InputError` as from `read_predictions`."""
    facts = (_read(run, split, texts=False, measures=(), of=of).schema.metadata or {}).get(_FACTS, b"null")
    try:
        return parse_json(facts)
    except ValueError as error:
        path = predictions_path(run, split, of)
        raise InputError(f"{path} is damaged ({error}): d2tv evaluate {run} --split {split}") from error


def read_scores(
    run: Path, split: str, measures: Sequence[str] | None = None, of: str = MODEL
) -> dict[Key, dict[str, float]]:
    """Return the defined scores of every example, without its texts. `InputError` as from `read_predictions`.

    measures: to read those of them that the table has; None: all.
    """
    table = _read(run, split, texts=False, measures=measures, of=of)
    keys = zip(*(table.column(name).to_pylist() for name in ("story", "source", "target")), strict=True)
    return {
        key: {name: value for name, value in scores.items() if value is not None}
        for key, scores in zip(keys, _scores(table), strict=True)
    }


def _read(run: Path, split: str, *, texts: bool = True, measures: Sequence[str] | None = None, of: str = MODEL) -> Any:
    if run.is_file():
        raise InputError(f"{run} is a file and no run: predictions of another system are read from a plain .jsonl")
    path = predictions_path(run, split, of)
    again = f"d2tv evaluate {run} --split {split}"
    try:
        with open_regular(path) as file:
            parquet = pq.ParquetFile(file, page_checksum_verification=True)
            schema = parquet.schema_arrow
            wrong = [field.name for field in _COLUMNS if schema.names.count(field.name) != 1]
            wrong = wrong or [field.name for field in _COLUMNS if schema.field(field.name).type != field.type]
            if wrong:
                raise InputError(f"{path} is no table of predictions ({', '.join(wrong)}): {again}")
            left_out = set() if texts else {"prediction", "reference"}
            if measures is not None:
                left_out |= set(schema.names) - set(_COLUMNS.names) - set(measures)
            table = parquet.read([name for name in schema.names if name not in left_out])
    except FileNotFoundError as error:
        if (evaluation_folder(run) / f"{split}.json").is_file():
            raise InputError(
                f"{run} has an evaluation of {split} without a table of predictions: that of its task has none to "
                f"compare; if the file is lost, {again}"
            ) from error
        kept = [str(path) for path in kept_evaluations(run, split)]
        others = f", or name one that is kept: {', '.join(kept)}" if kept else ""
        raise InputError(f"{run} has no evaluation of {split}: {again}{others}") from error
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path} cannot be read ({' '.join(str(error).split())}): {again}") from error
    for field in table.schema:
        column = table.column(field.name)
        if field.name in _COLUMNS.names and column.null_count and not _COLUMNS.field(field.name).nullable:
            raise InputError(f"{path} is no table of predictions ({field.name} has rows without a value): {again}")
        if field.name not in _COLUMNS.names and field.type == pa.float64() and not _are_scores(column):
            raise InputError(f"{path} holds {field.name} that is no score: {again}")
    return table


def _are_scores(column: pa.ChunkedArray) -> bool:
    """Return True if the numbers of a column are finite and none is too large; null stands for an undefined score.

    Compared with a Python number, pyarrow would import pandas.
    """
    finite, largest = pc.all(pc.is_finite(column)).as_py(), pc.max(pc.abs(column)).as_py()
    return finite is not False and (largest is None or bool(largest <= _LARGEST_SCORE))


def _scores(table: Any) -> list[dict[str, float | None]]:
    measures = [field.name for field in table.schema if field.name not in _COLUMNS.names and field.type == pa.float64()]
    columns = [table.column(name).to_pylist() for name in measures]
    return [dict(zip(measures, (column[row] for column in columns), strict=True)) for row in range(table.num_rows)]
