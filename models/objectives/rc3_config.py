"""Configure the objective `rc3` in a recipe (models/objectives/rc3.py)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from models.config import StrictConfig
from models.objectives.config import ObjectiveConfig, WholeRecipe
from models.shapes import VisualInputs
from shards.errors import InputError

if TYPE_CHECKING:
    from models.network import Network
    from models.objectives.rc3 import RC3


class Shares(StrictConfig):
    """Shares of the groups that are read as each kind of the paper's data (section 2.1)."""

    strict: float = Field(default=0.4, ge=0, le=1, description="D_s: images with names that translate each other")
    weak: float = Field(default=0.3, ge=0, le=1, description="D_w: images with texts that do not")
    parallel: float = Field(default=0.3, ge=0, le=1, description="D_t: names that translate each other, without images")

    @model_validator(mode="after")
    def _are_all(self) -> Self:
        if abs(self.strict + self.weak + self.parallel - 1) > 1e-6:
            raise ValueError(f"strict, weak and parallel add up to {self.strict + self.weak + self.parallel:g}, not 1")
        return self


class Inputs(StrictConfig):
    """Name what is read of the images of each kind of data, where it is less than `network.vision.inputs`."""

    strict: VisualInputs | None = Field(default=None, description="of the images of D_s; None: network.vision.inputs")
    weak: VisualInputs | None = Field(default=None, description="of the images of D_w, likewise")


class RC3Config(ObjectiveConfig):
    """Configure RC³. Defaults are the full method with the paper's numbers (section 2.3)."""

    early: ClassVar[bool] = True
    reads: ClassVar[Literal["source", "source_summary"]] = "source_summary"
    tasks: ClassVar[frozenset[str]] = ObjectiveConfig.tasks | {"retrieval"}

    name: Literal["rc3"] = "rc3"
    shares: Shares = Field(default_factory=Shares)
    inputs: Inputs = Field(default_factory=Inputs)
    masked: float = Field(default=0.15, gt=0, lt=1, description="share of a name's tokens that Eqs. 1 and 2 hide")
    textual_contrast: bool = Field(default=True, description="XTCL, Eq. 8")
    contrast: bool = Field(default=True, description="R-XVtCL, Eq. 13")
    relevance: bool = Field(default=True, description="KL of Eq. 12, for weakly aligned texts")
    slack: float = Field(default=0.9, ge=0, le=1, description="zeta of Eq. 6; 0: negatives as they are")
    history: int = Field(default=100, ge=1, le=1_000_000, description="taken steps that p_avg of Eq. 6 is the mean of")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)

    @property
    def needs(self) -> frozenset[str]:
        """Ask for the source article's summary: names are compared with names."""
        return frozenset({"source_summary"})

    def check(self, recipe: WholeRecipe) -> None:
        """Refuse a network that does not read images and text together."""
        self.check_early(recipe)
        read = recipe.network.vision.inputs
        for kind, inputs in self.inputs:
            if inputs not in (None, read) and read != "both":
                raise InputError(
                    f"objective.inputs.{kind} is {inputs}, but network.vision.inputs is {read}: set that to both"
                )

    def build(self, network: "Network", references: "Mapping[str, Network]" = MappingProxyType({})) -> "RC3":
        """Return the objective around `network`."""
        from models.objectives.rc3 import RC3

        return RC3(self, network)
