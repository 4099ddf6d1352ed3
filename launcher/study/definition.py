"""Define a study: models trained with several seeds, and claims about them; one YAML file in launcher/studies/."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from launcher.supervise import Job
from shards.errors import InputError, did_you_mean
from shards.files.read import read_regular
from shards.files.strict_yaml import MOST_CHARACTERS, read_yaml
from shards.locations import without_secrets
from trainer.evaluation.compare.measure_names import SHORT
from trainer.evaluation.scoring.rouge import TYPES
from trainer.recipe import Recipe, load_recipe
from trainer.recipe.problems import first_problem
from trainer.recipe.sections import MOST_SEED
from trainer.recipe.values import coercions

STUDIES = Path(__file__).resolve().parent.parent / "studies"


DirectionKind = Literal["mms", "mxls", "all"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Claim(_Part):
    """Claim that `better` has the higher scores, by the mean over directions. measure: of one alone, if not of all."""

    better: str
    than: str
    kind: DirectionKind = "all"
    measure: str | None = None


class Definition(_Part):
    """Contents of a study's file. models: name in the table -> recipe. overrides: of every recipe.

    only: model -> overrides of its recipe alone, such as keys that the other objectives do not have.
    after: model -> name of a reference -> the model, listed before it, whose run of the same seed that is.
    stages: models that are trained for others to read and are in no table.
    measures: of the tables and claims; their evaluations must have them for every example.
    """

    models: dict[str, str] = Field(min_length=2)
    after: dict[str, dict[str, str]] = Field(default_factory=dict)
    stages: tuple[str, ...] = ()
    measures: tuple[str, ...] = Field(default=TYPES, min_length=1)
    baseline: str
    seeds: tuple[Annotated[int, Field(ge=0, le=MOST_SEED)], ...] = Field(min_length=1)
    overrides: tuple[str, ...] = ()
    only: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    claims: tuple[Claim, ...] = ()

    @model_validator(mode="after")
    def _names_its_models(self) -> "Definition":
        order = list(self.models)
        for name in self.stages:
            if name not in self.models:
                raise ValueError(f"stages: {name!r} is no model of it{did_you_mean(name, order)}")
        for name in (self.baseline, *(side for claim in self.claims for side in (claim.better, claim.than))):
            if name not in self.models:
                raise ValueError(f"{name!r} is no model of it{did_you_mean(name, order)}")
            if name in self.stages:
                raise ValueError(f"{name!r} is a stage, which is in no table: compare others")
        for claim in self.claims:
            if claim.better == claim.than:
                raise ValueError(f"claims: {claim.better!r} is compared with itself")
            if claim.measure is not None and claim.measure not in self.measures:
                raise ValueError(
                    f"claims: {claim.measure!r} is none of measures{did_you_mean(claim.measure, self.measures)}"
                )
        for measure in self.measures:
            if measure not in SHORT:
                raise ValueError(f"measures: no measure {measure!r}{did_you_mean(measure, SHORT)}")
        for name in self.only:
            if name not in self.models:
                raise ValueError(f"only: {name!r} is no model of it{did_you_mean(name, order)}")
        for name, references in self.after.items():
            for read in (name, *references.values()):
                if read not in self.models:
                    raise ValueError(f"after: {read!r} is no model of it{did_you_mean(read, order)}")
            for read in references.values():
                if order.index(read) >= order.index(name):
                    raise ValueError(f"after: {name!r} is trained before {read!r}, which it reads: list {read!r} first")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds {list(self.seeds)}: each once")
        if len({slug(name) for name in self.models}) < len(self.models):
            raise ValueError(f"models {', '.join(self.models)}: two would have one directory")
        return self

    @property
    def compared(self) -> list[str]:
        """Return the models of the tables."""
        return [name for name in self.models if name not in self.stages]


class Trial:
    """One training of a study: a model with a seed, in a run directory of its own.

    Raises `InputError` for a recipe or override that does not fit.
    """

    def __init__(self, model: str, seed: int, job: Job) -> None:
        self.model, self.seed, self.job = model, seed, job
        self.recipe: Recipe = load_recipe(job.recipe, job.overrides)

    @property
    def run(self) -> Path:
        return self.recipe.run


def slug(name: str) -> str:
    """Return a directory's name for a model's."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower().replace("²", "2")).strip("-")


def study_names() -> list[str]:
    return sorted(path.stem for path in STUDIES.glob("*.yaml"))


def load_study(name_or_path: str) -> Definition:
    """Read a study by name or path. `InputError`, one line, for what is not there or does not fit."""
    path = STUDIES / f"{name_or_path}.yaml"
    path = path if path.is_file() else Path(name_or_path)
    try:
        text = read_regular(path, most=4 * MOST_CHARACTERS).decode()
    except FileNotFoundError as error:
        near = did_you_mean(name_or_path, study_names())
        raise InputError(f"no study {name_or_path!r}{near}: a path, or one of {', '.join(study_names())}") from error
    except OSError as error:
        raise InputError(f"study {path} cannot be read ({error.strerror}): name another file") from error
    except UnicodeDecodeError as error:
        raise InputError(f"study {path} cannot be read: {error}") from error
    values = read_yaml(text, f"study {path}")
    if not isinstance(values, dict):
        raise InputError(f"study {path} is not a mapping of {', '.join(Definition.model_fields)}")
    try:
        definition = Definition.model_validate(values)
    except ValidationError as error:
        raise InputError(f"study {path}: {first_problem(error, Definition)}") from None
    for problem in coercions(Definition, values):
        raise InputError(f"study {path}: {problem}")
    return definition


def trials(
    definition: Definition, out: Path, *, ds_config: Path, ranks: int | None, overrides: Sequence[str]
) -> list[Trial]:
    """Return every training, seed after seed, so that an unfinished study has all models with its first seeds."""
    owned = ("run", "training.seed")
    for override in overrides:
        if override.partition("=")[0] in owned:
            raise InputError(f"{without_secrets(override)}: a study chooses {' and '.join(owned)} itself: leave it out")

    def run(model: str, seed: int) -> Path:
        return out / f"{slug(model)}-seed{seed}"

    return [
        Trial(
            model,
            seed,
            Job(
                recipe=recipe,
                overrides=[
                    *definition.overrides,
                    *definition.only.get(model, ()),
                    *overrides,
                    *(
                        f"references.{name}.model={run(read, seed)}"
                        for name, read in definition.after.get(model, {}).items()
                    ),
                    f"training.seed={seed}",
                    f"run={run(model, seed)}",
                ],
                ds_config=ds_config,
                ranks=ranks,
            ),
        )
        for seed in definition.seeds
        for model, recipe in definition.models.items()
    ]
