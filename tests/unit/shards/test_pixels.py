"""The one loader of pictures: what it makes of every mode, and of files that are damaged or no picture."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin
from PIL.ExifTags import Base

from shards.corpora.features import _pixels
from shards.format.pixels import DamagedImageError, decode, read_image, squared, storable, suffix_of


def scene(size: tuple[int, int] = (40, 24)) -> Image.Image:
    """A picture that differs from its mirror images and turns."""
    x, y = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
    return Image.fromarray(np.stack([x, y, (x + 2 * y) / 3], -1).astype(np.uint8))


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def seen(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"), np.float32)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_stands_as_its_camera_says(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[Base.Orientation] = orientation
    turn = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # what undoes the orientation, as Transpose numbers them
    undo = {0: 0, 1: 1, 2: 4, 3: 3, 4: 2, 5: 5, 6: 6}
    stored = scene() if orientation == 1 else scene().transpose(Image.Transpose(undo[turn[orientation]]))
    found = decode(saved(stored, kind, exif=exif, quality=95))
    assert found.size == (40, 24)
    assert np.abs(seen(found) - seen(scene())).mean() < 4
    if kind == "WEBP":  # as the corpus keeps it
        np.testing.assert_array_equal(seen(decode(storable(saved(stored, kind, exif=exif, quality=95)))), seen(found))


def test_ordinary_pictures_give_the_very_bytes_that_they_always_gave() -> None:
    clear = scene().convert("RGBA")
    clear.putalpha(Image.fromarray(np.tile(np.arange(40, dtype=np.uint8) * 6, (24, 1))))
    palette = scene().quantize(8)
    palette.info["transparency"] = 3
    animated = [scene(), ImageOps.invert(scene())]
    files = {
        "RGB": saved(scene(), "PNG"),
        "JPEG": saved(scene(), "JPEG"),
        "L": saved(scene().convert("L"), "PNG"),
        "1": saved(scene().convert("1"), "PNG"),
        "LA": saved(clear.convert("LA"), "PNG"),
        "RGBA": saved(clear, "PNG"),
        "P": saved(palette, "PNG"),
        "tRNS": saved(scene().quantize(8), "PNG", transparency=bytes(range(0, 240, 30))),
        "CMYK": saved(scene().convert("CMYK"), "JPEG"),
        "GIF": saved(animated[0], "GIF", save_all=True, append_images=animated[1:]),
        "APNG": saved(animated[0], "PNG", save_all=True, append_images=animated[1:]),
        "WEBP": saved(clear, "WEBP", lossless=True),
    }
    for name, data in files.items():
        with Image.open(io.BytesIO(data)) as image:
            expected = _pixels(image)
        np.testing.assert_array_equal(_pixels(decode(data)), expected, err_msg=name)
        assert suffix_of(storable(data)) == ("jpg" if name in ("JPEG", "CMYK") else "png")
        np.testing.assert_array_equal(_pixels(decode(storable(data))), expected, err_msg=name)


def test_grey_of_more_than_eight_bits_is_scaled() -> None:
    grey = np.asarray(scene().convert("L"))
    wide = grey.astype(np.uint16) * 257
    files = {
        "16-bit PNG": saved(Image.fromarray(wide), "PNG"),
        "16-bit TIFF": saved(Image.fromarray(wide), "TIFF"),
        "32-bit TIFF of 16 bits": saved(Image.fromarray(wide.astype(np.int32)), "TIFF"),
        "32-bit TIFF": saved(Image.fromarray(grey.astype(np.int32) * (2**31 // 256)), "TIFF"),
        "32-bit TIFF of 8 bits": saved(Image.fromarray(grey.astype(np.int32)), "TIFF"),
        "shares of 1": saved(Image.fromarray(grey.astype(np.float32) / 255), "TIFF"),
        "floats of 8 bits": saved(Image.fromarray(grey.astype(np.float32)), "TIFF"),
        "floats of 16 bits": saved(Image.fromarray(wide.astype(np.float32)), "TIFF"),
    }
    for name, data in files.items():
        found = decode(data)
        assert found.mode == "L", name
        assert np.abs(np.asarray(found).astype(int) - grey).max() <= 1, name
    dark = decode(saved(Image.fromarray(np.full((4, 4), 300, np.uint16)), "PNG"))
    assert dark.getpixel((0, 0)) == 1  # white is that of 16 bits, however dark the picture
    clear = Image.fromarray(np.array([[0, 65535]], np.uint16))
    assert np.asarray(decode(saved(clear, "PNG", transparency=65535))).tolist() == [[[0, 255], [255, 0]]]
    with pytest.raises(DamagedImageError, match="not all finite"):
        decode(saved(Image.fromarray(np.array([[0, np.nan]], np.float32)), "TIFF"))


def test_a_picture_is_squared_whole() -> None:
    """Resize whatever the proportions and cut nothing off; show white where it is transparent."""
    wide = scene((300, 60))
    np.testing.assert_array_equal(squared(wide, 32), np.asarray(wide.resize((32, 32), Image.Resampling.BICUBIC)))
    clear = scene().convert("RGBA")
    clear.putalpha(0)
    palette = Image.new("P", (9, 5))
    palette.info["transparency"] = 0
    for picture in (clear, palette, clear.convert("LA")):
        assert (squared(picture, 16) == 255).all()
    for mode in ("L", "1", "CMYK", "P"):
        found = squared(scene().convert(mode), 24)
        assert (found.shape, found.dtype) == ((24, 24, 3), np.uint8)


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few kilobytes that says it has so many pixels of one bit."""
    rows = zlib.compress(bytes((width // 8 + 1) * height))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)), (b"IDAT", rows), (b"IEND", b"")]
    parts = (struct.pack(">I", len(d)) + kind + d + struct.pack(">I", zlib.crc32(kind + d)) for kind, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_what_is_no_picture_says_why_in_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "a" * (2 << 20), zip=True)
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    files = {
        "more pixels than Pillow reads": (bomb(14000, 13000), "has more than 89,478,485 pixels"),
        "more than it warns of": (bomb(10000, 9000), "has more than 89,478,485 pixels"),
        "a text that unpacks to megabytes": (saved(scene(), "PNG", pnginfo=text), "Decompressed data too large"),
        "cut off": (saved(scene(), "JPEG")[:-100], "truncated"),
        "nothing": (b"", "its format is none of"),
        "text": (b"no picture", "its format is none of"),
        "a program that Pillow would start another for": (eps, "its format is none of"),
    }
    for name, (data, why) in files.items():
        (tmp_path / "file.png").write_bytes(data)
        with pytest.raises(DamagedImageError) as caught:
            read_image(tmp_path / "file.png")
        assert why in str(caught.value), name
        assert "\n" not in str(caught.value)
    os.mkfifo(tmp_path / "fifo.png")
    for path, why in (
        (tmp_path / "fifo.png", "it is a FIFO, not a regular file"),
        (tmp_path, "it is a directory"),
        (tmp_path / "no.png", "No such file"),
        (tmp_path / "nul\0.png", "null byte"),
        (tmp_path / f"{'long' * 100}.png", "File name too long"),
    ):
        with pytest.raises(DamagedImageError, match=why):
            read_image(path)
    assert capfd.readouterr() == ("", "")  # no warning of Pillow's


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "PPM"])
def test_damage_anywhere_is_a_picture_or_one_line(kind: str) -> None:
    exif = Image.Exif()
    exif[Base.Orientation] = 6
    sound = saved(scene(), kind, exif=exif) if kind in ("PNG", "JPEG", "WEBP", "TIFF") else saved(scene(), kind)
    draw = np.random.default_rng(0)
    refused = []
    for number in range(150):
        data = bytearray(sound)
        # Half of the damage in the first bytes, where the structure is.
        for place in draw.integers(0, len(data) if number % 2 else min(200, len(data)), 1 + number % 3):
            data[place] = draw.integers(0, 256)
        if number % 5 == 0:
            del data[int(draw.integers(0, len(data))) :]
        try:
            decode(bytes(data)).convert("RGBA")
        except DamagedImageError as error:
            refused.append(str(error))
    assert 0 < len(refused) < 150
    assert "\n" not in "".join(refused)
