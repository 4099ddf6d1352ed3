"""Compute the share of the examples that each language direction gets: CrossSum's two-stage sampling and its kin."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from shards.directions import parse_directions
from shards.errors import InputError
from shards.languages import languages_in_corpus

Kind = Literal["mms", "mxls"]


def _words(value: Any) -> Any:
    """Take `en,ru` for the list of its words."""
    return [word.strip() for word in value.split(",")] if isinstance(value, str) else value


Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Weighting(BaseModel):
    """Weights of directions.

    With c[i, j] examples of source j -> target i (CrossSum, section 5.1; both exponents from its release):
    target_first: q_i ~ (sum_j c_ij / sum c)^outer, q_j|i ~ (c_ij / sum_k c_ik)^inner;
    source_first: the same with the roles exchanged.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    orientation: Literal["target_first", "source_first"] = "target_first"
    outer_exponent: float = Field(0.5, ge=0, le=1, description="alpha of the outer stage")
    inner_exponent: float = Field(0.75, ge=0, le=1, description="alpha of the inner stage")
    kinds: Annotated[tuple[Kind, ...], BeforeValidator(_words)] = Field(
        ("mms", "mxls"), min_length=1, description="monolingual and/or cross-lingual"
    )
    languages: Annotated[tuple[str, ...] | None, BeforeValidator(_words)] = Field(
        None, description="a subset like en,ru, by name or code; all when null"
    )
    directions: str = Field("all", description="a subset, like en-*,*-en,mms (as in evaluation.directions)")
    weights: Mapping[str, Weight] | None = Field(
        None,
        description="explicit weights in place of the exponents: pattern -> weight of each direction it names. A pair "
        "counts before a pattern with a star, that before mms and mxls, those before all; what none names gets nothing",
    )
    max_passes: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="how often a direction's examples may come in the whole run, to within a group",
    )


class MixtureChange(Weighting):
    """Another weighting from a step on. Keys that it does not name stay as they were."""

    from_step: int = Field(
        gt=0, le=2**31 - 1, description="the steps before it: 100 for a change after the hundredth step"
    )


class MixtureConfig(Weighting):
    """The weighting that a run begins with, and its changes on the way."""

    changes: tuple[MixtureChange, ...] = Field((), description="in the order of their steps")

    @model_validator(mode="after")
    def _resolve(self) -> "MixtureConfig":
        """Give every change all its keys, so that a saved recipe reads back to the same."""
        before = {name: getattr(self, name) for name in Weighting.model_fields}
        last, resolved = 0, []
        for change in self.changes:
            if change.from_step <= last:
                raise ValueError("changes must be in the order of their steps, one a step")
            last = change.from_step
            before |= {name: getattr(change, name) for name in change.model_fields_set}
            resolved.append(MixtureChange(**before))
        object.__setattr__(self, "changes", tuple(resolved))
        return self


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """A stretch of the stream under one weighting: groups `first` and on, until the next segment begins.

    left: groups from `first` to the end of the run, whatever changes come later: what `max_passes` is held over.
    None: without end.
    """

    first: int
    left: int | None
    weighting: Weighting


def segments(config: MixtureConfig, groups_per_step: int, groups: int | None) -> tuple[Segment, ...]:
    """Return the segments of a run of `groups` groups (None: without end). A change past its end has no segment.

    A step's groups are counted as if no step had been skipped as non-finite.
    """
    starts = [(0, config), *((change.from_step * groups_per_step, change) for change in config.changes)]
    return tuple(
        Segment(first=first, left=None if groups is None else groups - first, weighting=weighting)
        for first, weighting in starts
        if groups is None or first < groups
    )


def direction_weights(
    counts_TS: NDArray[np.int64],
    languages: tuple[str, ...],
    config: Weighting,
    *,
    slots: int | None = None,
    taken_TS: NDArray[np.int64] | None = None,
) -> NDArray[np.float64]:
    """Return the share of every direction, (L, L) by [target, source], summing to 1; zero exactly where c is zero.

    slots: how many there are to share out, for `max_passes`; None leaves that key aside.
    taken_TS: how many each direction had before.
    Raises `InputError` when no direction is left, a language is not in the corpus, or `max_passes` leaves too few.
    """
    counts = np.where(_allowed(languages, config), counts_TS, 0).astype(np.float64)
    if config.weights is not None:
        weights = _explicit(counts, languages, config.weights)
    elif config.orientation == "source_first":
        weights = _two_stage(counts.T, config).T
    else:
        weights = _two_stage(counts, config)
    if weights.sum() == 0:
        raise InputError(
            f"the mixture leaves no direction with an example (kinds {', '.join(config.kinds)}, languages "
            f"{config.languages or 'all'}, directions {config.directions}"
            f"{'' if config.weights is None else ', weights ' + str(dict(config.weights))})"
        )
    weights /= weights.sum()
    if config.max_passes is None or slots is None:
        return weights
    taken = np.zeros_like(counts) if taken_TS is None else taken_TS
    return _cap(weights, np.maximum(config.max_passes * counts - taken, 0) / slots, config.max_passes, slots)


