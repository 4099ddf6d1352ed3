"""`d2tv summarize`: a trained model on documents of one's own, from files, JSONL or standard input."""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from transformers.utils.logging import disable_progress_bar

from models.config import Decoding
from shards.batch import Batch
from shards.errors import InputError
from shards.languages import language_name
from trainer.progress import stage, track
from trainer.trained import Model, data_of, find_trained, load_model, trained_recipe

#: Corpora whose features are those that we can make of an image ourselves (shards/features.py).
_GRID_CORPORA = ("emoji", "help")
#: Where progress goes: standard output is for summaries.
_ERRORS = Console(stderr=True, highlight=False)
#: Documents that are written together.
_TOGETHER = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """A document to summarize. where: what to call it in an error. record: the JSONL line that it came from."""

    text: str
    source: str | None
    target: str
    images: tuple[Path, ...]
    where: str
    record: dict[str, Any] | None = None


class Summarizer:
    """A model that is ready to write. Text alone works; images need a model that was trained with such features."""

    def __init__(self, where: Path, overrides: Sequence[str] = ()) -> None:
        """where: an exported model, a checkpoint or a run. Raises `InputError`, one line, for what does not fit."""
        self._path, self._overrides = find_trained(where), overrides
        self._data = data_of(self._path)
        recipe = trained_recipe(self._path, overrides)
        self._decoding: Decoding = recipe.evaluation.decoding(recipe.lengths.summary)
        self._features: Any = None

    @cached_property
    def _model(self) -> Model:
        """Loaded when it is needed: what can be refused without it is refused at once."""
        disable_progress_bar()
        with stage("loading the model", out=_ERRORS):
            return load_model(self._path, self._overrides)

    @property
    def languages(self) -> tuple[str, ...]:
        """What it was trained to write."""
        return tuple(self._data["languages"])

    def language(self, word: str, option: str) -> str:
        """A language that the model knows, by name or code; `InputError` names it, and those that it knows."""
        name = language_name(word)
        if name not in self.languages:
            raise InputError(f"{option} {word}: {self._path} knows no {name}; it knows {', '.join(self.languages)}")
        return name

    def check(self, request: Request) -> None:
        """Whether the model can do it. `InputError` says why not."""
        if not request.text.strip():
            raise InputError(f"{request.where}: there is no text in it")
        if request.source is None and self._model.tokenizer.marks_texts:
            raise InputError(
                f"{request.where}: this model reads a text behind its language's code: say --from LANGUAGE"
            )
        if request.images and self._model.network.vision is None:
            raise InputError(f"{request.where}: {self._path} was trained without images: leave them out")
        if request.images and self._data.get("name") not in _GRID_CORPORA:
            raise InputError(
                f"{request.where}: {self._path} was trained on image features that were made elsewhere (corpus "
                f"{self._data.get('name')}), which cannot be made of a picture here: leave the images out"
            )

    def __call__(self, requests: Sequence[Request]) -> list[str]:
        """Their summaries. Requests are checked first."""
        for request in requests:
            self.check(request)
        ids_BN = self._model.network.generate(self._batch(requests), self._decoding)
        return [self._model.tokenizer.decode(ids) for ids in ids_BN.tolist()]

    def _batch(self, requests: Sequence[Request]) -> Batch:
        recipe, tokenizer = self._model.recipe, self._model.tokenizer
        longest, vision, rows = recipe.lengths.document, recipe.network.vision, len(requests)
        texts = [tokenizer.encode(request.text, longest, request.source) for request in requests]
        ids_BM = torch.full((rows, max(map(len, texts))), tokenizer.pad_id)
        mask_BM = torch.zeros_like(ids_BM, dtype=torch.bool)
        shape = (rows, vision.max_images, vision.regions)
        roi_BIRV = torch.zeros(*shape, vision.feature_size, dtype=torch.float16)
        boxes_BIR4, image_mask_BI = torch.zeros(*shape, 4), torch.zeros(rows, vision.max_images, dtype=torch.bool)
        for row, (request, ids) in enumerate(zip(requests, texts, strict=True)):
            ids_BM[row, : len(ids)] = torch.tensor(ids)
            mask_BM[row, : len(ids)] = True
            if request.images:
                count = min(len(request.images), vision.max_images)
                roi_IRV, boxes_R4 = self._extract(request.images[:count], request.where)
                roi_BIRV[row, :count] = torch.from_numpy(roi_IRV)
                boxes_BIR4[row, :count] = torch.from_numpy(boxes_R4)
                image_mask_BI[row, :count] = True
        one_B, number_B = torch.ones(rows), torch.arange(rows)
        nothing_B1 = torch.full((rows, 1), tokenizer.eos_id)
        return Batch(
            source_ids_BM=ids_BM,
            source_mask_BM=mask_BM,
            target_ids_BM=nothing_B1,
            target_mask_BM=torch.ones_like(nothing_B1, dtype=torch.bool),
            summary_ids_BN=nothing_B1,
            summary_mask_BN=torch.ones_like(nothing_B1, dtype=torch.bool),
            start_B=torch.tensor([tokenizer.start_id(request.target) for request in requests]),
            roi_BIRV=roi_BIRV,
            boxes_BIR4=boxes_BIR4,
            image_mask_BI=image_mask_BI,
            images_B=number_B,
            cross_B=one_B.bool(),
            weight_B=one_B,
            source_language_B=torch.zeros_like(number_B),
            target_language_B=torch.zeros_like(number_B),
            story_B=number_B,  # every document is one of its own
            group_B=number_B,
            slot_B=number_B,
        )

    def _extract(self, paths: Sequence[Path], where: str) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
        from PIL import Image, UnidentifiedImageError

        from shards.corpora.npm import RESNET, default_cache, fetch
        from shards.features import GridFeatures
        from shards.grid import grid_boxes

        if self._features is None:
            self._features = GridFeatures(fetch(RESNET, default_cache()))
        pictures = []
        for path in paths:
            try:
                with Image.open(path) as picture:
                    pictures.append(picture.convert("RGBA"))
            except (OSError, UnidentifiedImageError) as error:
                raise InputError(f"{where}: {path} is no image that can be read ({error})") from error
        return self._features.extract(pictures), grid_boxes()


