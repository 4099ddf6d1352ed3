"""The image files that a corpus may keep beside its features: which formats, and how one becomes a picture.

An image is one tar member, `<story>.<number>.png` where the story's articles share it and
`<story>.<language>.<number>.png` where they do not, numbered from 0 in the order of the features. PNG and JPEG are
stored byte for byte, and are what stock `webdataset` decodes; anything else is stored as PNG.
"""

import io

from PIL import Image

#: The last part of a member's name, and what such a file begins with.
SUFFIXES = {"png": b"\x89PNG\r\n\x1a\n", "jpg": b"\xff\xd8\xff"}
#: What Pillow's readers raise for files that are not what their name says, or are damaged.
DAMAGED_IMAGE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
#: What PNG can hold of Pillow's modes.
_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA")


def suffix_of(data: bytes) -> str | None:
    """ "png" or "jpg" by the first bytes of an image file; None for any other format."""
    return next((suffix for suffix, begins in SUFFIXES.items() if data.startswith(begins)), None)


def storable(data: bytes) -> bytes:
    """An image file as a corpus stores it: itself where it is PNG or JPEG, else its first frame as PNG.

    Raises one of `DAMAGED_IMAGE` where it cannot be converted.
    """
    if suffix_of(data) is not None:
        return data
    file = io.BytesIO()
    with Image.open(io.BytesIO(data)) as image:
        (image if image.mode in _PNG_MODES else image.convert("RGBA")).save(file, "PNG")
    return file.getvalue()


def decode(data: bytes) -> Image.Image:
    """The picture in a stored file, of any mode and size. Raises one of `DAMAGED_IMAGE`."""
    with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
        image.load()
        return image
