"""Correct the paired tests of one table together, and mark their outcomes."""

from collections.abc import Sequence
from dataclasses import dataclass

from shards.errors import InputError
from trainer.evaluation.bootstrap import Difference, holm, paired_bootstrap
from trainer.evaluation.compare.measure_names import HIGHER_IS_BETTER
from trainer.evaluation.compare.systems import Scores

#: A larger number takes long.
_MANY_SAMPLES = 100_000
#: More change no p-value that is shown.
MOST_SAMPLES = 10_000_000


def check_samples(samples: int) -> None:
    """Raise `InputError` for too few samples, and for more than `MOST_SAMPLES`."""
    if samples < 100:
        raise InputError(f"--samples {samples}: at least 100, or a p-value means nothing")
    if samples > MOST_SAMPLES:
        raise InputError(f"--samples {samples}: at most {MOST_SAMPLES:,}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Tested:
    """A mean and its difference from the baseline's (None for the baseline itself). p: corrected.

    below_lead: True for a model's that is lower than LEAD's on the same examples.
    """

    mean: float
    difference: Difference | None
    p: float
    below_lead: bool = False

    @property
    def mark(self) -> str:
        """Return the mark in tables: ** p < 0.01, * p < 0.05; ↓ below LEAD."""
        return ("**" if self.p < 0.01 else "*" if self.p < 0.05 else "") + ("↓" if self.below_lead else "")


class Tests:
    """Collect the means of one table against a baseline, and correct their p-values when all are known."""

    def __init__(self, scores: Scores, baseline: str, *, samples: int, seed: int) -> None:
        check_samples(samples)
        self._scores, self._baseline, self._samples, self._seed = scores, baseline, samples, seed
        self._means: list[float] = []
        self._differences: list[Difference | None] = []
        self._below: list[bool] = []

    def mean(self, name: str, measure: str, places: Sequence[int], weights: Sequence[float] | None = None) -> int:
        """Add the (weighted) mean of a system's scores at these examples; return its place in `outcomes`."""
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
        """Return the number of tests."""
        return sum(difference is not None for difference in self._differences)

    def outcomes(self) -> list[Tested]:
        """Return every mean, in the order in which they were added."""
        corrected = iter(holm([d.p for d in self._differences if d is not None]).tolist())
        return [
            Tested(mean=mean, difference=difference, p=1.0 if difference is None else next(corrected), below_lead=below)
            for mean, difference, below in zip(self._means, self._differences, self._below, strict=True)
        ]

    def describe(self) -> str:
        """Explain the marks, and warn where so many tests can have none."""
        # The least p after the correction that the number of samples can give.
        least = 2 / (self._samples + 1) * self.count
        text = (
            f"* p < 0.05{', ** p < 0.01' if least < 0.01 else ''} against {self._baseline}: paired bootstrap over "
            f"stories, {self._samples:,} samples, seed {self._seed}, corrected for {self.count} tests (Holm)"
        )
        if least >= 0.05:
            needed = 1000 * -(-40 * self.count // 1000)
            text += f"; so few samples can mark none of so many tests: --samples {needed}"
            text += ", or fewer tests (--languages, --by target)" if needed > _MANY_SAMPLES else ""
        return text
