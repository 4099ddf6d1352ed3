"""Configure the objective `amid_summary` in a recipe (models/objectives/amid_summary.py)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from models.config import NetworkConfig, VisionConfig
from models.objectives.amid_config import AmidKeys
from models.objectives.config import WholeRecipe
from shards.errors import InputError

if TYPE_CHECKING:
    from models.network import Network
    from models.objectives.amid_summary import AmidSummary


class AmidSummaryConfig(AmidKeys):
    """Configure a summarizer that reads text alone and learns from one that sees."""

    name: Literal["amid_summary"] = "amid_summary"
    student: float = Field(default=1.0, gt=0, description="weight of the student's cross-entropy, Eq. 15")
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)

    @classmethod
    def product_of(cls, network: NetworkConfig) -> NetworkConfig:
        """Return the network without its vision: the student's."""
        return network.model_copy(update={"vision": VisionConfig(enabled=False)})

    def check(self, recipe: WholeRecipe) -> None:
        """Refuse a network without images, and one whose encoder reads them with the text."""
        super().check(recipe)
        if recipe.network.joint is not None:
            raise InputError(
                "objective amid_summary has a student that reads what its teacher's encoder says of the text alone: "
                "set network.fusion.kind to late"
            )

    def build(self, network: "Network", references: "Mapping[str, Network]" = MappingProxyType({})) -> "AmidSummary":
        """Return the objective around `network`, the teacher."""
        from models.objectives.amid_summary import AmidSummary

        return AmidSummary(self, network)
