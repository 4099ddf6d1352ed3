"""Configure the network and decoding in a recipe. Unknown keys are errors; the paper's numbers are the
defaults. Imports no torch, so that a command that only reads a recipe starts at once.

Sizes of a pretrained backbone come from its checkpoint, so a recipe gives either `pretrained`, or the sizes of a
random one, or the `shape` that names them.
"""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from models.shapes import PATCHES, SHAPES, VisualForm, VisualInputs

Architecture = Literal["mt5", "mbart"]
ShapeName = Literal["mt5_small", "mt5_base", "mt5_large", "mbart50_large"]
#: How far apart states of teacher and student are (models/losses/distillation.py).
Distance = Literal["cosine", "mse", "kl"]
#: Summaries that an image sequence is contrasted with: its group's, or those of the micro-batches of all ranks.
Negatives = Literal["group", "global"]

#: Sizes that a random backbone needs, and those that only one architecture has.
_NEEDED = ("d_model", "d_ff", "num_heads", "num_layers")
_OWN: dict[Architecture, tuple[str, ...]] = {
    "mt5": ("d_kv", "relative_attention_num_buckets", "relative_attention_max_distance", "feed_forward_proj"),
    "mbart": ("max_position_embeddings",),
}
_NAMES = {"mt5": "mT5", "mbart": "mBART"}


class StrictConfig(BaseModel):
    """A frozen mapping in which an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TextConfig(StrictConfig):
    """The text encoder and decoder (paper section 2.2), mT5 or mBART-50: a checkpoint, or the sizes of a random one."""

    pretrained: str | None = Field(default=None, description="local directory or hub id of an mT5 or mBART checkpoint")
    architecture: Architecture | None = Field(
        default=None, description="None: the checkpoint's own, and mt5 for random weights"
    )
    shape: ShapeName | None = Field(default=None, description="names the sizes of a random backbone")
    d_model: int | None = Field(default=None, gt=0, le=65_536, description="D, hidden width")
    d_ff: int | None = Field(default=None, gt=0, le=1_048_576, description="width of the feed-forward layers")
    d_kv: int | None = Field(default=None, gt=0, le=65_536, description="width of one attention head; mT5 only")
    num_heads: int | None = Field(default=None, gt=0, le=4_096)
    num_layers: int | None = Field(default=None, gt=0, le=1_024, description="N_e, encoder layers")
    num_decoder_layers: int | None = Field(default=None, gt=0, le=1_024, description="N_d; None: as many as num_layers")
    relative_attention_num_buckets: int | None = Field(
        default=None, ge=4, le=65_536, description="None: mT5's 32; mT5 only"
    )
    relative_attention_max_distance: int | None = Field(
        default=None, gt=0, le=2_147_483_647, description="None: mT5's 128; mT5 only"
    )
    feed_forward_proj: Literal["relu", "gelu", "silu", "gated-relu", "gated-gelu", "gated-silu"] | None = Field(
        default=None, description="None: mT5's gated-gelu; mT5 only"
    )
    max_position_embeddings: int | None = Field(
        default=None, gt=0, le=1_048_576, description="longest text in tokens; None: mBART's 1024; mBART only"
    )
    tie_word_embeddings: bool = Field(
        default=False, description="true: the head of a random backbone is its embeddings, which suits small networks"
    )
    copying_start: bool = Field(
        default=False,
        description="true: the cross-attention of a random backbone starts by adding what it looks at, which a tied "
        "head then writes; mBART only",
    )
    dropout: float = Field(default=0.1, ge=0, lt=1)
    attention_dropout: float | None = Field(
        default=None, ge=0, lt=1, description="of attention probabilities; None: as `dropout`"
    )
    reset_start_tokens: Literal["pad", "random"] | None = Field(
        default=None,
        description="of a pretrained mT5, before training: embeddings of the start tokens to that of padding, or to "
        "normal noise; null: what the checkpoint has",
    )

    @property
    def attention_rate(self) -> float:
        """Dropout of attention probabilities."""
        return self.dropout if self.attention_dropout is None else self.attention_dropout

    @model_validator(mode="before")
    @classmethod
    def _spell_out_shape(cls, values: Any) -> Any:
        """Replace a shape's name by its sizes, so that a saved recipe holds all that it stands for."""
        if not isinstance(values, dict) or not isinstance(values.get("shape"), str) or values["shape"] not in SHAPES:
            return values  # what is wrong with it, its field's own type will say
        shape = values["shape"]
        sizes = SHAPES[shape]
        given = [name for name in ("pretrained", *_sizes()) if values.get(name) is not None]
        if given:
            raise ValueError(f"{', '.join(given)}: shape {shape} sets all of a random backbone; remove them or shape")
        if values.get("architecture") not in (None, sizes["architecture"]):
            raise ValueError(f"shape {shape} is of architecture {sizes['architecture']}; remove architecture")
        return {**values, "shape": None, **sizes}

    @model_validator(mode="after")
    def _checkpoint_or_sizes(self) -> Self:
        given = [name for name in _sizes() if getattr(self, name) is not None]
        if self.pretrained is not None:
            if given:
                raise ValueError(f"{', '.join(given)}: a pretrained backbone brings its own; remove them")
            if self.tie_word_embeddings:
                raise ValueError("tie_word_embeddings: a pretrained backbone brings a head of its own; remove it")
            if self.copying_start:
                raise ValueError("copying_start: a pretrained backbone brings its own weights; remove it")
            return self
        if self.reset_start_tokens is not None:
            raise ValueError("reset_start_tokens: random weights have nothing to reset; remove it")
        architecture = self.architecture or "mt5"
        foreign = [name for other, names in _OWN.items() if other != architecture for name in names if name in given]
        if foreign:
            raise ValueError(f"{', '.join(foreign)}: {_NAMES[architecture]} has no such size; remove it")
        if self.copying_start and architecture != "mbart":
            raise ValueError("copying_start: mT5's embeddings are too small to be copied; set architecture to mbart")
        if self.copying_start and not self.tie_word_embeddings:
            raise ValueError("copying_start: without tie_word_embeddings no head writes what is copied; set it to true")
        needed = (*_NEEDED, "d_kv") if architecture == "mt5" else _NEEDED
        missing = [name for name in needed if name not in given]
        if missing:
            raise ValueError(f"give either pretrained or the sizes {', '.join(missing)} (or shape, which names them)")
        buckets, distance = self.relative_attention_num_buckets or 32, self.relative_attention_max_distance or 128
        if architecture == "mt5" and distance <= buckets // 2:
            raise ValueError(
                f"relative_attention_max_distance {distance} must be above half of the {buckets} buckets, which the "
                "first distances have for themselves"
            )
        if architecture == "mbart" and self.d_model and self.num_heads and self.d_model % self.num_heads:
            raise ValueError(f"num_heads {self.num_heads} does not divide mBART's d_model {self.d_model}")
        return self


