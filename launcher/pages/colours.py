"""Define the colours of pictures, on pages and terminals, and the steps of a heat map."""

import numpy as np
from numpy.typing import NDArray

#: Of curves and dots, on a light and on a dark page.
LIGHT = ("#0969da", "#bc4c00", "#1a7f37", "#8250df", "#bf3989", "#9a6700", "#57606a", "#0a7ea4")
DARK = ("#58a6ff", "#f0883e", "#3fb950", "#bc8cff", "#f778ba", "#d29922", "#8b949e", "#39c5cf")
#: Steps of a heat map, from few to many: dark to bright, and told apart without colours by their digits.
RAMP = ("#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725")
#: Measures that a heat map can be coloured by: a letter each, of the classes of its cells.
LETTERS = "abcdefghi"


def levels(values: NDArray[np.float64] | NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the step of every value, 1 to 9 in equal ratios from the least to the most; 0 for what is not above 0."""
    counted = values > 0
    # A ratio of a few per cent is noise: all of them are in the middle.
    return _steps(np.log(values.astype(np.float64), where=counted, out=np.zeros(values.shape)), counted, least=0.05)


def linear_levels(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the step of every value, 1 to 9 in equal differences from the least to the most; 0 for NaN."""
    return _steps(values, np.isfinite(values), least=1e-9)


def _steps(values: NDArray[np.float64], counted: NDArray[np.bool_], least: float) -> NDArray[np.int64]:
    steps = np.zeros(values.shape, np.int64)
    if counted.any():
        low, spread = values[counted].min(), np.ptp(values[counted])
        shares = (values[counted] - low) / spread if spread > least else np.full(int(counted.sum()), 0.5)
        steps[counted] = 1 + np.minimum((shares * len(RAMP)).astype(np.int64), len(RAMP) - 1)
    return steps
