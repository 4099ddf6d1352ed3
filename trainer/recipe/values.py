"""Read the values of a recipe before validation, from files that extend each other and key=value words."""

import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Le
from pydantic import BaseModel

from shards.errors import InputError, did_you_mean
from shards.files.read import read_regular
from shards.files.strict_yaml import MOST_CHARACTERS, read_yaml
from shards.locations import MustBeGiven, without_secrets

#: Recipes that are found by name: beside their reader, since a recipe of any folder may extend one of them by name.
RECIPES = Path(__file__).parent / "recipes"


def recipe_names() -> list[str]:
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def read_values(name_or_path: str, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Return the values of a recipe by name or path, merged with those of the recipe that it extends.

    Raises `InputError`, one line, for a file that is missing or holds no recipe.
    """
    path = RECIPES / f"{name_or_path}.yaml"
    if not path.is_file():
        path = Path(name_or_path).expanduser() if name_or_path.startswith("~/") else Path(name_or_path)
    if not path.is_file():
        near = did_you_mean(name_or_path, recipe_names())
        raise InputError(
            f"no recipe {without_secrets(name_or_path)!r}{near}: a path, or one of {', '.join(recipe_names())}"
        )
    if path in seen:
        raise InputError(f"recipe {path} extends itself")
    try:
        text = read_regular(path, most=4 * MOST_CHARACTERS).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"recipe {path} cannot be read: {error}") from error
    values = read_yaml(text, f"recipe {path}")
    if not isinstance(values, dict):
        raise InputError(f"recipe {path} is not a mapping of sections")
    parent = values.pop("extends", None)
    if parent is None:
        return values
    if not isinstance(parent, str):
        raise InputError(f"recipe {path}: extends must be the name or path of a recipe: quote it")
    sibling = path.parent / f"{parent}.yaml"
    return _merge(read_values(str(sibling) if sibling.is_file() else parent, (*seen, path)), values)


def _merge(base: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in extra.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        # The keys of the parent's objective, and the networks that it reads, are unknown to another one.
        replaced = key == "objective" and both and value.get("name", merged[key].get("name")) != merged[key].get("name")
        if replaced:
            merged["references"] = extra.get("references", {})
        merged[key] = _merge(merged[key], value) if both and not replaced else value
    return merged


#: First characters of YAML's aliases, anchors, tags, blocks and directives, which no override means.
_INDICATORS = ("*", "&", "!", "|", ">", "%", "@", "`")


def split_override(override: str) -> tuple[str, str]:
    """Return key and value of `key=value`."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        shown = without_secrets(override)
        raise InputError(f"override {shown!r} is not of the form key=value, like training.steps=100")
    return key, text


def set_override(values: dict[str, Any], key: str, text: str, model: type[BaseModel]) -> None:
    """Put `text` into `values` at the dotted `key`, read by the type that `model` declares there.

    Raises `InputError` for a key below a value, an empty guard, and malformed YAML.
    """
    *sections, last = key.split(".")
    annotation = annotation_at(model, key.split("."))
    for section in sections:
        inner = values.setdefault(section, {})
        if not isinstance(inner, dict):
            raise InputError(f"override {key}: {section!r} is a value, not a section")
        values = inner
    values[last] = _read_as(annotation, text, key)


def _read_as(annotation: Any, text: str, key: str) -> Any:
    """Return the value of `text` for a field: `text` itself where it takes text, else its value as YAML."""
    kinds = members(annotation)
    if type(None) in kinds and text in ("", "null"):
        if text == "" and _must_be_given(annotation):
            raise InputError(f"{key}= is empty: is a variable of the shell unset? give a file, or null for none")
        return None
    if not kinds or any(_is_text(kind) for kind in kinds):
        return text
    if text.startswith(_INDICATORS):
        return text  # no number, list or boolean: validation names the type
    where = f"override {without_secrets(f'{key}={text}')!r}"
    items = [get_args(kind)[0] for kind in kinds if get_origin(kind) is tuple]
    if not items or text.lstrip().startswith("[") or any(is_model(kind) for kind in members(items[0])):
        return read_yaml(text, where)
    words = [word.strip() for word in text.split(",")] if text.strip() else []
    return words if all(_is_text(kind) for kind in members(items[0])) else [read_yaml(word, where) for word in words]


def annotation_at(model: type[BaseModel], keys: Sequence[str]) -> Any:
    """Return the declared type at the nested `keys` of `model`; None where it has no such key."""
    annotation: Any = model
    for key in keys:
        named = next((kind for kind in members(annotation) if get_origin(kind) is dict), None)
        if named is not None:  # any name has a value of this type
            annotation = get_args(named)[1]
            continue
        inner = next((kind for kind in members(annotation) if is_model(kind)), None)
        field = inner.model_fields.get(key) if inner is not None else None
        if field is None:
            return None
        annotation = field.annotation
        if field.metadata:
            annotation = Annotated[annotation, *field.metadata]
    return annotation


def members(annotation: Any) -> tuple[Any, ...]:
    """Return the types of a union, or the one type, without their annotations."""
    if annotation is None:
        return ()
    if get_origin(annotation) is Annotated:
        return members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(kind for part in get_args(annotation) for kind in members(part))
    return (annotation,)


def is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _is_text(kind: Any) -> bool:
    return kind in (str, Path) or (get_origin(kind) is Literal and all(isinstance(v, str) for v in get_args(kind)))


def _must_be_given(annotation: Any) -> bool:
    return any(isinstance(part, MustBeGiven) or _must_be_given(part) for part in get_args(annotation))


def coercions(model: type[BaseModel], values: Mapping[str, Any], place: str = "") -> Iterator[str]:
    """Yield a line for every value that pydantic would convert: text to a number, a number to a boolean.

    Also for a whole number without a bound of its own that exceeds 64 bits.
    """
    for name, value in values.items():
        field = model.model_fields.get(name)
        if field is not None:
            bounded = any(isinstance(part, Le) for part in field.metadata)
            yield from _coercions(field.annotation, value, f"{place}{name}", bounded)


def _coercions(annotation: Any, value: Any, where: str, bounded: bool) -> Iterator[str]:
    kinds = members(annotation)
    if isinstance(value, dict):
        for kind in filter(is_model, kinds):
            yield from coercions(kind, value, f"{where}.")
        for kind in kinds:
            if get_origin(kind) is dict:
                for name, entry in value.items():
                    yield from _coercions(get_args(kind)[1], entry, f"{where}.{name}", bounded)
    elif isinstance(value, list):
        for kind in kinds:
            if get_origin(kind) is tuple:
                for number, entry in enumerate(value):
                    yield from _coercions(get_args(kind)[0], entry, f"{where}.{number}", bounded)
    elif bool in kinds:
        if value is not None and not isinstance(value, bool):
            yield f"{where}: must be true or false, not {_as_yaml(value)}"
    elif int in kinds or float in kinds:
        if isinstance(value, bool | str):
            yield f"{where}: must be a {'whole number' if int in kinds else 'number'}, not {_as_yaml(value)}"
        elif isinstance(value, int) and value >= 2**63 and not bounded:
            yield f"{where}: must be below 2^63, for torch and numpy count in 64 bits"


def _as_yaml(value: Any) -> str:
    return f"the text {value!r}" if isinstance(value, str) else str(value).lower()
