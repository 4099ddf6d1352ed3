"""Define the base of an objective's configuration. Imports no torch: a command that reads a recipe starts at once."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, Self

from models.config import NetworkConfig, StrictConfig
from shards.errors import InputError

if TYPE_CHECKING:
    from models.network import Network
    from models.objectives.base import Objective
    from shards.batch.transforms import Transform


class Mixture(Protocol):
    """A recipe's mixture. directions: of training, like `all` or `*-en`."""

    @property
    def directions(self) -> str: ...


class Checkpoints(Protocol):
    """A recipe's checkpoints. keep_best: the kind whose held-out NLL chooses one."""

    @property
    def keep_best(self) -> str | None: ...


class WholeRecipe(Protocol):
    """Name the parts of a recipe (trainer/recipe) that an objective may judge."""

    @property
    def network(self) -> NetworkConfig: ...

    @property
    def mixture(self) -> Mixture: ...

    @property
    def checkpoint(self) -> Checkpoints: ...


class ObjectiveConfig(StrictConfig, ABC):
    """Base of the configurations in `models.objectives.OBJECTIVES`."""

    name: str
    #: Whether the objective wants a network of early fusion (`network.fusion.kind`).
    early: ClassVar[bool] = False
    #: What its networks can be evaluated by (`evaluation.task`).
    tasks: ClassVar[frozenset[str]] = frozenset({"summarization", "translation"})
    #: What its networks write from, with the images, also in validation and `d2tv summarize`: documents, or names.
    reads: ClassVar[Literal["source", "source_summary"]] = "source"
    #: Keys that are filled in from the corpus where a recipe has null (`with_labels`).
    from_corpus: ClassVar[frozenset[str]] = frozenset()
    #: Frozen networks that the objective reads. A recipe has a path for each, in the section `references`. One that the
    #: network begins with and nothing reads afterwards is `pretrained`, under any objective.
    reference_names: ClassVar[tuple[str, ...]] = ()

    @property
    def needs(self) -> frozenset[str]:
        """Name the fields of `Batch` that the objective reads beside those that every batch has, such as `pixels`.

        In training, validation and evaluation alike (shards/batch/fields.py lists them). By default none.
        """
        return frozenset()

    @property
    def class_names(self) -> tuple[str, ...]:
        """Return the classes that `Batch.label_B` counts, where `needs` names it."""
        return ()

    def number_labels(self, labels: Collection[str]) -> dict[str, int]:
        """Return the number in `class_names` of those labels of a corpus that are of a class."""
        return {}

    def with_labels(self, trained: Collection[str], held_out: Collection[str], where: str) -> Self:
        """Return the configuration for a corpus to train on. By default this one.

        trained, held_out: labels of its training split, and of the others.  where: the corpus, for errors.
        """
        return self

    def transforms(self, seed: int) -> "tuple[Transform, ...]":
        """Return what changes training examples before they are tokenized, in order; validation sees them unchanged.

        seed: of the run. By default none, and none is imported.
        """
        return ()

    @classmethod
    def product_of(cls, network: NetworkConfig) -> NetworkConfig:
        """Return what the first product's network is, of a recipe's. By default the same."""
        return network

    def check(self, recipe: WholeRecipe) -> None:
        """Raise InputError, naming the fix, for a recipe that makes no sense with this objective."""

    def check_early(self, recipe: WholeRecipe) -> None:
        """Refuse a network that does not read images and text with one encoder."""
        if recipe.network.joint is None:
            raise InputError(
                f"objective {self.name} reads images and text with one encoder: set network.fusion.kind to early and "
                "network.vision.enabled to true"
            )

    def check_unwritten(self, recipe: WholeRecipe) -> None:
        """Refuse a choice of checkpoints by a held-out NLL, which an objective without branches does not measure."""
        if recipe.checkpoint.keep_best is not None:
            raise InputError(
                f"checkpoint.keep_best chooses by the held-out NLL, and objective {self.name} trains no writing: set "
                "it to null"
            )

    @abstractmethod
    def build(self, network: "Network", references: Mapping[str, "Network"] = MappingProxyType({})) -> "Objective":
        """Return the objective around `network`; only here is its module, and torch, imported.

        references: by `reference_names`; empty where the objective is evaluated or exported, so that they are read in
        `forward` alone.
        """
