"""Define the base of an objective's configuration. Imports no torch: a command that reads a recipe starts at once."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from models.config import NetworkConfig, StrictConfig

if TYPE_CHECKING:
    from models.network import Network
    from models.objectives.base import Objective


class ObjectiveConfig(StrictConfig, ABC):
    """Base of the configurations in `models.objectives.OBJECTIVES`."""

    #: Frozen networks that the objective reads. A recipe has a path for each, in the section `references`.
    reference_names: ClassVar[tuple[str, ...]] = ()

    def check(self, network: NetworkConfig) -> None:
        """Raise InputError, naming the fix, for a combination that makes no sense with this network."""

    @abstractmethod
    def build(self, network: "Network", references: Mapping[str, "Network"] = MappingProxyType({})) -> "Objective":
        """Return the objective around `network`; only here is its module, and torch, imported.

        references: by `reference_names`; empty where the objective is evaluated or exported, so that they are read in
        `forward` alone. Raises InputError as `check`.
        """
