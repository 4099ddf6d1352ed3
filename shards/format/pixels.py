"""Read image files, the only place that does, and convert those that a corpus keeps beside its features.

An image that is kept is one tar member, `<story>.<number>.png` where the story's articles share it and
`<story>.<language>.<number>.png` where they do not, numbered from 0 in the order of the features. PNG and JPEG are
stored byte for byte, and are what stock `webdataset` decodes; anything else is stored as PNG.
"""

import io
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from shards.errors import reason
from shards.files.read import open_regular

#: The last part of a member's name, and what such a file begins with.
SUFFIXES = {"png": b"\x89PNG\r\n\x1a\n", "jpg": b"\xff\xd8\xff"}
#: What Pillow may read with. Of its other readers some start programs (EPS) and none is for pictures of documents.
_FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "AVIF", "BMP", "TIFF", "PPM", "JPEG2000", "ICO")
#: Bytes that an image file may have.
_LARGEST = 256 << 20
#: Modes of eight bits that Pillow converts to every other one, and those of them that PNG can hold.
_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA")
_MODES = (*_PNG_MODES, "PA", "CMYK", "YCbCr")


class DamagedImageError(Exception):
    """An image file that cannot be read. The message says why in one line, without the file's name."""


def suffix_of(data: bytes) -> str | None:
    """Return "png" or "jpg" by the first bytes of an image file; None for any other format."""
    return next((suffix for suffix, begins in SUFFIXES.items() if data.startswith(begins)), None)


def storable(data: bytes) -> bytes:
    """Return an image file as a corpus stores it: itself where it is PNG or JPEG, else its first frame as PNG.

    Raises: DamagedImageError where it cannot be converted.
    """
    if suffix_of(data) is not None:
        return data
    image = decode(data)
    file = io.BytesIO()
    (image if image.mode in _PNG_MODES else image.convert("RGBA")).save(file, "PNG")
    return file.getvalue()


def read_image(path: Path) -> Image.Image:
    """Return the picture in a file; see `decode`.

    Raises: DamagedImageError, also for a file that cannot be read, or is none: a directory, a FIFO.
    """
    return decode(read_image_file(path))


def read_image_file(path: Path) -> bytes:
    """Return the bytes of an image file. Raises as `read_image`."""
    try:
        with open_regular(path) as file:
            data = file.read(_LARGEST + 1)
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL, or with half a surrogate pair
        raise DamagedImageError(getattr(error, "strerror", None) or str(error)) from error
    if len(data) > _LARGEST:
        raise DamagedImageError(f"the file is larger than {_LARGEST >> 20} MiB")
    return data


def decode(data: bytes) -> Image.Image:
    """Return the picture in an image file, of any size and any mode of eight bits, as a person sees it.

    It stands as its EXIF orientation says. Of an animation it is the first frame. Grey of 16 or 32 bits, and of
    floating point, is scaled to eight (`_eight_bits`).

    Raises: DamagedImageError for what is no picture, is cut off, or has more pixels than `Image.MAX_IMAGE_PIXELS`.
    """
    try:
        with warnings.catch_warnings():
            # Pillow only warns up to twice as many pixels; its other warnings are of what does not change a picture.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=_FORMATS) as file:
                image = ImageOps.exif_transpose(file)
            if image.mode.startswith(("I", "F")):
                return _eight_bits(image)
            return image if image.mode in _MODES else image.convert("RGBA")
    except Exception as error:  # Pillow's readers have no error of their own for damage: it depends on the byte
        raise DamagedImageError(_why(error)) from error


def squared(image: Image.Image, side: int) -> NDArray[np.uint8]:
    """Return a picture as (side, side, 3) red, green, blue: all of it, whatever its proportions, resized bicubically.

    What is transparent becomes white.
    """
    if image.mode not in ("RGB", "L") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC))


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale grey of 16 bits, 32 bits or floating point to eight; what a 16-bit PNG calls transparent stays so.

    Files do not say what their white is. Whole numbers are of 8, 16 or 31 bits, whichever holds the largest of them,
    those of a 16-bit mode always of 16; floating-point numbers are shares of 1, else of 255, else of 65,535.
    """
    values = np.asarray(image, np.float32)
    most = float(values.max(initial=0))
    if not np.isfinite(values).all():
        raise ValueError("its grey values are not all finite")
    whites = (1, 255, 65535, 2**31 - 1) if image.mode == "F" else (255, 65535, 2**31 - 1)
    white = 65535 if image.mode.startswith("I;16") else next((w for w in whites if most <= w), most)
    grey = Image.fromarray(_bytes(values, white))
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    return grey


def _bytes(values: NDArray[np.float32], white: float) -> NDArray[np.uint8]:
    scaled: NDArray[np.uint8] = np.rint(np.clip(values / white, 0, 1) * 255).astype(np.uint8)
    return scaled


def _why(error: BaseException) -> str:
    """Say in one line what is wrong; Pillow's own words where they are fit for a person."""
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"it has more than {Image.MAX_IMAGE_PIXELS:,} pixels: make it smaller"
    if isinstance(error, UnidentifiedImageError):
        return f"its format is none of {', '.join(_FORMATS)}, or it is damaged"
    return f"it is damaged: {reason(error)}"