def _sizes() -> tuple[str, ...]:
    """Keys of `TextConfig` that describe a random backbone."""
    others = (
        "pretrained",
        "architecture",
        "shape",
        "tie_word_embeddings",
        "copying_start",
        "dropout",
        "attention_dropout",
        "reset_start_tokens",
    )
    return tuple(name for name in TextConfig.model_fields if name not in others)


class VisionConfig(StrictConfig):
    """The visual encoder (paper section 2.2, Table 5)."""

    enabled: bool = Field(default=True, description="false: no visual parameters (Table 2, w/o visual features)")
    feature_size: int = Field(default=2048, gt=0, le=65_536, description="V, width of a stored region feature (d_v)")
    hidden_size: int | None = Field(
        default=None,
        gt=0,
        le=65_536,
        description="width of the encoder; None: feature_size, the paper's form; else one Linear before",
    )
    feature_scale: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="of the features before the Linear of hidden_size, whose first weights are divided by it: Adam "
        "moves 2,048 weights an output at once, too far at the rates of a small network",
    )
    num_layers: int = Field(default=4, gt=0, le=1_024, description="N_v")
    num_heads: int = Field(default=8, gt=0, le=4_096)
    ffn_size: int = Field(default=2048, gt=0, le=1_048_576)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    inputs: VisualInputs = Field(
        default="regions",
        description="what is read of an image, the last two by early fusion alone: regions, its stored features; "
        "patches, squares of its pixels; both",
    )
    max_images: int = Field(default=5, gt=0, le=1_024, description="n, images an article")
    regions: int = Field(default=36, gt=0, le=65_536, description="m, regions an image")

    def reads(self, inputs: VisualInputs) -> bool:
        """Return True if images are read as `inputs`, perhaps among others."""
        return self.enabled and self.inputs in (inputs, "both")

    @property
    def width(self) -> int:
        """Hidden width of the visual encoder."""
        return self.hidden_size or self.feature_size

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if self.width % self.num_heads:
            raise ValueError(f"num_heads {self.num_heads} does not divide the visual width {self.width}")
        if self.feature_scale != 1 and self.hidden_size is None:
            raise ValueError("feature_scale: without hidden_size no Linear follows the features; remove it")
        return self


