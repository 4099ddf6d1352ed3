"""The image features of MM-Sum: HDF5 files with a group an image, `features`, `boxes`, `img_w` and `img_h` in it.

`features` (regions, width) float32, `boxes` (regions, 4) x1 y1 x2 y2 in pixels; the sizes are numbers, as datasets
or as attributes. An image's id is the SHA-1 of its article's URL, "_" and its number.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from shards.corpora.crosssum_index import H5PY_ERRORS, open_features
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

    def read(self, url: str, url_hash: str, places: Sequence[tuple[int, str]], problems: Problems) -> Images | None:
        """The article's images that are in order; `places`: (number, file name), ascending. None without any.

        Counted: "missing features" (an article without an image), "missing image" (a gap in the numbers), "wrong dims",
        "non-finite features", "broken image".
        """
        if not places:
            problems.count("missing features", url)
            return None
        rois, boxes = [], []
        expected = 0
        for number, name in places:
            if number != expected:
                problems.count("missing image", f"{url}: image {expected}")
            expected = number + 1
            try:
                roi_RV, boxes_R4 = self._image(name, f"{url_hash}_{number}")
            except _Unfit as error:
                problems.count(error.kind, f"{name}: {url_hash}_{number}: {error}")
                continue
            rois.append(roi_RV)
            boxes.append(boxes_R4)
        return Images(roi_IRV=np.stack(rois), boxes_IR4=np.stack(boxes)) if rois else None

    def _image(self, name: str, image: str) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
        try:
            group = self[name][image]
            raw_RV = np.asarray(group["features"], np.float32)
            pixels_R4 = np.asarray(group["boxes"], np.float64)
            width, height = (_number(group, key) for key in ("img_w", "img_h"))
        except H5PY_ERRORS as error:
            raise _Unfit("broken image", str(error)) from error
        if raw_RV.shape != self._shape or pixels_R4.shape != (self._shape[0], 4):
            raise _Unfit("wrong dims", f"features {raw_RV.shape}, boxes {pixels_R4.shape}; the others {self._shape}")
        with np.errstate(over="ignore", invalid="ignore"):  # looked for below
            roi_RV = raw_RV.astype(np.float16)
        if not np.isfinite(roi_RV).all() or not np.isfinite(pixels_R4).all():
            raise _Unfit("non-finite features", "in float16")
        if not (0 < width < np.inf and 0 < height < np.inf):
            raise _Unfit("broken image", f"size {width} x {height}")
        boxes_R4 = np.clip(pixels_R4 / (width, height, width, height), 0, 1).astype(np.float32)
        return roi_RV, boxes_R4


class _Unfit(Exception):
    """An image that is left out, and the kind of problem it is."""

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(why)
        self.kind = kind


def _number(group: Any, key: str) -> float:
    value = np.asarray(group[key] if key in group else group.attrs[key], np.float64)
    return float(value.reshape(()))
