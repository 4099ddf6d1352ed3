"""A directory as XL-Sum, CrossSum and MM-Sum lay it out, small, with real HDF5 files; and every way to break it."""

import hashlib
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

REGIONS, WIDTH = 4, 6
#: Pixels: boxes of `features_of` lie within.
SIZE = (640, 480)


def url_hash(url: str) -> str:
    return hashlib.sha1(url.encode()).hexdigest()


def features_of(url: str, number: int) -> NDArray[np.float32]:
    """(4, 6) float32 that no other image has, exact in float16."""
    seed = int.from_bytes(hashlib.sha256(f"{url} {number}".encode()).digest()[:4], "big")
    return np.random.default_rng(seed).integers(-512, 512, (REGIONS, WIDTH)).astype(np.float32) / 64


class CrossSumTree:
    """Records and images, to be written below `root` by `write`; text and summary are made up where none is given."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lines: dict[str, list[str]] = {}
        self._images: list[tuple[str, str, dict[str, Any]]] = []

    def line(self, name: str, line: str) -> None:
        """A raw line at the end of a file."""
        self._lines.setdefault(name, []).append(line)

    def article(
        self, language: str, url: str, *, split: str = "train", images: int = 0, folder: str = "xlsum", **fields: Any
    ) -> None:
        record = {"id": url_hash(url)[:8], "url": url, "title": "t", "summary": f"summary of {url}"}
        record |= {"text": f"text of {url} in {language}"} | fields
        self.line(f"{folder}/{language}_{split}.jsonl", json.dumps(record, ensure_ascii=False))
        for number in range(images):
            self.image(url, number)

    def pair(
        self,
        source: tuple[str, str],
        target: tuple[str, str],
        *,
        split: str = "train",
        both: bool = False,
        **fields: str,
    ) -> None:
        """source, target: (language, url).  both: the pair the other way round as well."""
        record = {"source_url": source[1], "target_url": target[1], "summary": f"summary of {target[1]}"}
        record |= {"text": f"text of {source[1]} in {source[0]}"} | fields
        self.line(f"crosssum/{source[0]}-{target[0]}_{split}.jsonl", json.dumps(record, ensure_ascii=False))
        if both:
            self.pair(target, source, split=split)

    def image(self, url: str, number: int, *, file: str = "mmsum/images.h5", group: str = "", **data: Any) -> None:
        """An image; `data` replaces datasets, None leaves one out; `attributes=True` makes the sizes attributes."""
        x, y = np.meshgrid([0.0, 64.0], [0.0, 48.0])
        boxes = np.stack([x.ravel(), y.ravel(), x.ravel() + 320, y.ravel() + 240], 1).astype(np.float32)
        content = {"features": features_of(url, number), "boxes": boxes, "img_w": SIZE[0], "img_h": SIZE[1]}
        content |= {"obj_id": np.zeros(REGIONS), "obj_conf": np.ones(REGIONS)} | data
        self._images.append((file, group or f"{url_hash(url)}_{number}", content))

    def write(self) -> Path:
        """Write everything, or what came since; the root."""
        for name, lines in self._lines.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(line + "\n" for line in lines), encoding="utf-8", errors="surrogatepass")
        for name, group_name, content in self._images:
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            with h5py.File(self.root / name, "a") as file:
                group = file.create_group(group_name)
                attributes = content.pop("attributes", False)
                for key, value in content.items():
                    if value is not None and attributes and key.startswith("img_"):
                        group.attrs[key] = value
                    elif value is not None:
                        group[key] = value
        self._images.clear()
        return self.root
