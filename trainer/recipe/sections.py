"""Declare the sections of a recipe that all objectives share: keys, defaults and bounds."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from shards.batch.reader import Reader, ReaderConfig
from shards.format.index import Corpus
from shards.format.stores import open_storage
from shards.locations import CorpusLocation, GuardFile, LocalPath, ModelLocation
from shards.stream.images import ImageRule
from shards.text.start_tokens import StartTokens

#: The largest seed that torch takes.
MOST_SEED = 2**64 - 1
#: Bounds that no hardware approaches; values beyond them would fail in torch or the system, perhaps an hour later.
#: Count: of steps, examples, checkpoints.
Count = Annotated[int, Field(gt=0, le=2**31 - 1)]
Seconds = Annotated[int, Field(gt=0, le=31_536_000)]  # a year; the waits of threads and sockets end with 292
Threads = Annotated[int, Field(ge=0, le=1024)]
Rows = Annotated[int, Field(gt=0, le=1_048_576)]


class Section(BaseModel):
    """Base of a recipe's sections: frozen, without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class CorpusSection(Section):
    path: CorpusLocation = Field(
        description="a directory that `d2tv prepare` finished, or an http(s):// or s3:// URL of one"
    )
    tokenizer: ModelLocation | None = Field(None, description="a tokenizer directory or hub id; null: the corpus' own")
    start_tokens: StartTokens = Field(
        "published",
        description="which of mT5's sentinels begin whose summaries: CrossSum's map, or the one in the tokenizer's "
        "config.json; alphabetical: from <extra_id_0> on in the order of the languages' names",
    )
    images: Literal["source", "target"] = Field(
        "source",
        description="V, the images of both branches: the source article's, and in training the target's where it has "
        "none; target: the target's where it has any, else the source's, in evaluation too",
    )
    most_examples: Mapping[str, Annotated[int, Field(ge=0)]] = Field(
        {},
        description="pattern of directions -> how many training examples of each are used, as if the corpus had no "
        "more; augmented documents stay",
    )

    def image_rule(self, *, training: bool) -> ImageRule:
        """Return the rule for a row's images. In evaluation a source's images alone count: a user has no others."""
        if self.images == "target":
            return "target_or_source"
        return "source_or_target" if training else "source"


class ReferenceSection(Section):
    """A frozen network that the objective reads. Its tensors are in no checkpoint; its hash is."""

    model: LocalPath = Field(
        description="a run, a checkpoint, an exported model, or a Hugging Face directory of an mT5 or mBART"
    )
    initialises: bool = Field(False, description="true: the network starts from its weights")


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
    """Cadence and retention of checkpoints. One is saved at the end and at a signal as well."""

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

    def open(self, corpus: Corpus) -> Reader:
        """Open a reader of the corpus' shards, wherever they are. Raise `InputError` as `open_storage` does."""
        cache_bytes = self.cache_bytes if self.cache else None
        storage = open_storage(corpus, max_open_files=self.max_open_files, cache=self.cache, cache_bytes=cache_bytes)
        return Reader(corpus, self, storage)


class ValidationSection(Section):
    examples_per_kind: Count = Field(512, description="held-out examples of each kind, MMS and MXLS")
    batch_size: Rows = 64


class PrometheusSection(Section):
    """Serve the metrics of docs/metrics.md. No failure here ends a run."""

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
    """Trackers that receive the numbers of metrics.jsonl, through extras. No failure there ends a run."""

    tensorboard: bool = Field(False, description="event files in <run>/tensorboard")
    wandb: str | None = Field(None, min_length=1, description="a Weights & Biases project; WANDB_* variables count")
