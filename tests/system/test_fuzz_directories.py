"""Seeded fuzz of what lies in directories (test_fuzz.py): corpora, runs, checkpoints, trees that are prepared."""

import gzip
import io
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from shards.format.index import Corpus
from tests.support.checkpoints import recipe_in, write_checkpoint
from tests.support.crosssum_tree import CrossSumTree
from tests.support.hostile.corpora import damage, read_all
from tests.support.hostile.oracle import TIMES, Oracle, tree_state
from tests.support.hostile.runs import write_run
from tests.support.hostile.values import INSTEAD, changed_bytes, changed_json, changed_text, put_instead
from tests.support.tiny import make_corpus, tiny_overrides
from trainer.checkpoint.directory import described, seal
from trainer.plan import plan_run
from trainer.ranks import Ranks
from trainer.recipe import load_recipe

DS_CONFIG = Path(__file__).resolve().parents[2] / "ds_configs" / "zero2_cpu.json"
ALONE = Ranks(rank=0, local_rank=0, world_size=1)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("sound") / "corpus", stories=12)


def test_tables_of_corpora(oracle: Oracle, sound: Corpus) -> None:
    """Read what opens to its end, whatever the hashes say; `verify` finds all that does not open."""
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
        oracle.case(what, partial(plan_run, here, DS_CONFIG, ALONE))
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
