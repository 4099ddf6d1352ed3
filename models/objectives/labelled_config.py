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

    @property
    def label_names(self) -> tuple[str, ...]:
        """Return the labels. `InputError` where they are not filled in yet."""
        if self.labels is None:
            raise InputError("objective.labels is null: train on a corpus with labels, or give them")
        return self.labels

    def check(self, recipe: WholeRecipe) -> None:
        """Refuse labels that come twice, and a choice by what is not measured."""
        if self.labels is not None and len(set(self.labels)) < len(self.labels):
            twice = next(label for label in self.labels if self.labels.count(label) > 1)
            raise InputError(f"objective.labels has {twice!r} twice: give each class once")
        self.check_unwritten(recipe)

    def with_labels(self, trained: Collection[str], held_out: Collection[str], where: str) -> Self:
        """Return the configuration with the labels of a corpus to train on, sorted, where it names none.

        trained, held_out: labels of its training split, and of the others.  where: the corpus, for errors.
        """
        found = self if self.labels is not None else self.model_copy(update={"labels": tuple(sorted(trained))})
        if len(found.label_names) < 2:
            raise InputError(
                f"objective {self.name} wants examples of two labels or more, and {where} trains on "
                f"{len(trained)}: set corpus.path to a corpus with labels (d2tv prepare xvnli, xgqa, marvl, emoji)"
            )
        if foreign := sorted(set(trained) - set(found.label_names)):
            raise InputError(f"{where} trains on the label {foreign[0]!r}, which objective.labels lacks: add it")
        found.check_held_out(held_out, where)
        return found

    def check_held_out(self, labels: Collection[str], where: str) -> None:
        """Refuse held-out examples of labels that are no class, unless they count as wrong."""
        foreign = sorted(set(labels) - set(self.label_names))
        if foreign and not (self.open_labels and set(labels) & set(self.label_names)):
            known = ", ".join(self.label_names[:3]) + ", ..." * (len(self.label_names) > 3)
            raise InputError(
                f"{where} has examples labelled {foreign[0]!r}, and the network is trained on {len(self.label_names)} "
                f"others ({known}): choose a corpus of these; where some of its labels are known and others are to "
                "count as wrong, train with objective.open_labels=true; or with all classes named in objective.labels"
            )
