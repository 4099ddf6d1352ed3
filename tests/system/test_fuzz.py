"""Seeded fuzz of everything that is read from others, and of every place that is written to.

Each case ends with an answer, or in one line that a terminal can be given and exit code 2; none raises anything else,
hangs, or changes what is not its own (tests/support/hostile/oracle.py). How many ended in which way is printed behind
the tests' summary. D2TV_FUZZ_SEED=1 tries another seed, D2TV_FUZZ_TIMES=20 so many times the cases.
"""

import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from launcher.documents import Defaults, Document, read_documents
from launcher.study.definition import load_study, trials
from shards.errors import InputError
from shards.format.index import Corpus
from shards.format.pixels import DamagedImageError, read_image, storable
from tests.support.hostile.oracle import TIMES, Oracle
from tests.support.hostile.values import VALUES, changed_bytes, changed_json, changed_text, put_instead
from tests.support.tiny import make_corpus, tiny_overrides
from tests.unit.launcher.test_compare import write_run as write_evaluated
from trainer.ds_config import load_ds_config
from trainer.ds_keys import check_ds_keys
from trainer.recipe import load_recipe
from trainer.telemetry.prometheus.targets import Target, TargetFile

DS_CONFIGS = Path(__file__).resolve().parents[2] / "ds_configs"

STUDY = b"""models: {MMS: mms, Both: mms_mxls, D2TV: d2tv}
baseline: Both
seeds: [0, 1]
overrides: [training.steps=7, "mixture.languages=en,ur"]
claims:
  - {better: D2TV, than: MMS, kind: mxls}
"""


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("sound") / "corpus", stories=12)


def test_recipes(oracle: Oracle) -> None:
    base = load_recipe("d2tv", tiny_overrides(Path("c"), Path("r"))).dump().encode()
    path = oracle.directory / "recipe.yaml"
    for number in range(120 * TIMES):
        if number % 10:
            path.write_bytes(changed_text(base, oracle.draw))
        else:
            put_instead(path, oracle.draw)
        oracle.command(str(number), ["recipe", path])
        _remove(path)
    oracle.both_ends()


def test_overrides(oracle: Oracle) -> None:
    keys = list(_leaves(json_of_recipe()))
    for number in range(150 * TIMES):
        draw, words = oracle.draw, []
        for _ in range(draw.choice((1, 1, 2))):
            key = (
                draw.choice(keys)
                if draw.random() < 0.9
                else draw.choice((*keys, "x", "")) + draw.choice((".", ".x", "x"))
            )
            value = draw.choice(VALUES)
            text = value if isinstance(value, str) and draw.random() < 0.7 else json.dumps(value)
            words.append(f"{key}={text}".lstrip("-"))
        oracle.command(f"{number}: {words}", ["recipe", "d2tv", "run=r", "corpus.path=c", *words])
    oracle.both_ends()


def test_ds_configs(oracle: Oracle) -> None:
    recipe = load_recipe("d2tv", tiny_overrides(Path("c"), Path("r")))
    path = oracle.directory / "ds.json"
    bases = [file.read_bytes() for file in sorted(DS_CONFIGS.glob("*.json"))]

    def check() -> None:
        check_ds_keys(path, load_ds_config(path, recipe, world_size=1))

    for number in range(120 * TIMES):
        if number % 12:
            path.write_bytes(changed_json(oracle.draw.choice(bases), oracle.draw))
        else:
            put_instead(path, oracle.draw)
        oracle.case(str(number), check)
        _remove(path)
    oracle.both_ends()


def test_studies(oracle: Oracle) -> None:
    path = oracle.directory / "study.yaml"

    def read() -> None:
        trials(
            load_study(str(path)),
            Path("out"),
            ds_config=DS_CONFIGS / "zero2_cpu.json",
            ranks=1,
            overrides=["run=x"][:0],
        )

    for number in range(40 * TIMES):
        if number % 8:
            path.write_bytes(changed_text(STUDY, oracle.draw))
        else:
            put_instead(path, oracle.draw)
        oracle.case(str(number), read)
        _remove(path)
    oracle.both_ends()


def test_pictures(oracle: Oracle) -> None:
    pictures = []
    noise = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    for form in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "ICO"):
        file = io.BytesIO()
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(noise).save(file, form, **({"exif": exif} if form in ("PNG", "JPEG", "WEBP", "TIFF") else {}))
        pictures.append(file.getvalue())
    file = io.BytesIO()
    Image.fromarray(noise[..., 0].astype(np.uint16) * 257).save(file, "PNG")
    path = oracle.directory / "picture"

    def read() -> None:
        try:
            assert max(read_image(path).size) < 100_000
            storable(path.read_bytes())
        except DamagedImageError as error:
            raise InputError(str(error)) from error

    for number in range(200 * TIMES):
        if number % 20:
            path.write_bytes(changed_bytes(oracle.draw.choice([*pictures, file.getvalue()]), oracle.draw))
        else:
            put_instead(path, oracle.draw)
        oracle.case(str(number), read)
        _remove(path)
    oracle.both_ends()


