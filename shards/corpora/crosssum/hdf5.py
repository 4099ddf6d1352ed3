"""Open HDF5 files and list their contents; whatever is wrong with one is one line."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shards.errors import InputError

#: What h5py raises for what is absent, of another kind, or damaged.
H5PY_ERRORS = (KeyError, OSError, RuntimeError, TypeError, ValueError, AttributeError)


def open_features(path: Path) -> Any:
    """Open an HDF5 file for reading, without locks; `InputError` when it cannot be, or h5py is not installed."""
    try:
        h5py: Any = importlib.import_module("h5py")  # an extra: text alone does not need it
    except ImportError as error:
        raise InputError("image features in HDF5 need h5py: pip install 'd2tv[crosssum]'") from error
    try:
        return h5py.File(path, "r", locking=False)
    except H5PY_ERRORS as error:
        raise _damaged(path, error) from error


def visit_names(path: Path, visit: Callable[[str], None]) -> None:
    """Call `visit` with the name of everything at the top of an HDF5 file, in memory that does not grow with it.

    Raises: InputError when the file is damaged, and what `visit` raises.
    """
    raised: list[BaseException] = []

    def call(name: bytes) -> bool:
        """Return True to end the iteration: HDF5 makes a SystemError of what its callback raises, also of Ctrl-C."""
        try:
            visit(name.decode(errors="replace"))
        except BaseException as error:  # kept from HDF5, and raised again below
            raised.append(error)
        return bool(raised)

    with open_features(path) as features:
        try:
            features.id.links.iterate(call)  # h5py's own loop would first make a list of all names
        except H5PY_ERRORS as error:
            raise _damaged(path, error) from error
    if raised:
        raise raised[0]


def inside(group: Any, key: str) -> Any:
    """Return what a group has under a name; `TypeError` where that is a link into another file, which may block."""
    if type(group.get(key, getlink=True)).__name__ == "ExternalLink":
        raise TypeError(f"{key} is in another file")
    return group[key]


def _damaged(path: Path, error: Exception) -> InputError:
    why = (str(error).splitlines() or [type(error).__name__])[0]
    return InputError(f"{path} is damaged, or no HDF5 file ({why}): get it again, or remove it")
