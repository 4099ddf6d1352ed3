"""Configure the objective `cat` in a recipe (models/objectives/cat.py)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from models.objectives.config import ObjectiveConfig, WholeRecipe
from shards.errors import InputError

if TYPE_CHECKING:
    from models.network import Network
    from models.objectives.cat import Cat


class CatConfig(ObjectiveConfig):
    """Configure CAT. Defaults are the numbers of Liang et al. (2022b)."""

    name: Literal["cat"] = "cat"
    vision_to_summary: float = Field(default=1.0, ge=0, description="weight of the summary written from images alone")
    masked_regions: float = Field(default=1.0, ge=0, description="weight of the masked regions' classes")
    mask_share: float = Field(default=0.15, gt=0, le=1, description="share of an article's regions that are masked")
    classes: int = Field(
        default=64, ge=2, le=65_536, description="classes of regions (models/losses/region_classes.py)"
    )
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)

    def check(self, recipe: WholeRecipe) -> None:
        """Refuse a network that sees nothing."""
        if recipe.network.joint is not None:
            raise InputError(
                "objective cat masks regions of a visual encoder: set network.fusion.kind to late, or take mms_mxls"
            )
        if not recipe.network.vision.enabled:
            raise InputError("objective cat is about images: set network.vision.enabled to true, or take mms_mxls")

    def build(self, network: "Network", references: "Mapping[str, Network]" = MappingProxyType({})) -> "Cat":
        from models.objectives.cat import Cat

        return Cat(self, network)
