"""Corrupt pictures as ImageNet-C does, by the package imagecorruptions-imaug.

Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations", ICLR 2019.
"""

import importlib.util

import numpy as np
from numpy.typing import NDArray
from PIL import Image

#: Those of MMRobustness without its style transfer, which needs a model.
CORRUPTIONS = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "speckle_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)
#: The package's smallest side of a picture.
_SMALLEST = 32
#: These take a seed as argument; the others draw from numpy's global generator.
_SEEDED = frozenset({"impulse_noise", "glass_blur"})


def why_not_usable() -> str | None:
    """Return the reason why the package cannot be used here; None where it can."""
    if importlib.util.find_spec("imagecorruptions") is None:
        return "it needs the package imagecorruptions: pip install 'd2tv[robustness]'"
    try:
        import imagecorruptions  # noqa: F401
    except ImportError as error:  # OpenCV's wheel needs libraries of a desktop
        return f"imagecorruptions cannot be loaded ({error}): on Debian, apt install libgl1 libglib2.0-0"
    return None


def corrupted(image: Image.Image, name: str, severity: int, seed: int) -> Image.Image:
    """Return a corrupted picture of the same size, transparency on white; the same for the same seed."""
    from imagecorruptions import corrupt

    rgba = image.convert("RGBA")
    white = Image.new("RGBA", rgba.size, "white")
    rgb = Image.alpha_composite(white, rgba).convert("RGB")
    if min(rgb.size) < _SMALLEST:
        scale = _SMALLEST / min(rgb.size)
        rgb = rgb.resize((round(rgb.width * scale), round(rgb.height * scale)), Image.Resampling.BICUBIC)
    before = np.random.get_state()
    np.random.seed(seed & 0xFFFF_FFFF)
    try:
        more = {"seed": seed & 0x7FFF_FFFF} if name in _SEEDED else {}
        pixels: NDArray[np.uint8] = corrupt(np.asarray(rgb), corruption_name=name, severity=severity, **more)
    finally:
        np.random.set_state(before)
    return Image.fromarray(pixels)
