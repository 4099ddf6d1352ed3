"""Takes batches apart."""

from dataclasses import fields

from shards.batch.types import Batch


def take_rows(batch: Batch, rows: slice | list[int]) -> Batch:
    """Some rows of a batch, with the optional fields that it has."""
    values = {field.name: getattr(batch, field.name) for field in fields(Batch)}
    return Batch(**{name: None if value is None else value[rows] for name, value in values.items()})