class FusionConfig(StrictConfig):
    """Text-vision fusion: late as D²TV's (section 2.2), or early as RC³'s, which has no parameters of its own."""

    kind: Literal["late", "early"] = Field(
        default="late",
        description="late: a visual encoder, and cross-modal attention from the text's states; early: the text encoder "
        "reads the images' regions before the words; the keys below and the layers of network.vision are then idle",
    )

    hidden_size: int = Field(
        default=256, gt=0, le=65_536, description="C, common width of the cross-modal attention (d_c)"
    )
    num_heads: int = Field(default=8, gt=0, le=4_096)
    visual_start: float = Field(
        default=0.0,
        ge=0,
        le=100,
        description="the visual half of W_z starts as this times the identity: 0 keeps what a pretrained decoder "
        "knows, with more a random one sees images from the first step",
    )
    dropout: float = Field(default=0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.hidden_size % self.num_heads:
            raise ValueError(f"num_heads {self.num_heads} does not divide hidden_size {self.hidden_size}")
        return self


class NetworkConfig(StrictConfig):
    """The whole network: backbone, visual encoder, fusion."""

    text: TextConfig
    vision: VisionConfig = Field(default_factory=VisionConfig)
    fusion: FusionConfig = Field(default_factory=FusionConfig)

    @property
    def joint(self) -> VisualForm | None:
        """Return the visual tokens that the encoder reads before the words; None where images come to its states."""
        if not self.vision.enabled or self.fusion.kind == "late":
            return None
        return self.form(self.vision.inputs)

    @property
    def needs(self) -> frozenset[str]:
        """Name the fields of `Batch` that the network reads beside those that every batch has."""
        return frozenset({"pixels"} if self.vision.reads("patches") else ())

    def form(self, inputs: VisualInputs) -> VisualForm:
        """Return the visual tokens of an image that is read as `inputs`."""
        return VisualForm(
            regions=0 if inputs == "patches" else self.vision.regions, patches=0 if inputs == "regions" else PATCHES
        )

    @model_validator(mode="after")
    def _patches_are_read(self) -> Self:
        if self.vision.reads("patches") and self.fusion.kind == "late":
            raise ValueError(
                f"vision.inputs {self.vision.inputs}: the visual encoder of late fusion reads regions; set fusion.kind "
                "to early"
            )
        return self


class Decoding(StrictConfig):
    """Beam search, greedy search (one beam) or sampling. Beam 4, penalty 0.6, 84 tokens: the paper's Appendix B."""

    num_beams: PositiveInt = 4
    length_penalty: float = 0.6
    no_repeat_ngram_size: int = Field(0, ge=0, le=1024, description="tokens that come in this order but once; 0: any")
    max_new_tokens: PositiveInt = 84
    temperature: float | None = Field(None, gt=0, description="draw from the distribution at this temperature")
    top_p: float = Field(1.0, gt=0, le=1, description="of the likeliest words that together have this probability")
    seed: int = Field(0, ge=0, description="of what is drawn")

    @model_validator(mode="after")
    def _draws_or_searches(self) -> "Decoding":
        if self.temperature is not None and self.num_beams > 1:
            raise ValueError("temperature draws words, num_beams searches for the likeliest: set num_beams to 1")
        if self.temperature is None and self.top_p < 1:
            raise ValueError("top_p says what is drawn from: set temperature, too")
        return self
