"""Stories that are hard to show and to name: keys of all kinds, text that looks like markup, 0 to 9 images."""

import io
import itertools

import numpy as np
from PIL import Image

from shards.schema import Article, Images, Story

LANGUAGES = ("arabic", "english", "chinese_simplified", "urdu")
REGIONS, WIDTH = 4, 6

#: What a person calls a story, in the order of `strange_stories`.
KEYS = (
    "www.bbc.com/news/world-12.html",
    "two words  and a tab\t",
    "خبر/۱۲.jpg",
    "x" * 300,
    "新闻 " * 100,
    '<script>alert("1")</script>&amp;',
    "12",
    "%2E~",
)


def image_file(number: int) -> bytes:
    """A PNG, or a JPEG where `number` is odd, of a size and colour of its own."""
    file = io.BytesIO()
    Image.new("RGB", (8 + number % 5, 16), (20 * number % 256, 90, 40)).save(file, ("PNG", "JPEG")[number % 2])
    return file.getvalue()


def strange_stories(*, pixels: bool = False) -> list[Story]:
    """One story a key. The first has one article; four have images, shared, of their own, or both, 1 to 9 of them."""
    counter = itertools.count()
    random = np.random.default_rng(3)

    def images(count: int) -> Images:
        corner = random.uniform(0, 0.5, (count, REGIONS, 2))
        return Images(
            roi_IRV=random.standard_normal((count, REGIONS, WIDTH)).astype(np.float16),
            boxes_IR4=np.concatenate([corner, corner + 0.4], axis=-1).astype(np.float32),
            pixels=tuple(image_file(next(counter)) for _ in range(count)) if pixels else None,
        )

    made = []
    for number, key in enumerate(KEYS):
        present = LANGUAGES[1:2] if number == 0 else LANGUAGES
        articles = tuple(
            Article(
                language=language,
                text=f"نص {number} <b>bold</b> & 'quoted' \"twice\" {language} ‮override\x01 \n second line",
                summary=f"</p><img src=http://example.org/x> {number}",
                url=("https://example.org/?a=1&b=2", "javascript:alert(1)", 'x"><i>', "")[number % 4],
            )
            for language in present
        )
        shared = images(9) if number == 1 else images(2) if number in (3, 4) else None
        own = {language: images(count) for count, language in enumerate(LANGUAGES[:3], 1)} if number in (2, 3) else None
        edges = None if number % 2 else tuple((present[0], target) for target in present)
        made.append(Story(key=key, articles=articles, shared_images=shared, images=own, edges=edges))
    return made
