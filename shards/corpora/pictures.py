"""Read the picture files of a source: their region features, and the files themselves where pixels are kept."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from shards.corpora.grid import BATCH_SIZE, grid_boxes
from shards.corpora.npm import RESNET, fetch
from shards.format.pixels import DamagedImageError, decode, read_image_file, storable
from shards.problems import Problems
from shards.schema import Images

if TYPE_CHECKING:
    from shards.corpora.features import GridFeatures


class Pictures:
    """Makes `Images` of picture files by the extractor of shards/corpora/features.py. Can be pickled until it is used.

    Needs the package `shards.corpora.npm.RESNET`.
    """

    def __init__(self, cache: Path, *, pixels: bool, noun: str) -> None:
        """cache: as of `fetch`.  pixels: the files are kept too.  noun: of pictures, in the kinds of problems."""
        self._cache = cache
        self._pixels = pixels
        self._noun = noun

    def read(self, names: Mapping[Path, str], problems: Problems) -> dict[Path, Images]:
        """Return the `Images` of one picture of every file that can be read, by path.

        names: path -> its name in problems. Features are computed in batches, in this order.

        Counted: "unreadable NOUN"; where pixels are kept, "NOUN kept as PNG" for what is neither PNG nor JPEG.
        """
        paths = list(names)
        found: dict[Path, Images] = {}
        for first in range(0, len(paths), BATCH_SIZE):  # a photograph takes megabytes
            opened: dict[Path, Image.Image] = {}
            files: dict[Path, bytes] = {}
            for path in paths[first : first + BATCH_SIZE]:
                try:
                    data = read_image_file(path)
                    picture = decode(data)
                    if self._pixels:
                        files[path] = storable(data)
                        if files[path] != data:
                            problems.count(f"{self._noun} kept as PNG", names[path])
                    opened[path] = picture
                except DamagedImageError as error:
                    problems.count(f"unreadable {self._noun}", f"{names[path]}: {error}")
            if opened:
                roi_IRV = self._extractor.extract(list(opened.values()))
                for number, path in enumerate(opened):
                    found[path] = Images(
                        roi_IRV=roi_IRV[number : number + 1],
                        boxes_IR4=grid_boxes()[None],
                        pixels=(files[path],) if self._pixels else None,
                    )
        return found

    def describe(self) -> dict[str, Any]:
        """Describe the extractor for the manifest. JSON-able."""
        return self._extractor.describe()

    @cached_property
    def _extractor(self) -> "GridFeatures":
        from shards.corpora.features import GridFeatures  # torch, which a refusal does not need

        return GridFeatures(fetch(RESNET, self._cache))


def sequence_of(images: Sequence[Images]) -> Images:
    """Return the images one behind the other as one sequence; all have pixels, or none."""
    files = [each.pixels for each in images if each.pixels is not None]
    return Images(
        roi_IRV=np.concatenate([each.roi_IRV for each in images]),
        boxes_IR4=np.concatenate([each.boxes_IR4 for each in images]),
        pixels=tuple(file for each in files for file in each) if files else None,
    )
