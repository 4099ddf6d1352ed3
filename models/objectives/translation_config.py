"""Configure the objective `translation` in a recipe (models/objectives/translation.py)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from models.objectives.config import ObjectiveConfig

if TYPE_CHECKING:
    from models.network import Network
    from models.objectives.translation import Translation


class TranslationConfig(ObjectiveConfig):
    """Configure multimodal translation."""

    needs: ClassVar[frozenset[str]] = frozenset({"source_summary"})
    reads: ClassVar[Literal["source", "source_summary"]] = "source_summary"

    name: Literal["translation"] = "translation"
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)

    def build(self, network: "Network", references: "Mapping[str, Network]" = MappingProxyType({})) -> "Translation":
        """Return the objective around `network`."""
        from models.objectives.translation import Translation

        return Translation(self, network)
