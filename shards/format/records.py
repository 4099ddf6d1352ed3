"""Define the records of fixed width that the tables of an index are made of."""

from typing import Annotated, NamedTuple, get_type_hints

import numpy as np

#: Bytes of the .npy header of an array of three dimensions, as numpy writes it since 1.14.
NPY_HEADER = 128

_U2 = Annotated[int, "<u2"]
_U4 = Annotated[int, "<u4"]
_U8 = Annotated[int, "<u8"]


class ArticleRecord(NamedTuple):
    """One article of the index.

    json_*, roi_*, boxes_*: a member's data in its tar, offset and length in bytes, CRC32C; roi_* and boxes_* are zero
    where the article has no images, and the same for articles that share theirs.  text_*: its part of the text arena,
    which is url, text and summary one after the other, with their CRC32C.
    """

    story: _U4
    language: _U2
    images: _U2
    shard: _U4
    json_offset: _U8
    json_length: _U4
    json_crc: _U4
    roi_offset: _U8
    roi_length: _U4
    roi_crc: _U4
    boxes_offset: _U8
    boxes_length: _U4
    boxes_crc: _U4
    text_offset: _U8
    url_length: _U4
    text_length: _U4
    summary_length: _U4
    text_crc: _U4


ARTICLE = np.dtype(
    [(name, hint.__metadata__[0]) for name, hint in get_type_hints(ArticleRecord, include_extras=True).items()]
)

#: One image's file in its tar, where a corpus keeps the pixels. roi_offset: of the features whose `image`-th it is,
#: from 0. Sorted by shard, roi_offset and image.
PIXELS = np.dtype(
    [
        ("shard", "<u4"),
        ("roi_offset", "<u8"),
        ("image", "<u2"),
        ("offset", "<u8"),
        ("length", "<u4"),
        ("crc", "<u4"),
    ]
)

#: The rows of a variant and of the article that it is a source of. Sorted by row.
VARIANTS = np.dtype([("row", "<u4"), ("target", "<u4")])
