"""Read a recipe: one YAML file with everything that a run needs except the DeepSpeed keys.

An unknown key is an error that suggests the right one. `extends: NAME` takes another recipe's values for keys that a
file does not give; trailing `key=value` words override both. A leading ~ of a path is the home directory.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from models.config import NetworkConfig
from models.objectives import OBJECTIVES, objective_config
from models.objectives.config import ObjectiveConfig
from shards.batch.fields import needed_fields
from shards.errors import InputError, did_you_mean
from shards.files.strict_yaml import write_yaml
from shards.locations import LocalPath, holds_secret, model_location, without_secrets
from shards.stream.mixture import MixtureConfig
from trainer.recipe.evaluation import EvaluationSection
from trainer.recipe.problems import first_problem
from trainer.recipe.sections import (
    BatchSection,
    CheckpointSection,
    CorpusSection,
    LengthsSection,
    LoaderSection,
    OptimizerSection,
    PrometheusSection,
    ReferenceSection,
    ScheduleSection,
    Section,
    TrackingSection,
    TrainingSection,
    ValidationSection,
    WatchdogSection,
)
from trainer.recipe.values import coercions, read_values, set_override, split_override

#: Values of these keys in a resolved recipe of an earlier release, which lacks them.
_FORMER: Mapping[str, Mapping[str, Any]] = {"corpus": {"images": "target", "start_tokens": "alphabetical"}}


#: Name of the reference that a network may begin with under any objective.
PRETRAINED = "pretrained"


class ObjectiveSection(BaseModel):
    """`name` chooses the objective; the other keys are its own (models/objectives)."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str

    def settings(self) -> ObjectiveConfig:
        """Return the objective's own, validated configuration."""
        return objective_config(self.name).model_validate(self.model_dump())


class Recipe(Section):
    """The whole recipe. `run` is the directory that receives everything the run writes."""

    run: LocalPath = Field(description="run directory: recipe, metrics.jsonl, checkpoints, evaluation")
    corpus: CorpusSection
    network: NetworkConfig
    objective: ObjectiveSection
    references: dict[str, ReferenceSection] = Field(
        default_factory=dict, description="frozen networks that the objective reads, by the names that it gives them"
    )
    mixture: MixtureConfig = MixtureConfig()
    lengths: LengthsSection = LengthsSection()
    batch: BatchSection
    optimizer: OptimizerSection
    schedule: ScheduleSection = ScheduleSection()
    training: TrainingSection
    checkpoint: CheckpointSection = CheckpointSection()
    watchdog: WatchdogSection = WatchdogSection()
    loader: LoaderSection = LoaderSection()
    validation: ValidationSection = ValidationSection()
    evaluation: EvaluationSection = EvaluationSection()
    prometheus: PrometheusSection = PrometheusSection()
    tracking: TrackingSection = TrackingSection()

    @field_validator("network", mode="before")
    @classmethod
    def _locate_pretrained(cls, value: Any) -> Any:
        """Read network.text.pretrained as a location, like corpus.tokenizer: models/ knows nothing of directories."""
        text = value.get("text") if isinstance(value, dict) else None
        if not isinstance(text, dict) or not isinstance(text.get("pretrained"), str):
            return value
        try:
            return {**value, "text": {**text, "pretrained": model_location(text["pretrained"])}}
        except ValueError as error:
            raise ValueError(f"text.pretrained {error}") from None

    @model_validator(mode="after")
    def _best_is_measured(self) -> "Recipe":
        save, validate = self.checkpoint.every, self.training.validate_every
        if self.checkpoint.keep_best is not None and save % validate and validate % save:
            raise ValueError(
                f"checkpoint.keep_best wants checkpoints of validated steps, but checkpoint.every={save} and "
                f"training.validate_every={validate} seldom meet: make one a multiple of the other"
            )
        return self

    @model_validator(mode="after")
    def _one_beginning(self) -> "Recipe":
        names = [name for name, reference in self.references.items() if reference.initialises]
        if len(names) > 1:
            raise ValueError(
                f"references.{names[0]} and references.{names[1]} both initialise the network: set initialises of one "
                "to false"
            )
        return self

    @model_validator(mode="after")
    def _slots_are_numbers(self) -> "Recipe":
        slots = self.training.steps * self.batch.groups_per_step * self.batch.group_size
        if slots >= 2**62:
            raise ValueError(
                f"training.steps x batch.groups_per_step x batch.group_size are {slots:.3g} examples, and none has a "
                "number beyond 2^62: lower one of them"
            )
        return self

    @property
    def needs(self) -> frozenset[str]:
        """Name the fields of `Batch` that objective and network read beside those that every batch has."""
        return self.objective.settings().needs | self.network.needs

    def dump(self) -> str:
        """Return the resolved recipe as YAML, which `load_recipe` reads back to the same recipe."""
        return write_yaml(self.model_dump(mode="json"))


