"""Configure the objective `classification` in a recipe (models/objectives/classification.py)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from models.objectives.config import WholeRecipe
from models.objectives.labelled_config import LabelledConfig

if TYPE_CHECKING:
    from models.network import Network
    from models.objectives.classification import Classification


class ClassificationConfig(LabelledConfig):
    """Configure classification. The head is new, wherever the network begins."""

    early: ClassVar[bool] = True
    tasks: ClassVar[frozenset[str]] = frozenset({"classification"})
    name: Literal["classification"] = "classification"
    head: Literal["mlp", "linear"] = Field(
        default="mlp", description="on the state at [CLS]; mlp: one hidden layer, twice as wide as the state"
    )
    dropout: float = Field(default=0.1, ge=0, lt=1, description="of the state at [CLS]")

    def check(self, recipe: WholeRecipe) -> None:
        """Refuse what no classifier can be trained by, and a network of late fusion."""
        super().check(recipe)
        self.check_early(recipe)

    def build(self, network: "Network", references: "Mapping[str, Network]" = MappingProxyType({})) -> "Classification":
        """Return the objective around `network`."""
        from models.objectives.classification import Classification

        return Classification(self, network)
