"""Which share of the examples each language direction gets: CrossSum's two-stage sampling and its kin."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from shards.errors import InputError
from shards.languages import languages_in_corpus

Kind = Literal["mms", "mxls"]


class MixtureConfig(BaseModel):
    """How directions are weighted.

    With c[i, j] examples of source j -> target i (CrossSum, section 5.1; both exponents from its release):
    target_first: q_i ~ (sum_j c_ij / sum c)^outer, q_j|i ~ (c_ij / sum_k c_ik)^inner;
    source_first: the same with the roles exchanged.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    orientation: Literal["target_first", "source_first"] = "target_first"
    outer_exponent: float = Field(0.5, ge=0, le=1, description="alpha of the outer stage")
    inner_exponent: float = Field(0.75, ge=0, le=1, description="alpha of the inner stage")
    kinds: tuple[Kind, ...] = Field(("mms", "mxls"), min_length=1, description="monolingual and/or cross-lingual")
    languages: tuple[str, ...] | None = Field(None, description="a subset, by name or code; all when null")


def direction_weights(
    counts_TS: NDArray[np.int64], languages: tuple[str, ...], config: MixtureConfig
) -> NDArray[np.float64]:
    """The share of every direction, (L, L) by [target, source], summing to 1; zero exactly where c is zero.

    Raises `InputError` when no direction is left, or a language is not in the corpus.
    """
    counts = counts_TS.astype(np.float64)
    if config.languages is not None:
        chosen = [languages.index(name) for name in languages_in_corpus(config.languages, languages)]
        keep = np.zeros(len(languages), dtype=bool)
        keep[chosen] = True
        counts[~keep, :] = 0
        counts[:, ~keep] = 0
    if "mms" not in config.kinds:
        np.fill_diagonal(counts, 0)
    if "mxls" not in config.kinds:
        counts = np.diag(np.diag(counts))
    if counts.sum() == 0:
        raise InputError(
            f"the mixture leaves no direction with an example (kinds {config.kinds}, languages {config.languages})"
        )
    if config.orientation == "source_first":
        return _two_stage(counts.T, config).T
    return _two_stage(counts, config)


def _two_stage(counts: NDArray[np.float64], config: MixtureConfig) -> NDArray[np.float64]:
    """Outer stage over the rows, inner stage over the columns of each row."""
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
