"""Read the image features of MM-Sum: HDF5 files with a group an image of `features`, `boxes`, `img_w`, `img_h`.

`features` (regions, width) float32, `boxes` (regions, 4) x1 y1 x2 y2 in pixels; the sizes are numbers, as datasets
or as attributes. An image's id is the SHA-1 of its article's URL, "_" and its number.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from shards.corpora.crosssum.hdf5 import H5PY_ERRORS, inside, open_features
from shards.problems import Problems
from shards.schema import Images

File = TypeVar("File")


class OpenFiles(Generic[File]):
    """Files by name, opened when they are asked for; beyond `limit` the one that was asked for longest ago is closed.

    A context manager that closes them all.
    """

    def __init__(self, open_file: Callable[[str], File], close_file: Callable[[File], None], limit: int) -> None:
        self._open_file, self._close_file, self._limit = open_file, close_file, limit
        self._files: OrderedDict[str, File] = OrderedDict()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with ExitStack() as stack:
            for file in self._files.values():
                stack.callback(self._close_file, file)
            self._files.clear()

    def __getitem__(self, name: str) -> File:
        if name not in self._files:
            if len(self._files) == self._limit:
                self._close_file(self._files.popitem(last=False)[1])
            self._files[name] = self._open_file(name)
        self._files.move_to_end(name)
        return self._files[name]


class FeatureFiles(OpenFiles[Any]):
    """The feature files below `root`, a few open at a time. shape: (regions, width) of every image."""

    def __init__(self, root: Path, shape: Sequence[int] | None, limit: int = 16) -> None:
        super().__init__(lambda name: open_features(root / name), lambda file: file.close(), limit)
        self._shape = tuple(shape or ())

    def read(self, url: str, url_hash: str, places: Mapping[int, Sequence[str]], problems: Problems) -> Images | None:
        """Return the article's images that are in order, or None without any.

        places: number of an image -> names of the files that have it, numbers ascending. D2TV's own trees repeat an
        article's images in the files of all its directions: the first that is in order is taken.

        Counted: "missing features" (an article without an image), "missing image" (a gap in the numbers), "wrong dims",
        "non-finite features", "broken image", "repeated image" (with the same content), "duplicate image" (with
        another one).
        """
        if not places:
            problems.count("missing features", url)
            return None
        rois, boxes = [], []
        expected = 0
        for number, names in places.items():
            if number != expected:
                problems.count("missing image", f"{url}: image {expected}")
            expected = number + 1
            first: _Image | None = None
            for name in names:
                where = f"{name}: {url_hash}_{number}"
                try:
                    image = self._image(name, f"{url_hash}_{number}")
                except _Unfit as error:
                    problems.count(error.kind, f"{where}: {error}")
                    continue
                if first is None:
                    first = image
                else:
                    problems.count("repeated image" if image.equals(first) else "duplicate image", where)
            if first is not None:
                roi_RV, boxes_R4 = first.stored()
                rois.append(roi_RV)
                boxes.append(boxes_R4)
        return Images(roi_IRV=np.stack(rois), boxes_IR4=np.stack(boxes)) if rois else None

    def _image(self, name: str, image: str) -> "_Image":
        try:
            group = inside(self[name], image)
            features, boxes = (_of_numbers(inside(group, key)) for key in ("features", "boxes"))
            shapes = features.shape, boxes.shape
            # Before anything is read: a file of some bytes may say that it holds terabytes.
            if shapes != (self._shape, (*self._shape[:1], 4)):
                raise _Unfit("wrong dims", f"features {shapes[0]}, boxes {shapes[1]}; the others {self._shape}")
            found = _Image(
                raw_RV=np.asarray(features, np.float32),
                pixels_R4=np.asarray(boxes, np.float64),
                size=(_number(group, "img_w"), _number(group, "img_h")),
            )
        except H5PY_ERRORS as error:
            raise _Unfit("broken image", str(error)) from error
        roi_RV, _ = found.stored()
        if not np.isfinite(roi_RV).all() or not np.isfinite(found.pixels_R4).all():
            raise _Unfit("non-finite features", "in float16")
        if not all(0 < side < np.inf for side in found.size):
            raise _Unfit("broken image", f"size {found.size[0]} x {found.size[1]}")
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class _Image:
    """An image as its file has it: features, boxes in pixels, width and height."""

    raw_RV: NDArray[np.float32]
    pixels_R4: NDArray[np.float64]
    size: tuple[float, float]

    def equals(self, other: "_Image") -> bool:
        return (
            self.size == other.size
            and np.array_equal(self.raw_RV, other.raw_RV)
            and np.array_equal(self.pixels_R4, other.pixels_R4)
        )

    def stored(self) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
        """Return features and boxes as a corpus stores them: float16, and shares of the picture's sides."""
        with np.errstate(all="ignore"):  # what comes of it is looked for
            roi_RV = self.raw_RV.astype(np.float16)
            boxes_R4 = np.clip(self.pixels_R4 / (self.size * 2), 0, 1).astype(np.float32)
        return roi_RV, boxes_R4


class _Unfit(Exception):
    """An image that is left out, and the kind of problem it is."""

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(why)
        self.kind = kind


def _of_numbers(dataset: Any) -> Any:
    """Return a dataset if it is one of numbers that lie in its own file; `TypeError` for any other."""
    if dataset.dtype.kind not in "fiu":
        raise TypeError(f"{dataset.dtype} are no numbers")
    if dataset.external or dataset.is_virtual:
        raise TypeError("its numbers are in another file")
    return dataset


def _number(group: Any, key: str) -> float:
    try:
        value = inside(group, key)
    except KeyError:
        value = group.attrs[key]
    if value.shape not in ((), (1,)):
        raise ValueError(f"{key} is not one number")
    return float(np.asarray(value, np.float64).reshape(()))