def _allowed(languages: tuple[str, ...], config: Weighting) -> NDArray[np.bool_]:
    """Return the directions (L, L) by [target, source] that kinds, languages and directions all leave in."""
    size = len(languages)
    diagonal = np.eye(size, dtype=bool)
    allowed: NDArray[np.bool_] = np.zeros((size, size), dtype=bool)
    if "mms" in config.kinds:
        allowed |= diagonal
    if "mxls" in config.kinds:
        allowed |= ~diagonal
    if config.languages is not None:
        chosen = np.isin(languages, languages_in_corpus(config.languages, languages))
        allowed &= chosen[:, None] & chosen
    if config.directions != "all":
        named = np.zeros_like(allowed)
        for source, target in parse_directions(config.directions, languages, config.languages):
            named[target, source] = True
        allowed &= named
    return allowed


def _explicit(
    counts: NDArray[np.float64], languages: tuple[str, ...], weights: Mapping[str, float]
) -> NDArray[np.float64]:
    """Return the weight that each direction's most particular pattern gives it, whatever the order of the patterns."""
    result, level_of = np.zeros_like(counts), np.full(counts.shape, -1)
    clashes: dict[tuple[int, int], int] = {}
    largest = max(weights.values(), default=0.0) or 1.0  # a sum of large ones would overflow
    for patterns, weight in weights.items():
        for pattern in patterns.split(","):
            level = _level(pattern)
            for source, target in parse_directions(pattern, languages):
                if level > level_of[target, source]:
                    result[target, source], level_of[target, source] = weight / largest, level
                elif level == level_of[target, source] and weight / largest != result[target, source]:
                    clashes[target, source] = level
    for (target, source), level in clashes.items():
        if level_of[target, source] == level:
            raise InputError(
                f"mixture.weights gives {languages[source]}>{languages[target]} two weights by patterns of the same "
                "kind: name that pair with a weight of its own"
            )
    return np.where(counts > 0, result, 0.0)


def _level(pattern: str) -> int:
    """Return how particular a pattern is: all or *-* 0, mms and mxls 1, one star 2, a pair 3."""
    if pattern.strip() in ("mms", "mxls"):
        return 1
    return 0 if pattern.strip() == "all" else 3 - {0: 0, 1: 1, 2: 3}[min(pattern.count("*"), 2)]


def _two_stage(counts: NDArray[np.float64], config: Weighting) -> NDArray[np.float64]:
    """Apply the outer stage to the rows and the inner stage to the columns of each row."""
    outer = _tempered(counts.sum(axis=1), config.outer_exponent)
    inner = np.stack([_tempered(row, config.inner_exponent) for row in counts])
    return outer[:, None] * inner


def _tempered(counts: NDArray[np.float64], exponent: float) -> NDArray[np.float64]:
    total = counts.sum()
    if total == 0:
        return np.zeros_like(counts)
    # 0 ** 0 is 1: without the mask a uniform mixture would give a share to directions that have nothing.
    weights = np.where(counts > 0, (counts / total) ** exponent, 0.0)
    return np.asarray(weights / weights.sum())


def _cap(weights: NDArray[np.float64], most: NDArray[np.float64], max_passes: float, slots: int) -> NDArray[np.float64]:
    """Return shares of at most `most`; what is cut off goes to the others in proportion (water-filling)."""
    room = float(most[weights > 0].sum())
    if room < 1:
        raise InputError(
            f"mixture.max_passes={max_passes:g} leaves {int(room * slots):,} examples for {slots:,} slots: raise it, "
            "train fewer steps, or take more directions in"
        )
    shares, full = weights.copy(), np.zeros(weights.shape, dtype=bool)
    while (over := (shares > most) & ~full).any():
        full |= over
        shares[full] = most[full]
        open_weight = weights[~full].sum()
        if open_weight > 0:
            shares[~full] = weights[~full] * ((1 - shares[full].sum()) / open_weight)
    return np.asarray(shares / shares.sum())
