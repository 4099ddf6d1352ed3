"""A recipe: one YAML file that holds everything a run needs except the DeepSpeed keys.

Read strictly: an unknown key is an error that suggests the right one. `extends: NAME` takes another
recipe's values where a file gives none; trailing `key=value` words override both.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from models.config import Decoding, NetworkConfig
from models.objectives import objective_config
from models.objectives.config import ObjectiveConfig
from shards.errors import InputError, did_you_mean
from shards.mixture import MixtureConfig
from shards.reader import ReaderConfig

#: Where recipes are looked up by name.
RECIPES = Path(__file__).resolve().parent.parent / "launcher" / "recipes"


class Section(BaseModel):
    """A part of a recipe: frozen, and closed to keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class CorpusSection(Section):
    path: str = Field(description="a directory that `d2tv prepare` finished, or an http(s):// or s3:// URL of one")
    tokenizer: str | None = Field(None, description="a tokenizer directory or hub id; null: the corpus' own")


class LengthsSection(Section):
    document: int = Field(512, ge=2, description="tokens of a document, end token included (Appendix B: 512)")
    summary: int = Field(84, ge=2, description="tokens of a summary, end token included (Appendix B: 84)")


class BatchSection(Section):
    group_size: PositiveInt = Field(description="G: examples of one target language, each other's negatives (Eq. 9)")
    groups_per_step: PositiveInt = Field(description="groups an optimizer step, over all ranks and micro-steps")
    groups_per_micro_batch: PositiveInt = Field(description="groups a forward pass of one rank")
    sources_per_target: PositiveInt = Field(
        1, description="k: source documents a target article; a group then holds G / k, and the mixture counts those"
    )

    @model_validator(mode="after")
    def _divides(self) -> "BatchSection":
        size, k = self.group_size, self.sources_per_target
        if size % k:
            fitting = ", ".join(str(divisor) for divisor in range(1, size + 1) if size % divisor == 0)
            raise ValueError(
                f"sources_per_target={k} does not divide group_size={size}: set it to one of {fitting}, or group_size "
                f"to a multiple of {k}"
            )
        return self


