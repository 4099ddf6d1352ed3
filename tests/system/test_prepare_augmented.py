"""`d2tv prepare --augment`, from files of articles to a corpus that a run can read, with both kinds of translators."""

import io
import json
import shutil
from contextlib import redirect_stderr, redirect_stdout
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from launcher.cli import main
from shards.batch.collate import Collator, Lengths
from shards.batch.fetch import Fetcher, ImageSizes
from shards.batch.reader import Reader
from shards.format.index import Corpus, open_corpus
from shards.stream.mixture import Weighting
from shards.stream.sampler import Sampler
from shards.text.tokenizer import open_tokenizer
from tests.support.crosssum_tree import CrossSumTree
from tests.support.tiny import words_of
from tests.support.translation import save_m2m100

NAMES = ("english", "french", "hindi")
COMMON = ("--vocab-size=420", "--stories-per-shard=6")
#: What the tokenizer is no part of: the files of the examples.
_TABLES = ("articles.npy", "text.bin", "edges-train.npy", "variants.npy")


def document(language: str, number: int) -> str:
    """Four sentences, of which the third alone has the words of the summary."""
    words = words_of(language)
    found = [f"{words[(number + 3 + place) % 20]} {language}{place}" for place in range(4)]
    found[2] = f"{summary(language, number)} {found[2]}"
    return " ".join(f"{sentence.capitalize()}." for sentence in found)


