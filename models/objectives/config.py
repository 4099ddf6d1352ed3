"""Define the base of an objective's configuration. Imports no torch: a command that reads a recipe starts at once."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Protocol

from models.config import NetworkConfig, StrictConfig

if TYPE_CHECKING:
    from models.network import Network
    from models.objectives.base import Objective


class Mixture(Protocol):
    """A recipe's mixture. directions: of training, like `all` or `*-en`."""

    @property
    def directions(self) -> str: ...


class WholeRecipe(Protocol):
    """What an objective may judge of a recipe (trainer/recipe)."""

    @property
    def network(self) -> NetworkConfig: ...

    @property
    def mixture(self) -> Mixture: ...


class ObjectiveConfig(StrictConfig, ABC):
    """Base of the configurations in `models.objectives.OBJECTIVES`."""

    def check(self, recipe: WholeRecipe) -> None:
        """Raise InputError, naming the fix, for a recipe that makes no sense with this objective."""

    @abstractmethod
    def build(self, network: "Network") -> "Objective":
        """Return the objective around `network`; only here is its module, and torch, imported."""
