"""Draw the regions of images as boxes on the picture, or on an empty canvas where a corpus keeps features alone."""

from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.schema import Images

_SIDE = 220
#: Regions whose features tell the principal components.
_SAMPLE = 512


def colours(sequences: Sequence[NDArray[np.float16]]) -> list[list[list[str]]]:
    """Return a colour a region by sequence, image and region: its first three principal components as red, green, blue.

    sequences: each (I, R, V). The components are those of all regions together, so regions that look alike to the
    network look alike here, within an image and between two.
    """
    flat_NV = np.concatenate([roi_IRV.reshape(-1, roi_IRV.shape[2]) for roi_IRV in sequences]).astype(np.float64)
    flat_NV -= flat_NV.mean(axis=0)
    # Some hundred regions tell the components of thousands, and there are fewer of them than of feature dimensions.
    some_SV = flat_NV[:: -(-len(flat_NV) // _SAMPLE)]
    values_S, vectors_SS = np.linalg.eigh(some_SV @ some_SV.T)
    shares_N3 = np.full((len(flat_NV), 3), 0.5)
    for channel, index in enumerate(range(len(values_S) - 1, -1, -1)[:3]):
        if values_S[index] > 1e-9 * values_S[-1]:
            component_N = flat_NV @ (some_SV.T @ vectors_SS[:, index])
            # An axis has no direction of its own, and a library may turn it.
            component_N *= np.sign(component_N[np.argmax(np.abs(component_N))])
            shares_N3[:, channel] = (component_N - component_N.min()) / max(np.ptp(component_N), 1e-12)
    spelled = [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in np.rint(40 + 190 * shares_N3).astype(int)]
    regions = iter(spelled)
    return [[list(islice(regions, roi_IRV.shape[1])) for _ in roi_IRV] for roi_IRV in sequences]


def canvases(
    images: Images, sizes: Sequence[tuple[int, int]], colours_IR: Sequence[list[str]], *, count: bool
) -> list[dict[str, Any]]:
    """Place the regions of images for the macro `images` of parts.html.jinja, the largest of an image first.

    sizes: width and height of each file, where files are kept.  count: say in labels how many images there are.
    """
    drawn: list[dict[str, Any]] = []
    for index, (roi_RV, boxes_R4) in enumerate(zip(images.roi_IRV, images.boxes_IR4, strict=True)):
        file, wide, high = None, _SIDE, _SIDE
        if images.pixels:
            file = images.pixels[index]
            wide, high = (max(round(_SIDE * side / max(sizes[index])), 1) for side in sizes[index])
        size_R = (boxes_R4[:, 2] - boxes_R4[:, 0]) * (boxes_R4[:, 3] - boxes_R4[:, 1])
        norms_R = np.linalg.norm(roi_RV.astype(np.float32), axis=1)
        regions = []
        for region in np.argsort(-size_R, kind="stable").tolist():
            x1, y1, x2, y2 = boxes_R4[region].tolist()  # shares of width and height
            box = (wide * x1, high * y1, max(wide * (x2 - x1), 0), max(high * (y2 - y1), 0))
            tip = f"region {region}: ({x1:.3f}, {y1:.3f}) to ({x2:.3f}, {y2:.3f}), norm {norms_R[region]:.3g}"
            regions.append((colours_IR[index][region], box, tip))
        norm = f"{norms_R.min():.3g} – {norms_R.max():.3g}" if len(norms_R) else "none"
        drawn.append(
            {
                "label": f"image {index + 1}" + (f" of {len(images.roi_IRV)}" if count else ""),
                "file": file,
                "width": wide,
                "height": high,
                "regions": regions,
                "facts": (
                    f"roi {roi_RV.shape} {roi_RV.dtype}",
                    f"boxes {boxes_R4.shape} {boxes_R4.dtype}",
                    f"norms {norm}",
                ),
            }
        )
    return drawn