def summary(language: str, number: int) -> str:
    words = words_of(language)
    return f"{words[number % 20]} {words[(number + 1) % 20]}"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 stories in one to three languages."""
    tree = CrossSumTree(tmp_path_factory.mktemp("data"))
    for number in range(40):
        split = ("train", "train", "train", "val", "test")[number % 5]
        group = [(name, f"https://x.example/{name}.{number:03d}") for name in NAMES][: number % 3 + 1]
        for language, url in group:
            texts = {"text": document(language, number), "summary": summary(language, number)}
            tree.article(language, url, split=split, images=number % 2, **texts)
        for pair in pairwise(group):
            tree.pair(*pair, split=split, both=True)
    return tree.write()


def run(*words: str | Path) -> tuple[int, str, str]:
    """Exit code, standard output and error of `d2tv prepare` in this process."""
    with redirect_stdout(io.StringIO()) as output, redirect_stderr(io.StringIO()) as errors:
        code = main(["prepare", *map(str, words)])
    return code, output.getvalue(), errors.getvalue()


def build(out: Path, data: Path, *options: str | Path) -> tuple[Corpus, str]:
    code, output, errors = run("crosssum", "--data", data, "--out", out, *COMMON, *options)
    assert code == 0, errors
    return open_corpus(out), output


@pytest.fixture(scope="module")
def parallel(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Corpus, str]:
    return build(tmp_path_factory.mktemp("parallel") / "corpus", data, "--augment=informative", "--augment-share=25")


def variants(corpus: Corpus) -> list[tuple[str, str, str, str]]:
    """Source, target, text of the variant, text of its article."""
    assert corpus.variants is not None
    reader = Reader(corpus)
    found = []
    for row, target in corpus.variants.tolist():
        made, article = reader.article(row), reader.article(target)
        found.append((made.language, article.language, made.text, article.text))
    reader.close()
    return found


def test_the_most_informative_sentence_is_the_parallel_article_s(parallel: tuple[Corpus, str]) -> None:
    corpus, output = parallel
    found = variants(corpus)
    assert {(source, target) for source, target, *_ in found} == {("french", "english"), ("hindi", "english")}
    for source, _, text, article in found:
        theirs, ours = text.split(". "), article.split(". ")
        assert [place for place in range(4) if theirs[place] != ours[place]] == [2]
        assert f"{source}2" in theirs[2]
    counts = corpus.manifest["provenance"]["augmentation"]["directions"]
    made = {source: counts[source]["english"]["made"] for source in ("french", "hindi")}
    assert sum(made.values()) == len(found)
    assert counts["french"]["english"]["no parallel article"] > 0
    assert f"variants of the training split: {len(found)}; left out: no parallel article" in output
    assert f"{len(found)} variants" in output.splitlines()[-1]
    assert corpus.manifest["provenance"]["settings"]["augment"] == {
        "choice": "informative",
        "share": 25,
        "directions": "*-en",
        "translator": "parallel",
    }


def test_variants_never_cross_a_split(parallel: tuple[Corpus, str]) -> None:
    corpus, _ = parallel
    assert corpus.variants is not None
    shards = np.asarray(corpus.articles)["shard"][corpus.variants["row"]]
    assert {corpus.shards[number].split("-")[0] for number in shards.tolist()} == {"train"}
    for split in ("validation", "test"):
        assert len(corpus.edges[split])
        assert not corpus.is_variant(corpus.edges[split].ravel()).any()
    stories = np.asarray(corpus.articles)["story"]
    assert (stories[corpus.variants["row"]] == stories[corpus.variants["target"]]).all()


def test_inspect_shows_what_was_made_and_what_was_left_out(
    parallel: tuple[Corpus, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus, _ = parallel
    page = tmp_path / "page.html"
    assert main(["inspect", str(corpus.directory), "--html", str(page)]) == 0
    output = capsys.readouterr().out
    assert f"train: {len(variants(corpus))} variants, " in output
    assert "choice informative share 25 directions *-en translator parallel" in output
    [line] = [line for line in output.splitlines() if line.startswith("  hindi -> english") and "left out" in line]
    assert "no parallel article" in line
    assert "hindi → english" in page.read_text()
    assert main(["verify", str(corpus.directory), "--workers", "1"]) == 0


def files_of(corpus: Corpus) -> dict[str, bytes]:
    return {
        path.relative_to(corpus.directory).as_posix(): path.read_bytes()
        for path in corpus.directory.rglob("*")
        if path.is_file() and path.suffix != ".npz"  # which hold the time
    }


@pytest.mark.parametrize("choice", ["informative", "uninformative", "random", "truncation"])
def test_two_preparations_are_the_same_byte_for_byte(data: Path, tmp_path: Path, choice: str) -> None:
    options = (f"--augment={choice}", "--augment-directions=all")
    one, _ = build(tmp_path / "one", data, *options)
    other, _ = build(tmp_path / "other", data, *options, "--workers=2")
    assert variants(one)
    assert files_of(one) == files_of(other)


def test_a_corpus_without_is_as_before_but_for_its_variants(
    parallel: tuple[Corpus, str], data: Path, tmp_path: Path
) -> None:
    corpus, _ = parallel
    plain, output = build(tmp_path / "plain", data)
    assert "variants" not in output
    assert "augment" not in json.dumps(plain.manifest)
    kept = [name for name in corpus.manifest["files"] if name.startswith("tokenizer/") or "train" not in name]
    for name in kept:
        if name not in _TABLES and not name.startswith("edges"):  # rows are counted on behind variants
            assert (corpus.directory / name).read_bytes() == (plain.directory / name).read_bytes(), name
    for shard in plain.shards:
        if not shard.startswith("train"):
            assert (corpus.directory / shard).read_bytes() == (plain.directory / shard).read_bytes()


def test_another_augmentation_is_another_corpus(parallel: tuple[Corpus, str], data: Path, tmp_path: Path) -> None:
    corpus, _ = parallel
    words = ("crosssum", "--data", data, "--out", corpus.directory, *COMMON)
    code, output, _ = run(*words, "--augment=informative", "--augment-share=25")
    assert code == 0
    assert "complete" in output
    for options in ((), ("--augment=informative",), ("--augment=random", "--augment-share=25")):
        code, _, errors = run(*words, *options)
        assert code == 2
        assert "prepared with other settings" in errors


def test_the_parts_of_a_job_make_the_same(parallel: tuple[Corpus, str], data: Path, tmp_path: Path) -> None:
    corpus, _ = parallel
    words = ("crosssum", "--data", data, "--out", tmp_path / "corpus", *COMMON, "--augment=informative")
    for part in ("--part=1/2", "--part=2/2", "--finish"):
        code, _, errors = run(*words, "--augment-share=25", part)
        assert code == 0, errors
    assert files_of(open_corpus(tmp_path / "corpus")) == files_of(corpus)


def test_a_model_translates_articles_that_have_no_parallel_one(data: Path, tmp_path: Path) -> None:
    model = save_m2m100(tmp_path / "model")
    options = ("--augment=truncation", f"--translator={model}", "--augment-directions=fr-en", "--stories=15")
    one, output = build(tmp_path / "one", data, *options)
    found = variants(one)
    counts = one.manifest["provenance"]["augmentation"]
    assert counts["directions"] == {"french": {"english": {"made": len(found)}}}
    english = sum(1 for _, language in one.article_rows(set(one.story_keys())) if language == "english")
    held_out = sum(one.manifest["splits"][split]["stories"] for split in ("validation", "test"))
    assert len(found) == english - held_out  # all of the training split, whatever other languages there are
    for _, _, text, article in found:
        assert text.endswith(article[article.index("english1.") + len("english1.") :])
        assert "english0" not in text
    other, _ = build(tmp_path / "other", data, *options, "--workers=2")
    assert files_of(one) == files_of(other)
    # The model may be gone by then, or in another place; where it is there, it is the same.
    words = ("crosssum", "--data", data, "--out", tmp_path / "one", *COMMON, *options)
    (model / "added").write_text("another")
    code, _, errors = run(*words)
    assert code == 2
    assert "prepared with another model" in errors
    shutil.rmtree(model)
    code, output, _ = run(*words)
    assert code == 0
    assert "complete" in output


def test_a_run_reads_the_examples(parallel: tuple[Corpus, str]) -> None:
    corpus, _ = parallel
    groups = Sampler(corpus, split="train", mixture=Weighting(directions="fr-en"), seed=0, group_size=2).groups(0, 8)
    made = corpus.is_variant(groups.source.ravel())
    assert made.any()
    assert not made.all()
    reader = Reader(corpus)
    sizes = ImageSizes(images=2, regions=4, feature_size=6)
    lengths = Lengths(document=64, summary=12)
    collate = Collator(corpus, Fetcher(corpus, reader, sizes), open_tokenizer(corpus.directory / "tokenizer"), lengths)
    batch = collate(groups)
    assert not batch.unreadable
    assert batch.cross_B.all()
    # A variant shows the images of its article, whose summary it is summarized by.
    table = np.asarray(corpus.articles)
    shown = batch.image_mask_BI.any(dim=1).numpy()
    np.testing.assert_array_equal(shown[made], table["images"][groups.target.ravel()[made]] > 0)
    reader.close()
