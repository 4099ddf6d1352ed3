"""Define the base of an objective's configuration. Imports no torch: a command that reads a recipe starts at once."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from models.config import NetworkConfig, StrictConfig

if TYPE_CHECKING:
    from models.network import Network
    from models.objectives.base import Objective


class ObjectiveConfig(StrictConfig, ABC):
    """Base of the configurations in `models.objectives.OBJECTIVES`."""

    def check(self, network: NetworkConfig) -> None:
        """Raise InputError, naming the fix, for a combination that makes no sense with this network."""

    @abstractmethod
    def build(self, network: "Network") -> "Objective":
        """Return the objective around `network`; only here is its module, and torch, imported.

        Raises InputError as `check`.
        """
