"""What a recipe may say about the network. Unknown keys are errors; the paper's numbers are the defaults.

Sizes of a pretrained backbone come from its checkpoint, so a recipe gives either `pretrained` or sizes.
"""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

_SIZES = ("d_model", "d_ff", "d_kv", "num_heads", "num_layers")


class StrictConfig(BaseModel):
    """A frozen mapping in which an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TextConfig(StrictConfig):
    """The mT5 encoder and decoder (paper section 2.2): a checkpoint, or the sizes of a random one."""

    pretrained: str | None = Field(default=None, description="local directory or hub id of an mT5 checkpoint")
    d_model: int | None = Field(default=None, gt=0, description="D, hidden width")
    d_ff: int | None = Field(default=None, gt=0, description="width of the feed-forward layers")
    d_kv: int | None = Field(default=None, gt=0, description="width of one attention head")
    num_heads: int | None = Field(default=None, gt=0)
    num_layers: int | None = Field(default=None, gt=0, description="N_e, encoder layers")
    num_decoder_layers: int | None = Field(default=None, gt=0, description="N_d; None: as many as num_layers")
    relative_attention_num_buckets: int | None = Field(default=None, gt=0, description="None: mT5's 32")
    relative_attention_max_distance: int | None = Field(default=None, gt=0, description="None: mT5's 128")
    feed_forward_proj: str | None = Field(default=None, description="None: mT5's gated-gelu")
    dropout: float = Field(default=0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _checkpoint_or_sizes(self) -> Self:
        given = [n for n in type(self).model_fields if n not in ("pretrained", "dropout") and getattr(self, n)]
        if self.pretrained is not None and given:
            raise ValueError(f"{', '.join(given)}: a pretrained backbone brings its own; remove them")
        missing = [n for n in _SIZES if getattr(self, n) is None]
        if self.pretrained is None and missing:
            raise ValueError(f"give either pretrained or the sizes {', '.join(missing)}")
        return self


class VisionConfig(StrictConfig):
    """The visual encoder (paper section 2.2, Table 5)."""

    enabled: bool = Field(default=True, description="false: no visual parameters (Table 2, w/o visual features)")
    feature_size: int = Field(default=2048, gt=0, description="V, width of a stored region feature (d_v)")
    hidden_size: int | None = Field(
        default=None,
        gt=0,
        description="width of the encoder; None: feature_size, the paper's form; else one Linear before",
    )
    num_layers: int = Field(default=4, gt=0, description="N_v")
    num_heads: int = Field(default=8, gt=0)
    ffn_size: int = Field(default=2048, gt=0)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    max_images: int = Field(default=5, gt=0, description="n, images an article")
    regions: int = Field(default=36, gt=0, description="m, regions an image")

    @property
    def width(self) -> int:
        """Hidden width of the visual encoder."""
        return self.hidden_size or self.feature_size

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.width % self.num_heads:
            raise ValueError(f"num_heads {self.num_heads} does not divide the visual width {self.width}")
        return self


class FusionConfig(StrictConfig):
    """Text-vision fusion (paper section 2.2)."""

    hidden_size: int = Field(default=256, gt=0, description="C, common width of the cross-modal attention (d_c)")
    num_heads: int = Field(default=8, gt=0)
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