class OptimizerSection(Section):
    learning_rate: float = Field(gt=0, description="at the end of the warm-up (Table 5: 2e-5 for mT5)")
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.998)
    eps: float = Field(1e-8, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    gradient_clipping: float = Field(1.0, ge=0, description="the largest global gradient norm; 0 for none")


class ScheduleSection(Section):
    kind: Literal["inverse_sqrt", "linear"] = "linear"
    warmup_steps: int = Field(2000, ge=0, description="Table 5: 2,000")


class TrainingSection(Section):
    steps: PositiveInt = Field(description="optimizer steps (Table 5: 10,000)")
    seed: int = Field(0, ge=0)
    precision: Literal["fp32", "bf16", "fp16"] | None = Field(
        None, description="fills in what --ds_config leaves open; null: what --ds_config enables, else fp32"
    )
    log_every: PositiveInt = 10
    validate_every: PositiveInt = 500
    max_skipped_steps: PositiveInt = Field(
        20, description="non-finite steps in a row after which the run goes back to its last checkpoint, once"
    )
    spike_deviations: float | None = Field(
        6.0, gt=0, description="a logged loss so many deviations above the last ones' median is reported; null: none is"
    )
    activation_checkpointing: bool = Field(False, description="compute layers twice: less memory, more time")
    compile: bool = Field(False, description="run the layers through torch.compile; the first steps take minutes")
    threads_per_rank: PositiveInt | None = Field(None, description="intra-op threads; null: the host's cores shared")


class CheckpointSection(Section):
    """When state is saved, and which checkpoints stay. One is saved at the end and at a signal as well."""

    every: PositiveInt = Field(500, description="steps between checkpoints")
    keep_last: PositiveInt = Field(2, description="the newest so many stay")
    keep_every: PositiveInt | None = Field(None, description="those of steps that this divides stay for good")
    keep_best: Literal["mms", "mxls", "mean"] | None = Field(
        None, description="the one of the lowest held-out NLL of this kind (mean: of both kinds' mean) stays, too"
    )


class WatchdogSection(Section):
    """Seconds without progress after which a run is ended with the stacks of all ranks (exit code 60)."""

    enabled: bool = True
    start: PositiveInt = Field(1800, description="until the first step: joining, loading, compiling")
    step: PositiveInt = Field(600, description="one optimizer step")
    checkpoint: PositiveInt = Field(1800, description="waiting for a checkpoint to be written")
    evaluation: PositiveInt = Field(1800, description="one batch of validation or decoding, and its scoring")


class LoaderSection(ReaderConfig, Section):
    threads: int = Field(2, ge=0, description="collating threads a rank; 0 collates in the training thread")
    prefetch: int = Field(4, ge=0, description="micro-batches read ahead")
    cache: Path | None = Field(None, description="where whole shards of a remote corpus are kept; null: not at all")
    cache_bytes: PositiveInt = Field(100_000_000_000, description="and how much of them a host keeps")
    max_unreadable_share: float = Field(
        1e-4, ge=0, lt=1, description="examples that may be unreadable; one always may, unless this is 0"
    )


class ValidationSection(Section):
    examples_per_kind: PositiveInt = Field(512, description="held-out examples of each kind, MMS and MXLS")
    batch_size: PositiveInt = 64


class EvaluationSection(Section):
    """What happens after the last step (`d2tv evaluate` does it again with other directions)."""

    directions: str = Field("all", description="all, mms, mxls, or a list like en-ru,*-ur")
    examples_per_kind: PositiveInt | None = Field(None, description="MMS and MXLS each; null: every held-out example")
    batch_size: PositiveInt = 32
    num_beams: PositiveInt = Field(4, description="Appendix B: 4; 1: greedy")
    length_penalty: float = Field(0.6, description="Appendix B: 0.6")
    temperature: float | None = Field(None, gt=0, description="with num_beams=1: draw words at this temperature")
    top_p: float = Field(1.0, gt=0, le=1, description="of the likeliest words that together have this probability")
    seed: int = Field(0, ge=0, description="of what is drawn")
    labse: Path | None = Field(None, description="directory of LaBSE: meaning similarity and LaSE are scored as well")
    bertscore: Path | None = Field(None, description="directory of an encoder: BERTScore as well (d2tv[bertscore])")

    @model_validator(mode="after")
    def _decodes(self) -> "EvaluationSection":
        self.decoding(1)
        return self

    def decoding(self, max_new_tokens: int) -> Decoding:
        """How summaries of at most so many tokens are written."""
        keys = set(Decoding.model_fields) - {"max_new_tokens"}
        return Decoding(max_new_tokens=max_new_tokens, **self.model_dump(include=keys))


class PrometheusSection(Section):
    """The metrics of docs/metrics.md. Nothing that goes wrong here ends a run."""

    enabled: bool = True
    address: str = Field("127.0.0.1", description="where to listen: an address, 0.0.0.0, or an interface like eth0")
    port: int = Field(9464, ge=0, le=65535, description="a free one is taken where this one is not free")
    targets: Path | None = Field(
        None, description="directory of file_sd targets, one file an endpoint; null: targets/ beside the run directory"
    )
    certificate: Path | None = Field(None, description="PEM file: serve https; it is read again when it is replaced")
    key: Path | None = Field(None, description="its PEM key; null: in the same file")
    token_file: Path | None = Field(None, description="serve only those who send the bearer token that it holds")
    direction_matrix: bool = Field(False, description="serve every direction, some 100 KB a gauge and scrape")
    last_scrape_seconds: float = Field(
        60.0, ge=0, description="at the end, how long to wait for a Prometheus that has been scraping to come once more"
    )

    @model_validator(mode="after")
    def _key_has_a_certificate(self) -> "PrometheusSection":
        if self.key is not None and self.certificate is None:
            raise ValueError("key is of no use without certificate: name both")
        return self


class TrackingSection(Section):
    """Where else the numbers of metrics.jsonl go, through extras. Nothing that goes wrong there ends a run."""

    tensorboard: bool = Field(False, description="event files in <run>/tensorboard")
    wandb: str | None = Field(None, min_length=1, description="a Weights & Biases project; WANDB_* variables count")


class ObjectiveSection(BaseModel):
    """`name` chooses the objective; the other keys are its own (models/objectives)."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str

    def settings(self) -> ObjectiveConfig:
        """The objective's own, validated configuration."""
        return objective_config(self.name).model_validate(self.model_dump())


class Recipe(Section):
    """The whole recipe. `run` is the directory that receives everything the run writes."""

    run: Path = Field(description="run directory: recipe, metrics.jsonl, checkpoints, evaluation")
    corpus: CorpusSection
    network: NetworkConfig
    objective: ObjectiveSection
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

    @model_validator(mode="after")
    def _best_is_measured(self) -> "Recipe":
        save, validate = self.checkpoint.every, self.training.validate_every
        if self.checkpoint.keep_best is not None and save % validate and validate % save:
            raise ValueError(
                f"checkpoint.keep_best wants checkpoints of validated steps, but checkpoint.every={save} and "
                f"training.validate_every={validate} seldom meet: make one a multiple of the other"
            )
        return self

    def dump(self) -> str:
        """The resolved recipe as YAML, which `load_recipe` reads back to the same recipe."""
        values = self.model_dump(mode="json")
        return str(yaml.dump(values, Dumper=_Yaml12Dumper, sort_keys=False, allow_unicode=True))


def load_recipe(name_or_path: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe by name or path, with `section.key=value` overrides.

    Raises `InputError`, one line, for a recipe or key that does not exist or a value that does not fit.
    """
    values = _read(name_or_path, seen=())
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise InputError(f"override {override!r} is not of the form key=value, like training.steps=100")
        # A leading * is an alias to YAML and "any language" to a person.
        value = text if text.startswith("*") else _parse_yaml(text, f"override {override!r}")
        _set(values, key, value)
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        raise InputError(f"recipe {name_or_path}: {_first_problem(error, Recipe)}") from error
    _check_url(recipe.corpus.path)
    config_type = objective_config(recipe.objective.name)
    try:
        settings = recipe.objective.settings()
        settings.check(recipe.network)
    except ValidationError as error:
        raise InputError(f"recipe {name_or_path}: {_first_problem(error, config_type, 'objective.')}") from error
    # With the defaults it did not name, so that a saved recipe says all that it stood for.
    return recipe.model_copy(update={"objective": ObjectiveSection.model_validate(settings.model_dump())})


def _check_url(path: str) -> None:
    """Refuse a URL that no server has, or that holds a secret: a run saves its recipe."""
    try:
        url = urlsplit(path)
    except ValueError as error:
        raise InputError(f"corpus.path={path} is no URL ({error})") from error
    if url.scheme and (url.password or url.query):
        raise InputError("corpus.path holds a password or a signature, which the run would save: use ~/.netrc instead")


def recipe_names() -> list[str]:
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def _read(name_or_path: str, seen: tuple[Path, ...]) -> dict[str, Any]:
    path = RECIPES / f"{name_or_path}.yaml"
    if not path.is_file():
        path = Path(name_or_path)
    if not path.is_file():
        near = did_you_mean(name_or_path, recipe_names())
        raise InputError(f"no recipe {name_or_path!r}{near}: a path, or one of {', '.join(recipe_names())}")
    if path in seen:
        raise InputError(f"recipe {path} extends itself")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"recipe {path} cannot be read: {error}") from error
    values = _parse_yaml(text, f"recipe {path}")
    if not isinstance(values, dict):
        raise InputError(f"recipe {path} is not a mapping of sections")
    parent = values.pop("extends", None)
    if parent is None:
        return values
    sibling = path.parent / f"{parent}.yaml"
    return _merge(_read(str(sibling) if sibling.is_file() else str(parent), (*seen, path)), values)


def _merge(base: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in extra.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        # Another objective has other keys: its parent's would be unknown to it.
        replaced = key == "objective" and both and value.get("name", merged[key].get("name")) != merged[key].get("name")
        merged[key] = _merge(merged[key], value) if both and not replaced else value
    return merged


def _set(values: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        inner = values.setdefault(section, {})
        if not isinstance(inner, dict):
            raise InputError(f"override {key}: {section!r} is a value, not a section")
        values = inner
    values[last] = value


class _Yaml12Loader(yaml.SafeLoader):
    """YAML 1.1's surprises removed: `no` stays a word (it is a language code), so does a date, and 1e-4 is a number."""


class _Yaml12Dumper(yaml.SafeDumper):
    """Quotes the words that either version of YAML would read as something else, 1e-4 among them."""


_SURPRISES = {f"tag:yaml.org,2002:{kind}" for kind in ("bool", "float", "timestamp")}
_Yaml12Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _SURPRISES]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Yaml12Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|false|False)$"), list("tTfF"))
for _class in (_Yaml12Loader, _Yaml12Dumper):
    _class.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$"),
        list("-+.0123456789"),
    )


