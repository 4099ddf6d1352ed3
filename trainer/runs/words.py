"""Read the numbers of records, and write them for terminals and pages."""

import math
from datetime import UTC, datetime


def number(value: object) -> float | None:
    """Return a number of a record, NaN and the infinities among them; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf


def whole(value: object) -> int | None:
    """Return a number of a record as a whole one; None for anything else, NaN and the infinities too."""
    found = number(value)
    return round(found) if found is not None and abs(found) < 1 << 53 else None


def count(value: float) -> str:
    """Write a whole number with a comma between thousands."""
    return f"{value:,.0f}"


def decimals(value: float | None, digits: int) -> str:
    """Write a number with so many decimals; a dash for none."""
    return "–" if value is None else f"{value:.{digits}f}"


def percent(share: float) -> str:
    """Write three digits of a share in per cent, however small it is."""
    return f"{100 * share:.3g}%"


def duration(seconds: float) -> str:
    """Write seconds in two units at most."""
    seconds = max(seconds, 0.0)
    if not math.isfinite(seconds):
        return "–"
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms" if seconds >= 0.0005 else "0 s"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    minutes = whole // 60
    if minutes < 120:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


def size(count: float) -> str:
    """Write bytes in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit in ("B", "kB") else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def figure(value: float | None) -> str:
    """Write four digits of a number of any size; a dash for none."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return str(value)
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:.2e}"


def moment(time: float | None) -> str:
    """Write a Unix time as date and time of day, UTC."""
    if time is None:
        return "–"
    try:
        return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return "–"
