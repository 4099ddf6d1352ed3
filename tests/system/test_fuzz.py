"""Seeded fuzz of everything that is read from others, and of every place that is written to.

Each case ends with an answer, or in one line that a terminal can be given and exit code 2; none raises anything else,
hangs, or changes what is not its own (tests/support/hostile/oracle.py). How many ended in which way is printed behind
the tests' summary. D2TV_FUZZ_SEED=1 tries another seed, D2TV_FUZZ_TIMES=20 so many times the cases.
"""

import gzip
import io
import json
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from launcher.documents import Defaults, Document, read_documents
from launcher.study.definition import load_study, trials
from shards.errors import InputError
from shards.index import Corpus
from shards.pixels import DamagedImageError, read_image, storable
from tests.checkpoints import recipe_in, write_checkpoint
from tests.crosssum_tree import CrossSumTree
from tests.support.hostile.corpora import damage, read_all
from tests.support.hostile.oracle import TIMES, Oracle, tree_state
from tests.support.hostile.runs import write_run
from tests.support.hostile.values import INSTEAD, VALUES, changed_bytes, changed_json, changed_text, put_instead
from tests.tiny import make_corpus, tiny_overrides
from tests.unit.launcher.test_compare import write_run as write_evaluated
from trainer.checkpoint import described, seal
from trainer.ds_config import load_ds_config
from trainer.ds_keys import check_ds_keys
from trainer.plan import plan_run
from trainer.prometheus.targets import Target, TargetFile
from trainer.ranks import Ranks
from trainer.recipe import load_recipe

DS_CONFIGS = Path(__file__).resolve().parents[2] / "ds_configs"
ALONE = Ranks(rank=0, local_rank=0, world_size=1)
STUDY = b"""models: {MMS: mms, Both: mms_mxls, D2TV: d2tv}
baseline: Both
seeds: [0, 1]
overrides: [training.steps=7, "mixture.languages=en,ur"]
claims:
  - {better: D2TV, than: MMS, kind: mxls}
"""


@pytest.fixture
def oracle(request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Oracle]:
    """The oracle of a test, whose counts are reported (tests/conftest.py)."""
    kind = request.node.name.removeprefix("test_").replace("_", " ")
    of_kind = Oracle(kind, tmp_path, capsys)
    yield of_kind
    request.node.user_properties.append(("fuzz", f"{kind}: {of_kind.summary()}"))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("sound") / "corpus", stories=12)


def test_recipes(oracle: Oracle) -> None:
    base = load_recipe("d2tv", tiny_overrides(Path("c"), Path("r"))).dump().encode()
    path = oracle.directory / "recipe.yaml"
    for number in range(80 * TIMES):
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


def test_tables_of_corpora(oracle: Oracle, sound: Corpus) -> None:
    """What opens can be read to its end, whatever the hashes say; `verify` finds all that does not."""
    for number in range(40 * TIMES):
        copy = Path(shutil.copytree(sound.directory, oracle.directory / "copy"))
        what = f"{number}: {damage(copy, oracle.draw)}"
        outcome = oracle.case(what, partial(read_all, copy))
        code = oracle.command(what, ["verify", copy, "--workers", "1"], codes=(0, 1))
        assert code or outcome == "sound", what
        if number % 4 == 0:
            oracle.command(what, ["inspect", copy])
        shutil.rmtree(copy)
    oracle.both_ends()


def test_files_of_corpora(oracle: Oracle, sound: Corpus) -> None:
    """Other things under the names of a corpus' files."""
    names = sorted(path.relative_to(sound.directory) for path in sound.directory.rglob("*") if path.is_file())
    for number in range(30 * TIMES):
        copy = Path(shutil.copytree(sound.directory, oracle.directory / "copy"))
        name = oracle.draw.choice(names)
        if number % 2:
            what = f"{number}: {name}: {put_instead(copy / name, oracle.draw)}"
        else:
            what = f"{number}: {name}"
            (copy / name).write_bytes(changed_bytes((copy / name).read_bytes(), oracle.draw))
        code = oracle.command(what, ["verify", copy, "--workers", "1"], codes=(0, 1))
        harmless = name.name.endswith(".index.npz")  # bytes of it that no array is made of
        assert code or harmless or tree_state(copy) == tree_state(sound.directory), what
        oracle.case(what, partial(read_all, copy))
        oracle.command(what, ["preview", copy, "--story", "0", "--out", oracle.directory / "page.html"])
        shutil.rmtree(copy)
    oracle.both_ends()


def test_records_and_reports_of_runs(oracle: Oracle) -> None:
    """Whatever they hold, `watch` and `report` mostly show it, and a page gets no orders."""
    for number in range(40 * TIMES):
        run = oracle.directory / f"run-{number}"
        write_run(run, oracle.draw)
        if number % 10 == 0:
            (run / "recipe.yaml").write_bytes(changed_text((run / "recipe.yaml").read_bytes(), oracle.draw))
        oracle.command(f"{number}: watch", ["watch", run, "--once"])
        oracle.command(f"{number}: report", ["report", run])
        page = (run / "report.html").read_text() if (run / "report.html").is_file() else ""
        assert "<script" not in page
        assert "\x1b" not in page
        shutil.rmtree(run)
    assert oracle.ends["accepted"] > oracle.ends["refused"]
    oracle.both_ends()


FILES_OF_RUNS = (
    *("metrics.jsonl", "unreadable.jsonl", "recipe.yaml", "evaluation/test.json", "checkpoints/latest"),
    *("checkpoints/best", "evaluation/test-predictions.parquet", "evaluation/test-robustness.json"),
)


