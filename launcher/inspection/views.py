"""What the terminal and the page of `d2tv inspect` have in common: the steps of the heat map, and sentences."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # it brings torch along, which takes seconds that a page without a mixture need not
    from launcher.inspection.facts import CorpusFacts, MixtureFacts

#: Steps of the heat map, from few to many: dark to bright, and told apart without colours by their digits.
RAMP = ("#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725")


def levels(values: NDArray[np.float64] | NDArray[np.int64]) -> NDArray[np.int64]:
    """Step of the heat map of every value, 1 to 9 in equal ratios from the least to the most; 0 for none."""
    result = np.zeros(values.shape, np.int64)
    there = values > 0
    if there.any():
        logs = np.log(values[there].astype(np.float64))
        low, high = logs.min(), logs.max()
        spread = high - low
        # A ratio of a few per cent is noise, not a picture: all in the middle.
        place = (logs - low) / spread if spread > 0.05 else np.full(logs.shape, 0.5)
        result[there] = 1 + np.minimum((place * len(RAMP)).astype(np.int64), len(RAMP) - 1)
    return result


def percent(share: float) -> str:
    """Three digits of it, however small: the rarest of 1,936 directions has a hundredth of a per cent."""
    return f"{100 * share:.3g}%"


def pixels_line(facts: "CorpusFacts") -> str:
    """Whether the images themselves are in the corpus."""
    if facts.pixels is None:
        return "pixels are not stored: the corpus has the images' features alone"
    files, size = facts.pixels
    return f"pixels are stored: {files:,} image files of {size / 1e6:,.1f} MB, one copy of images that articles share"


def mixture_lines(mixture: "MixtureFacts", split: str) -> list[str]:
    """What a mixture does, in a few sentences."""
    lines = [
        f"mixture of recipe {mixture.recipe}: {mixture.settings}",
        ", ".join(f"{kind} {share:.1%}" for kind, share in mixture.kinds.items()) + " of the slots",
        f"an epoch-equivalent is {mixture.epoch:,} slots, the examples of {split}; the recipe's run is "
        f"{mixture.run:.3g} of them",
    ]
    if mixture.left_out:
        lines.append(f"{mixture.left_out:,} directions that have examples get no share")
    if mixture.changes:
        lines.append(f"this is how the run begins: the mixture changes {mixture.changes} times on the way")
    return lines
