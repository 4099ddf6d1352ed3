"""Many paired tests of one table, corrected together, and the marks of their outcome."""

from collections.abc import Sequence
from dataclasses import dataclass

from shards.errors import InputError
from trainer.evaluation.bootstrap import Difference, holm, paired_bootstrap
from trainer.evaluation.compare.systems import HIGHER_IS_BETTER, Scores

#: More take long.
_MANY_SAMPLES = 100_000


def check_samples(samples: int) -> None:
    """`InputError` for too few."""
    if samples < 100:
        raise InputError(f"--samples {samples}: at least 100, or a p-value means nothing")


@dataclass(frozen=True, kw_only=True, slots=True)
class Tested:
    """A mean, and how it differs from the baseline's: None for the baseline itself. p: corrected.

    below_lead: whether it is a model's, and lower than LEAD's on the same examples.
    """

    mean: float
    difference: Difference | None
    p: float
    below_lead: bool = False

    @property
    def mark(self) -> str:
        """** p < 0.01, * p < 0.05; ↓ below LEAD."""
        return ("**" if self.p < 0.01 else "*" if self.p < 0.05 else "") + ("↓" if self.below_lead else "")


class Tests:
    """Collects the means of one table against a baseline, and corrects their p-values when all are known."""

    def __init__(self, scores: Scores, baseline: str, *, samples: int, seed: int) -> None:
        check_samples(samples)
        self._scores, self._baseline, self._samples, self._seed = scores, baseline, samples, seed
        self._means: list[float] = []
        self._differences: list[Difference | None] = []
        self._below: list[bool] = []

    def mean(self, name: str, measure: str, places: Sequence[int], weights: Sequence[float] | None = None) -> int:
        """The (weighted) mean of a system's scores at these examples; its number in `outcomes`."""
        scores = self._scores
        column = [scores.columns[name][measure][place] for place in places]
        difference = None
        if name != self._baseline:
            base = [scores.columns[self._baseline][measure][place] for place in places]
            stories = [scores.stories[place] for place in places]
            difference = paired_bootstrap(
                base, column, stories, weights=weights, samples=self._samples, seed=self._seed
            )
        of = [1.0] * len(column) if weights is None else weights
        mean = sum(w * value for w, value in zip(of, column, strict=True)) / sum(of)
        self._means.append(mean)
        self._differences.append(difference)
        lead = None if name in scores.baselines else scores.lead.get(measure)
        if lead is None or measure not in HIGHER_IS_BETTER:
            self._below.append(False)
        else:
            of_lead = sum(w * lead[place] for w, place in zip(of, places, strict=True)) / sum(of)
            self._below.append(mean < of_lead - 1e-9)
        return len(self._means) - 1

    @property
    def count(self) -> int:
        return sum(difference is not None for difference in self._differences)

    def outcomes(self) -> list[Tested]:
        """Every mean in the order in which they were asked for."""
        corrected = iter(holm([d.p for d in self._differences if d is not None]).tolist())
        return [
            Tested(mean=mean, difference=difference, p=1.0 if difference is None else next(corrected), below_lead=below)
            for mean, difference, below in zip(self._means, self._differences, self._below, strict=True)
        ]

    def describe(self) -> str:
        """Say what the marks mean, and whether so many tests could have any."""
        # The least that so many samples can show, after the correction.
        least = 2 / (self._samples + 1) * self.count
        told = (
            f"* p < 0.05{', ** p < 0.01' if least < 0.01 else ''} against {self._baseline}: paired bootstrap over "
            f"stories, {self._samples:,} samples, seed {self._seed}, corrected for {self.count} tests (Holm)"
        )
        if least >= 0.05:
            needed = 1000 * -(-40 * self.count // 1000)
            told += f"; so few samples can mark none of so many tests: --samples {needed}"
            told += ", or fewer tests (--languages, --by target)" if needed > _MANY_SAMPLES else ""
        return told