def load_recipe(
    name_or_path: str, overrides: Sequence[str] = (), absent: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
) -> Recipe:
    """Read a recipe by name or path, with `section.key=value` overrides.

    An override is read by its key's type: text, paths and choices are taken literally, spaces and # included; `a,b` or
    `[a, b]` is a list; anything else is YAML. `null`, or nothing, is null where a key may be null.

    absent: section -> values of keys that the file does not give.

    Raises `InputError`, one line, for a recipe or key that does not exist, a value that does not fit, and a URL with a
    password or signature in it, which every run would save.
    """
    values = read_values(name_or_path)
    for section, former in absent.items():
        if isinstance(values.get(section), dict):
            values[section] = {**former, **values[section]}
    words = [split_override(override) for override in overrides]
    for key, text in words:
        section, _, rest = key.partition(".")
        own = _objective_config(values, words) if section == "objective" and rest not in ("", "name") else None
        if own is None:
            set_override(values, key, text, Recipe)
        elif isinstance(values.setdefault(section, {}), dict):
            set_override(values[section], rest, text, own)
        else:
            raise InputError(f"override {key}: 'objective' is a value, not a section")
    return validated(values, f"recipe {name_or_path}")


def load_saved_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read the resolved recipe of a run, a checkpoint or an exported model, as `load_recipe` does.

    A key that it lacks did not exist when it was written, and has the value of that time (`_FORMER`), not the default.
    """
    return load_recipe(str(path), overrides, _FORMER)


def validated(values: Mapping[str, Any], where: str) -> Recipe:
    """Return the recipe of `values`, as YAML gives them. Raises `InputError`, one line; where: begins most messages."""
    for key, text in _texts(values):
        if holds_secret(text):
            raise InputError(
                f"{without_secrets(key)} holds a user, a password or a signature, which the run would save: leave "
                "it out of the URL, and use ~/.netrc or the AWS variables instead"
            )
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{where}: {first_problem(error, Recipe)}") from None
    config_type = objective_config(recipe.objective.name)
    try:
        settings = recipe.objective.settings()
        settings.check(recipe)
        needed_fields(settings.needs)
        _check_task(recipe, settings)
    except ValidationError as error:
        raise InputError(f"{where}: {first_problem(error, config_type, 'objective.')}") from None
    for problem in (*coercions(Recipe, values), *coercions(config_type, values["objective"], "objective.")):
        raise InputError(f"{where}: {problem}")
    _check_reference_names(recipe, config_type, where)
    # With all defaults, so that a saved recipe is complete.
    return recipe.model_copy(update={"objective": ObjectiveSection.model_validate(settings.model_dump())})


def _check_task(recipe: Recipe, objective: ObjectiveConfig) -> None:
    """Refuse an evaluation that the objective's networks are not made for."""
    task = recipe.evaluation.task
    if task not in objective.tasks:
        fitting = " or ".join(name for name, config in OBJECTIVES.items() if task in config.tasks)
        raise InputError(
            f"evaluation.task={task} wants a network of the objective {fitting}, and this one is of "
            f"{recipe.objective.name}: choose one of {', '.join(sorted(objective.tasks))}"
        )


def _check_reference_names(recipe: Recipe, config_type: type[ObjectiveConfig], where: str) -> None:
    objective, read = recipe.objective.name, config_type.reference_names
    for name in recipe.references:
        if name not in (*read, PRETRAINED):
            known = f"it reads {', '.join((*read, PRETRAINED))}"
            raise InputError(
                f"{where}: references.{name}: objective {objective!r} reads no such network{did_you_mean(name, read)}, "
                f"{known}: remove the key"
            )
    for name in read:
        if name not in recipe.references:
            raise InputError(
                f"{where}: key 'references.{name}.model' is missing: objective {objective!r} reads that network; give "
                "a run, a checkpoint, an exported model or a Hugging Face directory"
            )


def _objective_config(values: Mapping[str, Any], words: Sequence[tuple[str, str]]) -> type[ObjectiveConfig] | None:
    """Return the configuration of the recipe's objective; None without a known name, which validation reports."""
    section = values.get("objective")
    names = [text for key, text in words if key == "objective.name"]
    name = names[-1] if names else section.get("name") if isinstance(section, dict) else None
    try:
        return objective_config(str(name))
    except InputError:
        return None


def _texts(values: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text of a recipe with its key, and the keys of mappings."""
    if isinstance(values, str):
        yield place, values
    elif isinstance(values, dict):
        for key, value in values.items():
            yield place or "a key", key
            yield from _texts(value, f"{place}.{key}" if place else key)
    elif isinstance(values, list):
        for value in values:
            yield from _texts(value, place)