def test_documents(oracle: Oracle) -> None:
    lines = [
        {"text": "The river is cold.", "to": "en", "images": ["a.png"], "other": [1, 2.5, None]},
        {"text": "नदी ठंडी है।", "from": "hi"},
    ]
    base = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines).encode()
    defaults = Defaults(source=None, target="en", images=())
    for number in range(120 * TIMES):
        path = oracle.directory / oracle.draw.choice(("a.txt", "a.jsonl", "a.JSONL"))
        if number % 10 == 0:
            put_instead(path, oracle.draw)
        elif oracle.draw.random() < 0.5:
            path.write_bytes(changed_bytes(base, oracle.draw))
        else:
            path.write_bytes(changed_json(json.dumps(lines[0]).encode(), oracle.draw).replace(b"\n", b" "))
        documents = oracle.case(str(number), partial(_documents, path, defaults))
        for document in documents or ():
            document.text.encode()
        _remove(path)
    oracle.both_ends()


def test_target_files(oracle: Oracle) -> None:
    """Those of others stay, whatever they hold; a directory that is none is an `OSError`, which is said."""

    def target(run: str, attempt: str = "a") -> Target:
        return Target(
            address="127.0.0.1:1", scheme="http", run=oracle.directory / run, node="n", rank=0, attempt=attempt
        )

    def write() -> None:
        try:
            TargetFile(directory, target("mine", "b")).remove()
        except OSError as error:
            raise InputError(f"{directory}: {error.strerror}") from error

    for number in range(60 * TIMES):
        directory = oracle.directory / "targets"
        if number % 6 == 0:
            put_instead(directory, oracle.draw)
        else:
            base = TargetFile(directory, target("theirs")).path.read_bytes()
            for name in ("theirs.json", "x.json", target("mine").file_name()):
                (directory / name).write_bytes(changed_json(base, oracle.draw))
            put_instead(directory / "instead.json", oracle.draw)
            (directory / "link.json").symlink_to(oracle.canary / "notes.txt")
        oracle.case(str(number), write)
        if number % 6:
            assert {"theirs.json", "x.json", "link.json"} <= set(os.listdir(directory))
        _remove(directory)
    oracle.both_ends()


def test_output_destinations(oracle: Oracle, sound: Corpus) -> None:
    """A file is written where a regular one belongs, and nothing else is replaced."""
    runs = [write_evaluated(oracle.directory / name, gain, stories=4) for name, gain in (("base", 0.0), ("other", 1.0))]
    commands: list[Callable[[Path], list[str | Path]]] = [
        lambda out: ["report", runs[0], "--out", out],
        lambda out: ["compare", *runs, "--format", "html", "--samples", "20", "--out", out],
        lambda out: ["compare", *runs, "--format", "latex", "--samples", "20", "--out", out],
        lambda out: ["preview", sound.directory, "--story", "1", "--out", out],
        lambda out: ["inspect", sound.directory, "--html", out],
    ]
    names = (
        "page.html",
        "x" * 255,
        "é" * 127,
        "a b#c.html",
        "no/such/page.html",
        "page\n.html",
        "\x1b[31m.html",
        "x" * 300,
    )
    for number in range(50 * TIMES):
        out = oracle.directory / oracle.draw.choice(names)
        instead = None
        if number % 3 == 0 and len(os.fsencode(out.name)) < 256 and out.parent.is_dir():
            instead = put_instead(out, oracle.draw)
        special = instead is not None and not out.is_file()
        before = os.lstat(out) if special else None
        code = oracle.command(f"{number}: {out.name[:20]!r} {instead}", oracle.draw.choice(commands)(out))
        if before is not None and instead != "link to nothing":
            after = os.lstat(out)
            assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode), instead
        assert code or out.is_file()
        assert not list(oracle.directory.glob("*.partial"))
        _remove(out)
    oracle.both_ends()


def _documents(path: Path, defaults: Defaults) -> list[Document]:
    return list(read_documents(str(path), defaults))


def json_of_recipe() -> dict[str, object]:
    values: dict[str, object] = load_recipe("d2tv", ["run=r", "corpus.path=c"]).model_dump(mode="json")
    return values


def _leaves(value: object, place: str = "") -> Iterator[str]:
    if place:
        yield place
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{place}.{key}" if place else key)


def _remove(path: Path) -> None:
    """Remove what a case has put under a name; nothing of what a link names."""
    if len(os.fsencode(path.name)) > 255 or not os.path.lexists(path):
        return
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
