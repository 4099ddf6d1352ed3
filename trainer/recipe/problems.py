"""Describe the first error of a recipe in one line without Python's types, of which pydantic's messages are full."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from shards.errors import did_you_mean
from shards.locations import without_secrets
from trainer.recipe.values import annotation_at, is_model, members

_WORDS = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "must be a whole number"),
    "int_parsing_size": "must be a whole number of fewer digits",
    **dict.fromkeys(("float_type", "float_parsing"), "must be a number"),
    "finite_number": "must be a finite number",
    **dict.fromkeys(("bool_type", "bool_parsing"), "must be true or false"),
    "string_type": "must be text: put it in quotes",
    "string_unicode": "holds bytes that are not UTF-8",
    "string_too_short": "must not be empty",
    "path_type": "must be a path: put it in quotes",
    **dict.fromkeys(("tuple_type", "list_type"), "must be a list, like [a, b] or a,b"),
    **dict.fromkeys(
        ("dict_type", "mapping_type", "model_type", "model_attributes_type"), "must be a section of keys and values"
    ),
    "too_long": "has too many values",
}
_LONGEST_VALUE = 60


def first_problem(error: ValidationError, model: type[BaseModel], prefix: str = "") -> str:
    """Describe the first error, with the closest known key for an unknown one, and without secrets of URLs."""
    problem = error.errors(include_url=False)[0]
    *sections, last = (str(part) for part in problem["loc"]) if problem["loc"] else ("",)
    where = (prefix + ".".join((*sections, last))).rstrip(".")
    if problem["type"] == "extra_forbidden":
        return f"unknown key {without_secrets(where)!r}{did_you_mean(last, _keys_at(model, sections))}"
    if problem["type"] in ("missing", "too_short"):
        if last.isdigit() or problem["type"] == "too_short":
            return f"{where.removesuffix(f'.{last}') if last.isdigit() else where}: has too few values"
        return f"key {where!r} is missing"
    if problem["type"] == "value_error":  # our own messages
        message = " ".join(problem["msg"].removeprefix("Value error, ").split())
        return f"{where}: {message}".removeprefix(": ")
    words = _WORDS.get(problem["type"]) or problem["msg"].replace("Input should be", "must be")
    return f"{where}: {words}{_got(problem['input'])}"


def _got(value: Any) -> str:
    if value is None:
        return " (got nothing)"
    if isinstance(value, bool):
        return f" (got {str(value).lower()})"
    if isinstance(value, str):
        shown = without_secrets(value)
        return f" (got {shown if len(shown) <= _LONGEST_VALUE else shown[:_LONGEST_VALUE] + ' ...'!r})"
    if isinstance(value, int | float):
        text = f"{value:.6g}" if isinstance(value, int) and abs(value) >= 10**30 else str(value)
        return f" (got {text})"
    return ""


def _keys_at(model: type[BaseModel], sections: Sequence[str]) -> list[str]:
    keys: list[str] = []
    for kind in members(annotation_at(model, [section for section in sections if not section.isdigit()])):
        # Numbers are places in a list, whose type is that of its key.
        for inner in (kind, *getattr(kind, "__args__", ())):
            keys += list(inner.model_fields) if is_model(inner) else []
    return keys
