"""Host memory as the kernel will grant it: of the machine, or of the control group that a scheduler put us into."""

from pathlib import Path

import psutil

_ROOT = Path("/sys/fs/cgroup")


def host_memory() -> tuple[float, float]:
    """Bytes in all, and bytes that can be had without swapping or being killed."""
    machine = psutil.virtual_memory()
    total, available = float(machine.total), float(machine.available)
    for limit, used in _limits(_groups()):
        total, available = min(total, limit), min(available, max(limit - used, 0.0))
    return total, available


def _groups() -> list[Path]:
    """Our control group and those it lies in, of version 2, or of version 1's memory controller."""
    found: list[Path] = []
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()
    except OSError:
        return found
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            group = _ROOT / controllers / path.lstrip("/")
            found += [group, *(parent for parent in group.parents if parent.is_relative_to(_ROOT))]
    return found


def _limits(groups: list[Path]) -> list[tuple[float, float]]:
    """(limit, used) of the groups that have a limit. What the page cache holds can be had."""
    found = []
    for group in groups:
        for most, now, cache in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            try:
                limit = float((group / most).read_text(encoding="ascii"))  # "max" is none
                used = float((group / now).read_text(encoding="ascii"))
                statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            except (OSError, ValueError):
                continue
            found.append((limit, used - float(statistics.get(cache, 0))))
    return found
