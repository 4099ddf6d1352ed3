"""Keep functions out of the graphs of `torch.compile`."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import torch

P = ParamSpec("P")
T = TypeVar("T")


def never_compiled(function: Callable[P, T]) -> Callable[P, T]:
    """Decorate `function` so that compiled code calls it as it is; `torch.compiler.disable` would lose its types."""
    return cast(Callable[P, T], torch.compiler.disable(function))  # type: ignore[no-untyped-call]
