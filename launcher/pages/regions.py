"""The regions of an image as boxes on the picture, or on an empty canvas where a corpus keeps features alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from launcher.pages.page import data_uri, escape

_SIDE = 220
#: Regions whose features tell the principal components.
_SAMPLE = 512

STYLE = """
.images { display: flex; flex-wrap: wrap; gap: 1rem; } figure { margin: 0; width: 222px; }
figcaption { font-size: .8rem; }
.canvas { background: var(--panel); border: 1px solid var(--line); }
.canvas rect { fill-opacity: .55; stroke: var(--ink); stroke-opacity: .5; }
.canvas rect:hover { fill-opacity: .9; stroke-opacity: 1; }
.canvas.picture { background: none; } .canvas.picture rect { fill-opacity: 0; stroke-opacity: .8; }
.canvas.picture rect:hover { fill-opacity: .6; stroke-opacity: 1; }
"""


def colours(sequences: Sequence[NDArray[np.float16]]) -> list[list[list[str]]]:
    """A colour a region by sequence, image and region: its first three principal components as red, green, blue.

    sequences: each (I, R, V). The components are those of all regions together, so regions that look alike to the
    network look alike here, within an image and between two.
    """
    flat_NV = np.concatenate([roi_IRV.reshape(-1, roi_IRV.shape[2]) for roi_IRV in sequences]).astype(np.float64)
    flat_NV -= flat_NV.mean(axis=0)
    # Some hundred regions tell the components of thousands, and there are fewer of them than of feature dimensions.
    some_SV = flat_NV[:: -(-len(flat_NV) // _SAMPLE)]
    values_S, vectors_SS = np.linalg.eigh(some_SV @ some_SV.T)
    shares_N3 = np.full((len(flat_NV), 3), 0.5)
    for channel, place in enumerate(range(len(values_S) - 1, -1, -1)[:3]):
        if values_S[place] > 1e-9 * values_S[-1]:
            component_N = flat_NV @ (some_SV.T @ vectors_SS[:, place])
            # An axis has no direction of its own, and a library may turn it.
            component_N *= np.sign(component_N[np.argmax(np.abs(component_N))])
            shares_N3[:, channel] = (component_N - component_N.min()) / max(np.ptp(component_N), 1e-12)
    spelled = [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in np.rint(40 + 190 * shares_N3).astype(int)]
    regions = iter(spelled)
    return [[list(islice(regions, roi_IRV.shape[1])) for _ in roi_IRV] for roi_IRV in sequences]


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """An image file, PNG or JPEG, and the width and height of what is in it."""

    file: bytes
    size: tuple[int, int]


def canvas(
    roi_RV: NDArray[np.float16],
    boxes_R4: NDArray[np.float32],
    colours_R: list[str],
    label: str,
    picture: Picture | None = None,
) -> str:
    """An SVG of one image's regions, the largest at the bottom; a tooltip a region with its box and norm.

    picture: what the regions are of, and are then drawn on as outlines. Boxes are shares of its width and height.
    """
    wide = high = _SIDE
    under = ""
    if picture is not None:
        wide, high = (max(round(_SIDE * side / max(picture.size)), 1) for side in picture.size)
        under = f'<image href="{data_uri(picture.file)}" width="{wide}" height="{high}"></image>'
    size = (boxes_R4[:, 2] - boxes_R4[:, 0]) * (boxes_R4[:, 3] - boxes_R4[:, 1])
    norms = np.linalg.norm(roi_RV.astype(np.float32), axis=1)
    parts = [
        f'<figure><svg class="canvas{" picture" if picture else ""}" role="img" aria-label="{escape(label)}" '
        f'width="{wide}" height="{high}" viewBox="0 0 {wide} {high}">{under}'
    ]
    for region in np.argsort(-size, kind="stable").tolist():
        x1, y1, x2, y2 = (float(edge) for edge in boxes_R4[region])
        tip = f"region {region}: ({x1:.3f}, {y1:.3f}) to ({x2:.3f}, {y2:.3f}), norm {norms[region]:.3g}"
        parts.append(
            f'<rect fill="{colours_R[region]}" x="{wide * x1:.1f}" y="{high * y1:.1f}" '
            f'width="{max(wide * (x2 - x1), 0):.1f}" height="{max(high * (y2 - y1), 0):.1f}">'
            f"<title>{escape(tip)}</title></rect>"
        )
    norm = f"{norms.min():.3g} – {norms.max():.3g}" if len(norms) else "none"
    parts.append(
        f'</svg><figcaption>{escape(label)}<br><span class="soft">roi {roi_RV.shape} {roi_RV.dtype}<br>'
        f"boxes {boxes_R4.shape} {boxes_R4.dtype}<br>norms {norm}</span></figcaption></figure>"
    )
    return "\n".join(parts)
