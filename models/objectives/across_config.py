"""Configure the objective `across` in a recipe (models/objectives/across.py)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from models.objectives.config import ObjectiveConfig

if TYPE_CHECKING:
    from models.network import Network
    from models.objectives.across import Across


class AcrossConfig(ObjectiveConfig):
    """Configure ACROSS. Defaults are the full method with the paper's numbers (section 4.3)."""

    reference_names: ClassVar[tuple[str, ...]] = ("mls",)

    name: Literal["across"] = "across"
    contrast: bool = Field(default=True, description="align encoder states, Eq. 5 (`ctr`)")
    consistency: bool = Field(default=True, description="align output distributions, Eq. 8 (`con`)")
    alpha: float = Field(default=1.0, gt=0, description="weight of the cross-entropy, Eq. 9")
    beta: float = Field(default=1.0, ge=0, description="weight of the contrast, Eq. 9")
    gamma: float = Field(default=2.0, ge=0, description="weight of the consistency, Eq. 9")
    temperature: float = Field(default=0.1, gt=0, description="tau of Eq. 5")
    negatives: int = Field(default=1024, ge=1, le=1_048_576, description="documents that Eq. 5 compares with")
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)

    def build(self, network: "Network", references: "Mapping[str, Network]" = MappingProxyType({})) -> "Across":
        from models.objectives.across import Across

        return Across(self, network, references)