def test_files_of_runs(oracle: Oracle) -> None:
    """Other things under the names of a run's files."""
    for name in FILES_OF_RUNS:
        for kind in INSTEAD:
            run = oracle.directory / "run"
            write_run(run, oracle.draw)
            (run / "checkpoints").mkdir()
            (run / name).unlink(missing_ok=True)
            INSTEAD[kind](run / name)
            for words in (["watch", run, "--once"], ["report", run], ["compare", run, run]):
                oracle.command(f"{name}: {kind}: {words[0]}", words)
            shutil.rmtree(run)
    oracle.both_ends()


def test_checkpoints(oracle: Oracle, sound: Corpus) -> None:
    """A hostile file among those of a checkpoint whose manifest fits all the same; the manifest; a stray file."""
    recipe = recipe_in(oracle.directory / "run", sound)
    write_checkpoint(recipe, sound)
    for number in range(40 * TIMES):
        run = Path(shutil.copytree(recipe.run, oracle.directory / "copy"))
        checkpoint = run / "checkpoints" / "step-00000006"
        name = oracle.draw.choice(
            ("state.json", "recipe.yaml", "ds_config.json", "corpus.json", "tensors.json", "manifest.json")
        )
        what = f"{number}: {name}"
        if number % 5 == 0:
            what += f": {put_instead(checkpoint / name, oracle.draw)}"
        else:
            change = changed_text if name.endswith("yaml") else changed_json
            (checkpoint / name).write_bytes(change((checkpoint / name).read_bytes(), oracle.draw))
        if name != "manifest.json":
            files = {
                path.name: described(path)
                for path in checkpoint.iterdir()
                if path.is_file() and path.name != "manifest.json"
            }
            seal(checkpoint, files)
        if number % 3 == 0:
            (
                run / "checkpoints" / oracle.draw.choice(("step-00000009", ".discarded-x", ".staging-foo", "latest"))
            ).symlink_to(oracle.canary)
        here = load_recipe("d2tv", tiny_overrides(sound.directory, run))
        oracle.case(what, partial(plan_run, here, DS_CONFIGS / "zero2_cpu.json", ALONE))
        oracle.command(f"{what}: export", ["export", run, oracle.directory / "model"])
        shutil.rmtree(oracle.directory / "model", ignore_errors=True)
        shutil.rmtree(run)
    oracle.both_ends()


def test_crosssum_trees(oracle: Oracle) -> None:
    """Texts and features, packed ones too; and what others have in the places that `prepare` builds in."""
    tree = CrossSumTree(oracle.directory / "tree")
    for number in range(6):
        for language in ("english", "french"):
            tree.article(language, f"{language[0]}{number}", images=1, text=f"il était {number} fois {language} " * 9)
        tree.pair(("french", f"f{number}"), ("english", f"e{number}"))
    base = tree.write()
    for number in range(24 * TIMES):
        draw = oracle.draw
        data = Path(shutil.copytree(base, oracle.directory / "data"))
        path = draw.choice(sorted(path for path in data.rglob("*") if path.is_file()))
        what = f"{number}: {path.name}"
        kind = draw.randrange(4)
        if kind == 0:
            what += f": {put_instead(path, draw)}"
        elif kind == 1 and path.suffix == ".jsonl":
            _pack(path, draw.choice(("gz", "tar", "tar.gz", "zip")), partial(changed_bytes, draw=draw))
        elif path.suffix == ".jsonl":
            lines = path.read_bytes().splitlines()
            place = draw.randrange(len(lines))
            lines[place] = changed_json(lines[place], draw).replace(b"\n", b" ")
            path.write_bytes(b"\n".join(lines))
        else:
            path.write_bytes(changed_bytes(path.read_bytes(), draw))
        if number % 4 == 0:
            (data / "linked").symlink_to(oracle.canary)
        out = oracle.directory / "out"
        owned = draw.choice((None, out, out.with_name("out.partial")))
        if owned is not None:
            owned.mkdir()
            (owned / draw.choice(("a.jpg", "settings.json", "train-000000.tar", "x.partial"))).write_text("mine")
        mine = None if owned is None else tree_state(owned)
        words = ["prepare", "crosssum", "--data", data, "--out", out, "--vocab-size", "330", "--max-problems", "20"]
        oracle.command(what, [*words, *(["--without-images"] if number % 3 == 0 else [])])
        assert owned is None or tree_state(owned) == mine, what
        for directory in (data, out, out.with_name("out.partial")):
            shutil.rmtree(directory, ignore_errors=True)
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


def _pack(path: Path, form: str, change: Callable[[bytes], bytes]) -> None:
    """Put a packed form of a file in its place, changed half of the time as a whole and half of the time inside."""
    data = path.read_bytes()
    inside = len(data) % 2 == 0
    data = change(data) if inside else data
    file = io.BytesIO()
    if form == "gz":
        file.write(gzip.compress(data))
    elif form == "zip":
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(path.name, data)
    else:
        with tarfile.open(fileobj=file, mode="w:gz" if form.endswith("gz") else "w:") as tar:
            member = tarfile.TarInfo(path.name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    packed = file.getvalue() if inside else change(file.getvalue())
    path.unlink()
    (path if form == "gz" else path.with_suffix("")).with_name(
        f"{path.name if form == 'gz' else path.stem}.{form}"
    ).write_bytes(packed)