@dataclass(frozen=True, kw_only=True, slots=True)
class Defaults:
    """What the command line says, for documents that do not say it themselves: languages as typed, images."""

    source: str | None
    target: str | None
    images: tuple[Path, ...]


def summarize(where: Path, files: Sequence[str], defaults: Defaults, overrides: Sequence[str]) -> None:
    """Write the summary of every document to standard output: text for text, a JSONL line for a JSONL line.

    files: paths, - for standard input (also where there is none). Raises `InputError`, one line. All documents of a
    file are checked before one of them is written.
    """
    if defaults.images and (len(files) > 1 or any(name.endswith(".jsonl") for name in files)):
        raise InputError("--images are of one document: give one file of text, or name them in the lines of a JSONL")
    summarizer = Summarizer(where, overrides)
    for name in files or ["-"]:
        requests = list(_requests(name, summarizer, defaults))
        for request in requests:
            summarizer.check(request)
        # Long ones together: what is padded is computed.
        order = sorted(range(len(requests)), key=lambda place: -len(requests[place].text))
        written = [""] * len(requests)
        for begin in track(range(0, len(order), _TOGETHER), "batches of documents", out=_ERRORS):
            places = order[begin : begin + _TOGETHER]
            for place, text in zip(places, summarizer([requests[place] for place in places]), strict=True):
                written[place] = text
        for request, text in zip(requests, written, strict=True):
            if request.record is None:
                print(text)
            else:
                print(json.dumps(request.record | {"summary": text}, ensure_ascii=False))


def _requests(name: str, summarizer: Summarizer, defaults: Defaults) -> Iterator[Request]:
    if name == "-":
        yield _of_text(_read(sys.stdin, "standard input"), "standard input", summarizer, defaults)
        return
    path = Path(name)
    try:
        with open(path, encoding="utf-8") as file:
            text = _read(file, name)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    if path.suffix != ".jsonl":
        yield _of_text(text, name, summarizer, defaults)
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield _of_line(line, path, f"{name}, line {number}", summarizer, defaults)


def _read(file: TextIO, where: str) -> str:
    try:
        return file.read()
    except UnicodeDecodeError as error:
        raise InputError(f"{where} is not UTF-8 text: {error.reason} at byte {error.start}") from error


def _of_text(text: str, where: str, summarizer: Summarizer, defaults: Defaults) -> Request:
    if defaults.target is None:
        raise InputError(f"{where}: say in which language: --to LANGUAGE, one of {', '.join(summarizer.languages)}")
    return Request(
        text=text,
        source=None if defaults.source is None else summarizer.language(defaults.source, "--from"),
        target=summarizer.language(defaults.target, "--to"),
        images=defaults.images,
        where=where,
    )


def _of_line(line: str, path: Path, where: str, summarizer: Summarizer, defaults: Defaults) -> Request:
    """text, and where they are not the command line's: from, to, images (paths beside the file)."""
    try:
        record = json.loads(line)
    except ValueError as error:
        raise InputError(f"{where} is not JSON: {error}") from error
    if not isinstance(record, dict) or not isinstance(record.get("text"), str):
        raise InputError(f'{where} is no object with a "text"')
    images = record.get("images", [])
    if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
        raise InputError(f'{where}: "images" is no list of paths')
    for key in ("from", "to"):
        if not isinstance(record.get(key, ""), str):
            raise InputError(f'{where}: "{key}" is no language')
    own = Defaults(
        source=record.get("from", defaults.source),
        target=record.get("to", defaults.target),
        images=tuple(path.parent / image for image in images),
    )
    request = _of_text(record["text"], where, summarizer, own)
    return Request(
        text=request.text,
        source=request.source,
        target=request.target,
        images=request.images,
        where=where,
        record=record,
    )
