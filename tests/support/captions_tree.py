"""Hold a small directory of real pictures with captions, as `d2tv prepare captions` and `wit` read it."""

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

#: Columns of WIT's published tables, in their order.
WIT_COLUMNS = [
    "language",
    "page_url",
    "image_url",
    "page_title",
    "section_title",
    "hierarchical_section_title",
    "caption_reference_description",
    "caption_attribution_description",
    "caption_alt_text_description",
    "mime_type",
    "original_height",
    "original_width",
    "is_main_image",
    "attribution_passes_lang_id",
    "page_changed_recently",
    "context_page_description",
    "context_section_description",
]


def picture(number: int, size: tuple[int, int] = (32, 24)) -> Image.Image:
    """Return a picture that no other number has."""
    colours = np.random.default_rng(number).integers(0, 256, (3, 4, 3), np.uint8)
    return Image.fromarray(colours).resize(size, Image.Resampling.NEAREST)


class CaptionsTree:
    """Collect captions and rows, which `write` writes; pictures are written at once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()
        self._lines: dict[str, list[str]] = {}
        self._rows: dict[str, list[list[str]]] = {}

    def picture(self, name: str, number: int = 0, kind: str = "PNG", **options: Any) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(self.root / name, kind, **options)

    def caption(self, image: str, language: str, caption: str, *, file: str = "captions.jsonl") -> None:
        fields = {"image": image, "language": language, "caption": caption}
        self.line(json.dumps(fields, ensure_ascii=False), file=file)

    def line(self, line: str, *, file: str = "captions.jsonl") -> None:
        self._lines.setdefault(file, []).append(line + "\n")

    def row(
        self, url: str, language: str, *, file: str = "wit_v1.train.all-00000-of-00001.tsv.gz", **fields: str
    ) -> None:
        """Add a row of WIT, in which `fields` replace the columns that begin so: caption, alt, section, page."""
        short = {
            "caption": "caption_reference_description",
            "attribution": "caption_attribution_description",
            "alt": "caption_alt_text_description",
            "section": "context_section_description",
            "page": "context_page_description",
        }
        values = dict.fromkeys(WIT_COLUMNS, "") | {
            "language": language,
            "image_url": url,
            "page_url": f"https://{language}.wikipedia.org/wiki/{url.rpartition('/')[2]}",
            "mime_type": "image/jpeg",
            "is_main_image": "true",
            **{short[name]: value for name, value in fields.items()},
        }
        self._rows.setdefault(file, [WIT_COLUMNS]).append(list(values.values()))

    def place(self, url: str, file: str) -> None:
        """Add a row of images.tsv."""
        self._rows.setdefault("images.tsv", [["image_url", "file"]]).append([url, file])

    def write(self) -> Path:
        """Write all lines and rows, compressed as their names say; return the root."""
        content = {name: "".join(lines) for name, lines in self._lines.items()}
        content |= {name: table(rows) for name, rows in self._rows.items()}
        for name, text in content.items():
            data = text.encode(errors="surrogatepass")
            (self.root / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return self.root


def table(rows: list[list[str]]) -> str:
    """Return rows as Python's csv writer gives them, quoted where they must be."""
    text = io.StringIO()
    csv.writer(text, delimiter="\t", lineterminator="\n").writerows(rows)
    return text.getvalue()
