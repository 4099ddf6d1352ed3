"""Configure the objective `retrieval` in a recipe (models/objectives/retrieval.py)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Literal

from models.objectives.config import ObjectiveConfig, WholeRecipe

if TYPE_CHECKING:
    from models.network import Network
    from models.objectives.retrieval import Retrieval


class RetrievalConfig(ObjectiveConfig):
    """Configure retrieval. The head is new, wherever the network begins."""

    early: ClassVar[bool] = True
    tasks: ClassVar[frozenset[str]] = ObjectiveConfig.tasks | {"retrieval"}

    name: Literal["retrieval"] = "retrieval"

    def check(self, recipe: WholeRecipe) -> None:
        """Refuse a network that does not read images and text together, and a choice by what is not measured."""
        self.check_early(recipe)
        self.check_unwritten(recipe)

    def build(self, network: "Network", references: "Mapping[str, Network]" = MappingProxyType({})) -> "Retrieval":
        """Return the objective around `network`."""
        from models.objectives.retrieval import Retrieval

        return Retrieval(self, network)
