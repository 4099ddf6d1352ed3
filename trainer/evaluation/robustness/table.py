"""What was written of perturbed examples, as a table on the disk: RUN/evaluation/<split>-robustness.parquet.

A row for each kind, severity and example that the perturbation changes. Columns: kind, severity, and of the example
number (as in <split>-predictions.parquet), story, source, target, prediction, and each of ROUGE as float64 in per cent.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from shards.files.write import write_atomically
from trainer.evaluation.scoring.rouge import ROUGE

_SCHEMA = pa.schema(
    [
        pa.field("kind", pa.string(), nullable=False),
        pa.field("severity", pa.int64(), nullable=False),
        pa.field("number", pa.int64(), nullable=False),
        *(pa.field(name, pa.string(), nullable=False) for name in ("story", "source", "target", "prediction")),
        *(pa.field(name, pa.float64(), nullable=False) for name in ROUGE),
    ]
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Perturbed:
    """A summary of a perturbed example; scores: of `ROUGE`."""

    kind: str
    severity: int
    number: int
    story: str
    source: str
    target: str
    prediction: str
    scores: Mapping[str, float]


def write_perturbed(path: Path, rows: Sequence[Perturbed]) -> None:
    """All or nothing. Raises `OSError` where the directory cannot be written."""
    columns = {
        name: [row.scores[name] if name in ROUGE else getattr(row, name) for row in rows] for name in _SCHEMA.names
    }
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns, schema=_SCHEMA), buffer, compression="zstd", write_page_checksum=True)
    write_atomically(path, buffer.getvalue())
