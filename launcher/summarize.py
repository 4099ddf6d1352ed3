"""Summarize documents from files, JSONL or standard input with a trained model (`d2tv summarize`)."""

import io
import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from transformers.utils.logging import disable_progress_bar

from launcher.documents import Defaults, Document, is_jsonl, read_documents
from models.config import Decoding
from shards.batch.collate import Lengths, collate_articles
from shards.batch.fields import needed_fields, picture_side
from shards.batch.types import Batch, ImageRows
from shards.corpora import SOURCES
from shards.errors import InputError
from shards.format.pixels import DamagedImageError, read_image, squared
from shards.languages import language_name
from shards.printable import one_line
from shards.schema import Article, Images
from shards.text.lines import has_text
from trainer.terminal.progress import stage, track
from trainer.terminal.text import Console, data_output
from trainer.trained import Model, load_model
from trainer.trained_files import data_of, find_trained, trained_recipe

#: For progress; standard output is for summaries.
_ERRORS = Console(stderr=True)
#: Documents in a batch.
_TOGETHER = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """A document to summarize. source, target: names of languages. where: its name in errors."""

    text: str
    source: str | None
    target: str
    images: tuple[Path, ...]
    where: str


class Summarizer:
    """Summarizer of texts, and of images where the model was trained with features that can be computed here.

    where: an exported model, a checkpoint or a run.  product: the name of another network of the objective than its
    first. Raises `InputError`, one line, for overrides that do not fit.
    """

    def __init__(self, where: Path, overrides: Sequence[str] = (), product: str | None = None) -> None:
        self._path, self._overrides, self._product = find_trained(where), overrides, product
        self._data = data_of(self._path)
        recipe = trained_recipe(self._path, overrides)
        self._decoding: Decoding = recipe.evaluation.decoding(recipe.lengths.summary)
        objective = recipe.objective.settings()
        if "summarization" not in objective.tasks:
            raise InputError(
                f"{where} was trained by objective {objective.name}, which trains no writing: name another run"
            )
        self._reads = objective.reads
        self._features: Any = None

    @cached_property
    def _model(self) -> Model:
        """Load the model at its first use, after everything that can be refused without it."""
        disable_progress_bar()
        with stage("loading the model", out=_ERRORS):
            return load_model(self._path, self._overrides, self._product)

    @property
    def _picture_side(self) -> int:
        """Return the width and height of the pictures that the network reads; 0 where it reads features alone."""
        return picture_side(self._model.recipe.needs)

    @property
    def languages(self) -> tuple[str, ...]:
        """Return the languages that it was trained to write."""
        return tuple(self._data["languages"])

    def language(self, word: str, option: str) -> str:
        """Return the name of a language by name or code. Raises `InputError` where the model does not know it."""
        try:
            name = language_name(word)
        except InputError as error:
            raise InputError(f"{option}: {error}") from error
        if name not in self.languages:
            raise InputError(f"{option} {name}: {self._path} knows no {name}; it knows {', '.join(self.languages)}")
        return name

    def request(self, document: Document) -> Request:
        """Return the request for a document. Raises `InputError` where the model cannot serve it."""
        of_line = document.record is not None
        source_option, target_option = (
            f'{document.where}: "{key}"' if of_line else f"--{key}" for key in ("from", "to")
        )
        if document.target is None:
            raise InputError(
                f"{document.where}: say in which language: --to LANGUAGE, one of {', '.join(self.languages)}"
            )
        request = Request(
            text=document.text,
            source=None if document.source is None else self.language(document.source, source_option),
            target=self.language(document.target, target_option),
            images=document.images,
            where=document.where,
        )
        self.check(request)
        for path in request.images:  # before the first summary is computed, which may take hours
            _picture(path, request.where)
        return request

    def check(self, request: Request) -> None:
        """Raise `InputError`, with the reason, for a request that the model cannot serve."""
        if not has_text(request.text):
            raise InputError(f"{request.where}: there is no text in it")
        if request.source is None and (self._model.tokenizer.marks_texts or self._reads == "source_summary"):
            raise InputError(
                f"{request.where}: this model reads a text behind its language's code: say --from LANGUAGE"
            )
        if request.images and self._model.network.vision is None and not self._picture_side:
            raise InputError(f"{request.where}: {self._path} was trained without images: leave them out")
        source = SOURCES.get(str(self._data.get("name")))
        if request.images and self._model.network.vision is not None and not (source and source.grid_features):
            raise InputError(
                f"{request.where}: {self._path} was trained on image features that were made elsewhere (corpus "
                f"{self._data.get('name')}), which cannot be made of a picture here: leave the images out"
            )

    def __call__(self, requests: Sequence[Request]) -> list[str]:
        """Check the requests and return their summaries."""
        for request in requests:
            self.check(request)
        ids_BN = self._model.network.generate(self._batch(requests), self._decoding, reads=self._reads)
        return [self._model.tokenizer.decode(ids) for ids in ids_BN.tolist()]

    def _batch(self, requests: Sequence[Request]) -> Batch:
        model, vision = self._model, self._model.recipe.network.vision
        # Where the source's language does not matter it may be unknown: the model reads no code of it.
        source = [Article(language=r.source or r.target, text=r.text, summary=r.text) for r in requests]
        target = [Article(language=r.target, text="", summary="") for r in requests]
        pictures = [[_picture(path, r.where) for path in r.images[: vision.max_images]] for r in requests]
        images = [self._extract(each) if each and vision.reads("regions") else None for each in pictures]
        side, needs = self._picture_side, model.recipe.needs
        return collate_articles(
            source,
            target,
            ImageRows.of(
                images,
                images=vision.max_images,
                regions=vision.regions,
                feature_size=vision.feature_size,
                pictures=[[squared(picture, side) for picture in each] for each in pictures] if side else (),
                picture_side=side,
            ),
            model.tokenizer,
            Lengths(document=model.recipe.lengths.document, summary=model.recipe.lengths.summary),
            languages=self.languages,
            optional=needed_fields(needs),
        )

    def _extract(self, pictures: Sequence[Image.Image]) -> Images:
        from shards.corpora.features import GridFeatures
        from shards.corpora.grid import grid_boxes
        from shards.corpora.npm import RESNET, fetch
        from shards.files.caches import default_cache

        if self._features is None:
            self._features = GridFeatures(fetch(RESNET, default_cache()))
        roi_IRV = self._features.extract(pictures)
        return Images(roi_IRV=roi_IRV, boxes_IR4=np.tile(grid_boxes(), (len(pictures), 1, 1)))


