"""Host memory as the kernel will grant it: of the machine, or of the control group that a scheduler put us into.

psutil knows the machine's only.
"""

from pathlib import Path

import psutil

_ROOT = Path("/sys/fs/cgroup")
#: Files of a limit and of what is used, and the statistic of the page cache in it, which can be had: version 2, 1.
_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def host_memory() -> tuple[float, float]:
    """Return bytes in all, and bytes that can be had without swapping or being killed."""
    machine = psutil.virtual_memory()
    total, available = float(machine.total), float(machine.available)
    for group in _groups():
        for names in _FILES:
            try:
                limit, used = (float((group / name).read_text(encoding="ascii")) for name in names[:2])
                statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            except (OSError, ValueError):  # no limit is "max", or no file
                continue
            used -= float(statistics.get(names[2], 0))
            total, available = min(total, limit), min(available, max(limit - used, 0.0))
    return total, available


def _groups() -> list[Path]:
    """Return our control group and those it lies in, of version 2, or of version 1's memory controller."""
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