def _parse_yaml(text: str, where: str) -> Any:
    try:
        return yaml.load(text, Loader=_Yaml12Loader)
    except yaml.YAMLError as error:
        raise InputError(f"{where} is not YAML: {' '.join(str(error).split())}") from error


def _first_problem(error: ValidationError, model: type[BaseModel], prefix: str = "") -> str:
    """The first thing wrong, in one line, with the closest right key for a wrong one."""
    problem = error.errors()[0]
    *sections, last = (str(part) for part in problem["loc"]) if problem["loc"] else ("",)
    where = prefix + ".".join((*sections, last))
    if problem["type"] == "extra_forbidden":
        return f"unknown key {where!r}{did_you_mean(last, _keys_at(model, sections))}"
    if problem["type"] == "missing":
        return f"key {where!r} is missing"
    message = " ".join(problem["msg"].removeprefix("Value error, ").split())
    value = problem["input"]
    return f"{where}: {message}" + (f" (got {value!r})" if isinstance(value, str | int | float | bool) else "")


def _keys_at(model: type[BaseModel], sections: Sequence[str]) -> list[str]:
    for section in sections:
        if section.isdigit():  # a place in a list, whose type was found with its key
            continue
        field = model.model_fields.get(section)
        inner = [field.annotation, *get_args(field.annotation)] if field else []
        models = [kind for kind in inner if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if not models:
            return []
        model = models[0]
    return list(model.model_fields)
