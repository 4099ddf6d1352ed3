"""Configure the objective `amid` in a recipe (models/objectives/amid.py)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from models.objectives.config import ObjectiveConfig, WholeRecipe
from models.objectives.labelled_config import LabelledConfig
from shards.errors import InputError
from shards.schema import GROUP_SEPARATOR

if TYPE_CHECKING:
    from models.network import Network
    from models.objectives.amid import Amid


#: Models that classify, by the names of their terms and figures.
COLUMNS = ("student", "teacher")


class AmidKeys(ObjectiveConfig):
    """Keys of all of AMID's objectives. Defaults are the paper's numbers for video (sections 3.2 and 4.2)."""

    width: int = Field(default=512, gt=0, le=65_536, description="of all representations")
    student: float = Field(default=1.0, ge=0, description="weight of the student's cross-entropy, Eq. 15")
    teacher: float = Field(default=1.0, ge=0, description="weight of the teacher's")
    divergence: float = Field(default=1.0, ge=0, description="weight of Eq. 16")
    alpha1: float = Field(default=4.0, ge=0, description="of I(M;S), Eq. 8")
    alpha2: float = Field(default=1.6, ge=0, description="of I(M;A), Eq. 9")
    alpha3: float = Field(default=1.0, ge=0, description="of the student against the discriminators, Eq. 12")
    bound: Literal["mi", "nce"] = Field(
        default="mi", description="mi: Eqs. 8 and 9; nce: without their negatives (Table 4)"
    )
    temperature: float = Field(default=0.5, gt=0, description="tau of Eq. 7")
    warmup_steps: int = Field(
        default=500, ge=0, description="T_start: before that step Eqs. 15 and 16 alone are learned (20 epochs)"
    )
    enhanced: bool = Field(default=True, description="the second discriminator; false: D1 alone (Table 5)")
    adaptive: bool = Field(default=True, description="Eq. 14; false: both discriminators weigh one half (Table 5)")
    epoch_steps: int = Field(default=100, gt=0, description="steps after which Eq. 14 changes the weights: an epoch")
    smoothing: float = Field(default=0.9, gt=0, lt=1, description="beta of Eq. 14")
    discriminator_rate: float = Field(
        default=1.0, gt=0, description="learning rate of the discriminators, times the schedule's"
    )

    def check(self, recipe: WholeRecipe) -> None:
        """Refuse a network without images."""
        if not recipe.network.vision.enabled:
            raise InputError(f"objective {self.name} has a teacher that sees: set network.vision.enabled to true")


class AmidConfig(AmidKeys, LabelledConfig):
    """Configure AMID for classification."""

    tasks: ClassVar[frozenset[str]] = frozenset({"representation"})

    name: Literal["amid"] = "amid"
    target: Literal["text", "image"] = Field(default="text", description="what the student reads; the other one helps")
    level: Literal["group", "label"] = Field(
        default="group", description="the classes: labels up to their first ' / ' (emoji: 10 groups), or whole (97)"
    )

    def class_of(self, label: str) -> str:
        """Return the class of a label: its group, or itself."""
        return label if self.level == "label" else label.partition(GROUP_SEPARATOR)[0]

    def check(self, recipe: WholeRecipe) -> None:
        """Refuse what no classifier can be trained by, and a network without images."""
        LabelledConfig.check(self, recipe)
        AmidKeys.check(self, recipe)

    def build(self, network: "Network", references: Mapping[str, "Network"] = MappingProxyType({})) -> "Amid":
        """Return the objective around `network`."""
        from models.objectives.amid import Amid

        return Amid(self, network)
