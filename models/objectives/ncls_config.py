"""Configure the objective `ncls` in a recipe (models/objectives/ncls.py)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from models.objectives.config import ObjectiveConfig

if TYPE_CHECKING:
    from models.network import Network
    from models.objectives.ncls import Ncls


class NclsConfig(ObjectiveConfig):
    """Configure NCLS with a second task."""

    needs: ClassVar[frozenset[str]] = frozenset({"source_summary"})

    name: Literal["ncls"] = "ncls"
    task: Literal["mls", "mt"] = Field(default="mls", description="summarize the source, or translate")
    weight: float = Field(default=1.0, gt=0, description="of the second task's cross-entropy")
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)

    def build(self, network: "Network", references: "Mapping[str, Network]" = MappingProxyType({})) -> "Ncls":
        from models.objectives.ncls import Ncls

        return Ncls(self, network)
