"""A recipe: one YAML file that holds everything a run needs except the DeepSpeed keys.

Read strictly: an unknown key is an error that suggests the right one. `extends: NAME` takes another
recipe's values where a file gives none; trailing `key=value` words override both. A leading ~ of a path is the home
directory.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, field_validator, model_validator

from models.config import NetworkConfig
from models.decoding import Decoding
from models.objectives import ObjectiveConfig, objective_types
from shards.errors import InputError
from shards.locations import (
    CorpusLocation,
    GuardFile,
    LocalPath,
    ModelLocation,
    holds_secret,
    model_location,
    without_secrets,
)
from shards.mixture import MixtureConfig
from shards.reader import ReaderConfig
from shards.strict_yaml import write_yaml
from trainer.recipe_problems import first_problem
from trainer.recipe_values import RECIPES, coercions, read_values, recipe_names, set_override, split_override

__all__ = ["RECIPES", "Recipe", "Section", "load_recipe", "recipe_names"]

#: The largest seed that torch takes.
MOST_SEED = 2**64 - 1
#: Bounds where no library has one: no hardware comes near, and what lies beyond would end in an error of torch or of
#: the system, an hour later perhaps. Count: of steps, examples, checkpoints.
Count = Annotated[int, Field(gt=0, le=2**31 - 1)]
Seconds = Annotated[int, Field(gt=0, le=31_536_000)]  # a year; the waits of threads and sockets end with 292
Threads = Annotated[int, Field(ge=0, le=1024)]
Rows = Annotated[int, Field(gt=0, le=1_048_576)]


class Section(BaseModel):
    """A part of a recipe: frozen, and closed to keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class CorpusSection(Section):
    path: CorpusLocation = Field(
        description="a directory that `d2tv prepare` finished, or an http(s):// or s3:// URL of one"
    )
    tokenizer: ModelLocation | None = Field(None, description="a tokenizer directory or hub id; null: the corpus' own")


class LengthsSection(Section):
    document: int = Field(
        512, ge=2, le=1_048_576, description="tokens of a document, end token included (Appendix B: 512)"
    )
    summary: int = Field(84, ge=2, le=65_536, description="tokens of a summary, end token included (Appendix B: 84)")


