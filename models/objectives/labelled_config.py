"""Configure what objectives that classify have in common: their classes, which are labels of the corpus."""

from collections.abc import Collection
from typing import ClassVar, Self

from pydantic import Field

from models.objectives.config import ObjectiveConfig, WholeRecipe
from shards.errors import InputError


class LabelledConfig(ObjectiveConfig):
    """Base of the configurations of objectives that learn the labels of articles."""

    needs: ClassVar[frozenset[str]] = frozenset({"label"})
    from_corpus: ClassVar[frozenset[str]] = frozenset({"labels"})

    labels: tuple[str, ...] | None = Field(
        default=None, min_length=2, description="the classes; null: the labels of the corpus' training split"
    )
    open_labels: bool = Field(
        default=False,
        description="held-out labels that are no class count as wrong (xGQA: 1,842 answers); false: they are refused",
    )

    def class_of(self, label: str) -> str:
        """Return the class of a label: itself."""
        return label

    @property
    def class_names(self) -> tuple[str, ...]:
        """Return the classes, in the labels' order. `InputError` where these are not filled in yet."""
        if self.labels is None:
            raise InputError("objective.labels is null: train on a corpus with labels, or give them")
        return tuple(dict.fromkeys(map(self.class_of, self.labels)))

    def number_labels(self, labels: Collection[str]) -> dict[str, int]:
        """Return the number in `class_names` of those labels of a corpus that are of a class."""
        place = {name: number for number, name in enumerate(self.class_names)}
        return {label: place[self.class_of(label)] for label in labels if self.class_of(label) in place}

    def check(self, recipe: WholeRecipe) -> None:
        """Refuse labels that come twice or are of one class, and a choice by what is not measured."""
        if self.labels is not None:
            if len(set(self.labels)) < len(self.labels):
                twice = next(label for label in self.labels if self.labels.count(label) > 1)
                raise InputError(f"objective.labels has {twice!r} twice: give each class once")
            self._check_classes("objective.labels")
        self.check_unwritten(recipe)

    def _check_classes(self, where: str) -> None:
        if len(self.class_names) < 2:
            raise InputError(f"{where} are all of one class, {self.class_names[0]!r}: objective {self.name} wants two")

    def with_labels(self, trained: Collection[str], held_out: Collection[str], where: str) -> Self:
        """Return the configuration with the labels of a corpus to train on, sorted, where it names none.

        trained, held_out: labels of its training split, and of the others.  where: the corpus, for errors.
        """
        if not trained or (self.labels is None and len(trained) < 2):
            raise InputError(
                f"objective {self.name} wants examples of two labels or more, and {where} trains on "
                f"{len(trained)}: set corpus.path to a corpus with labels (d2tv prepare xvnli, xgqa, marvl, emoji)"
            )
        found = self if self.labels is not None else self.model_copy(update={"labels": tuple(sorted(trained))})
        found._check_classes(f"the labels of {where}")
        if foreign := found._foreign(trained):
            raise InputError(f"{where} trains on the label {foreign[0]!r}, which objective.labels lacks: add it")
        found.check_held_out(held_out, where)
        return found

    def check_held_out(self, labels: Collection[str], where: str) -> None:
        """Refuse held-out examples of labels that are no class, unless they count as wrong."""
        foreign = self._foreign(labels)
        if foreign and not (self.open_labels and len(foreign) < len(set(labels))):
            known = ", ".join(self.class_names[:3]) + ", ..." * (len(self.class_names) > 3)
            raise InputError(
                f"{where} has examples labelled {foreign[0]!r}, and the network is trained on {len(self.class_names)} "
                f"others ({known}): choose a corpus of these; where some of its labels are known and others are to "
                "count as wrong, train with objective.open_labels=true; or with all classes named in objective.labels"
            )

    def _foreign(self, labels: Collection[str]) -> list[str]:
        """Return the labels of no class, sorted."""
        known = self.number_labels(labels)
        return sorted(set(labels) - known.keys())
