"""Configure the objective `d2tv` in a recipe (models/objectives/d2tv.py)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from models.config import Distance, Negatives
from models.objectives.config import ObjectiveConfig, WholeRecipe
from shards.errors import InputError

if TYPE_CHECKING:
    from models.network import Network
    from models.objectives.d2tv import D2TV


class D2TVConfig(ObjectiveConfig):
    """Configure D2TV. Defaults are the full method with the paper's numbers (section 3, Table 5; tau is ours)."""

    name: Literal["d2tv"] = "d2tv"
    branches: Literal["mms", "mxls", "both"] = "both"
    distillation: Literal["none", "vanilla", "dual"] = "dual"
    distance: Distance = "cosine"
    contrast: bool = True
    beta: float = Field(default=1.0, ge=0, description="weight of the contrastive term, Eq. 10")
    temperature: float = Field(default=0.1, gt=0, description="tau of Eq. 9")
    negatives: Negatives = Field(
        default="group", description="what Eq. 9 compares with: the group, or the micro-batches of all ranks"
    )
    alpha_steps: int = Field(default=5000, gt=0, description="T1 of Eq. 8, in optimizer steps")
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)

    def check(self, recipe: WholeRecipe) -> None:
        """Refuse distillation without both branches, and contrast without images."""
        if self.distillation != "none" and self.branches != "both":
            raise InputError(
                f"objective.distillation {self.distillation!r} needs teacher and student: set branches to 'both', "
                f"or distillation to 'none' to train {self.branches!r} alone"
            )
        if self.contrast and not recipe.network.vision.enabled:
            raise InputError(
                "objective.contrast compares images with summaries: set objective.contrast to false, "
                "or network.vision.enabled to true"
            )

    def build(self, network: "Network", references: Mapping[str, "Network"] = MappingProxyType({})) -> "D2TV":
        from models.objectives.d2tv import D2TV

        return D2TV(self, network)