class BatchSection(Section):
    group_size: int = Field(
        gt=0, le=65_536, description="G: examples of one target language, each other's negatives (Eq. 9)"
    )
    groups_per_step: Rows = Field(description="groups an optimizer step, over all ranks and micro-steps")
    groups_per_micro_batch: Rows = Field(description="groups a forward pass of one rank")
    sources_per_target: Rows = Field(
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
    warmup_steps: int = Field(2000, ge=0, le=2**31 - 1, description="Table 5: 2,000")


class TrainingSection(Section):
    steps: Count = Field(description="optimizer steps (Table 5: 10,000)")
    seed: int = Field(0, ge=0, le=MOST_SEED)
    precision: Literal["fp32", "bf16", "fp16"] | None = Field(
        None, description="fills in what --ds_config leaves open; null: what --ds_config enables, else fp32"
    )
    log_every: Count = 10
    validate_every: Count = 500
    max_skipped_steps: Count = Field(
        20, description="non-finite steps in a row after which the run goes back to its last checkpoint, once"
    )
    spike_deviations: float | None = Field(
        6.0, gt=0, description="a logged loss so many deviations above the last ones' median is reported; null: none is"
    )
    activation_checkpointing: bool = Field(False, description="compute layers twice: less memory, more time")
    compile: bool = Field(False, description="run the layers through torch.compile; the first steps take minutes")
    threads_per_rank: int | None = Field(
        None, gt=0, le=1024, description="intra-op threads; null: the host's cores shared"
    )


class CheckpointSection(Section):
    """When state is saved, and which checkpoints stay. One is saved at the end and at a signal as well."""

    every: Count = Field(500, description="steps between checkpoints")
    keep_last: Count = Field(2, description="the newest so many stay")
    keep_every: Count | None = Field(None, description="those of steps that this divides stay for good")
    keep_best: Literal["mms", "mxls", "mean"] | None = Field(
        None, description="the one of the lowest held-out NLL of this kind (mean: of both kinds' mean) stays, too"
    )


class WatchdogSection(Section):
    """Seconds without progress after which a run is ended with the stacks of all ranks (exit code 60)."""

    enabled: bool = True
    start: Seconds = Field(1800, description="until the first step: joining, loading, compiling")
    step: Seconds = Field(600, description="one optimizer step")
    checkpoint: Seconds = Field(1800, description="waiting for a checkpoint to be written")
    evaluation: Seconds = Field(1800, description="one batch of validation or decoding, and its scoring")


class LoaderSection(ReaderConfig, Section):
    threads: Threads = Field(2, description="collating threads a rank; 0 collates in the training thread")
    prefetch: int = Field(4, ge=0, le=65_536, description="micro-batches read ahead")
    cache: LocalPath | None = Field(
        None, description="where whole shards of a remote corpus are kept; null: not at all"
    )
    cache_bytes: PositiveInt = Field(100_000_000_000, description="and how much of them a host keeps")
    max_unreadable_share: float = Field(
        1e-4, ge=0, lt=1, description="examples that may be unreadable; one always may, unless this is 0"
    )


class ValidationSection(Section):
    examples_per_kind: Count = Field(512, description="held-out examples of each kind, MMS and MXLS")
    batch_size: Rows = 64


class EvaluationSection(Section):
    """What happens after the last step (`d2tv evaluate` does it again with other directions)."""

    directions: str = Field("all", description="all, mms, mxls, or a list like en-ru,*-ur")
    examples_per_kind: Count | None = Field(None, description="MMS and MXLS each; null: every held-out example")
    batch_size: Rows = 32
    num_beams: int = Field(4, gt=0, le=1024, description="Appendix B: 4; 1: greedy")
    length_penalty: float = Field(0.6, ge=-10, le=10, description="Appendix B: 0.6")
    temperature: float | None = Field(None, gt=0, description="with num_beams=1: draw words at this temperature")
    top_p: float = Field(1.0, gt=0, le=1, description="of the likeliest words that together have this probability")
    seed: int = Field(0, ge=0, le=MOST_SEED, description="of what is drawn")
    labse: LocalPath | None = Field(
        None, description="directory of LaBSE: meaning similarity and LaSE are scored as well"
    )
    bertscore: LocalPath | None = Field(
        None, description="directory of an encoder: BERTScore as well (d2tv[bertscore])"
    )

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
    targets: LocalPath | None = Field(
        None, description="directory of file_sd targets, one file an endpoint; null: targets/ beside the run directory"
    )
    certificate: GuardFile | None = Field(
        None, description="PEM file: serve https; it is read again when it is replaced"
    )
    key: GuardFile | None = Field(None, description="its PEM key; null: in the same file")
    token_file: GuardFile | None = Field(None, description="serve only those who send the bearer token that it holds")
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
        config_type, _ = objective_types(self.name)
        return config_type.model_validate(self.model_dump())


class Recipe(Section):
    """The whole recipe. `run` is the directory that receives everything the run writes."""

    run: LocalPath = Field(description="run directory: recipe, metrics.jsonl, checkpoints, evaluation")
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

    @field_validator("network", mode="before")
    @classmethod
    def _pretrained_is_a_place(cls, value: Any) -> Any:
        """Read network.text.pretrained as corpus.tokenizer is: models/ knows nothing of directories."""
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
    def _slots_are_numbers(self) -> "Recipe":
        slots = self.training.steps * self.batch.groups_per_step * self.batch.group_size
        if slots >= 2**62:
            raise ValueError(
                f"training.steps x batch.groups_per_step x batch.group_size are {slots:.3g} examples, and none has a "
                "number beyond 2^62: lower one of them"
            )
        return self

    def dump(self) -> str:
        """Return the resolved recipe as YAML, which `load_recipe` reads back to the same recipe."""
        return write_yaml(self.model_dump(mode="json"))


def load_recipe(name_or_path: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe by name or path, with `section.key=value` overrides.

    An override is read as its key's type says: where that is text, a path or one of several words, the value is taken
    literally, spaces and # included; `a,b` or `[a, b]` is a list; anything else is YAML. `null`, or nothing, is null
    where a key may be null. Raises `InputError`, one line, for a recipe or key that does not exist, a value that does
    not fit, and a URL with a password or signature in it, which every run would save.
    """
    values = read_values(name_or_path)
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


def validated(values: Mapping[str, Any], where: str) -> Recipe:
    """Return the recipe of `values`, as YAML gives them. Raises `InputError`, one line; `where` begins most of them."""
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
    config_type, _ = objective_types(recipe.objective.name)
    try:
        settings = recipe.objective.settings()
        settings.check(recipe.network)
    except ValidationError as error:
        raise InputError(f"{where}: {first_problem(error, config_type, 'objective.')}") from None
    for problem in (*coercions(Recipe, values), *coercions(config_type, values["objective"], "objective.")):
        raise InputError(f"{where}: {problem}")
    # With the defaults it did not name, so that a saved recipe says all that it stood for.
    return recipe.model_copy(update={"objective": ObjectiveSection.model_validate(settings.model_dump())})


def _objective_config(values: Mapping[str, Any], words: Sequence[tuple[str, str]]) -> type[ObjectiveConfig] | None:
    """Return the configuration of the objective that the recipe will have; None where its name is missing or unknown,
    of which validation speaks."""
    section = values.get("objective")
    names = [text for key, text in words if key == "objective.name"]
    name = names[-1] if names else section.get("name") if isinstance(section, dict) else None
    try:
        return objective_types(str(name))[0]
    except InputError:
        return None


def _texts(values: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Give every text of a recipe with the key it is at, keys of mappings too."""
    if isinstance(values, str):
        yield place, values
    elif isinstance(values, dict):
        for key, value in values.items():
            yield place or "a key", key
            yield from _texts(value, f"{place}.{key}" if place else key)
    elif isinstance(values, list):
        for value in values:
            yield from _texts(value, place)