def _picture(path: Path, where: str) -> Image.Image:
    try:
        return read_image(path)
    except DamagedImageError as error:
        raise InputError(f"{where}: {path} is no image that can be read: {error}") from error


def summarize(
    where: Path, files: Sequence[str], defaults: Defaults, overrides: Sequence[str], product: str | None = None
) -> None:
    """Write the summary of every document to standard output, in UTF-8: text for text, a JSONL line for a JSONL line.

    files: paths; -, or none: standard input. All documents of a file are checked before the first summary is computed.

    Raises `InputError`, one line, also where standard output cannot be written.
    """
    if defaults.images and (len(files) > 1 or any(is_jsonl(name) for name in files)):
        raise InputError("--images are of one document: give one file of text, or name them in the lines of a JSONL")
    if sys.stdout is None:  # a shell's `>&-`
        raise InputError("standard output is closed, so the summaries would be lost: send them to a file")
    summarizer = Summarizer(where, overrides, product)
    for name in files or ["-"]:
        documents = list(read_documents(name, defaults))
        requests = [summarizer.request(document) for document in documents]
        # Documents of similar length together, for less padding.
        order = sorted(range(len(requests)), key=lambda place: -len(requests[place].text))
        written = [""] * len(requests)
        for begin in track(range(0, len(order), _TOGETHER), "batches of documents", out=_ERRORS):
            places = order[begin : begin + _TOGETHER]
            for place, text in zip(places, summarizer([requests[place] for place in places]), strict=True):
                written[place] = text
        _write(
            # A summary of a text is one line, whatever the network writes.
            one_line(text)
            if document.record is None
            else json.dumps(document.record | {"summary": text}, ensure_ascii=False)
            for document, text in zip(documents, written, strict=True)
        )


def _write(lines: Iterable[str]) -> None:
    """Write lines to standard output. Raises `InputError` where that fails."""
    output = data_output()
    if isinstance(output, io.TextIOWrapper):
        output.reconfigure(encoding="utf-8")  # like the input, whatever the locale
    try:
        for line in lines:
            print(line, file=output)
        output.flush()
    except OSError as error:
        # The rest of the buffer would fail again when Python ends, with a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise InputError(
            f"standard output cannot be written ({error.strerror}): not all summaries are there"
        ) from error
