"""`d2tv summarize`: what a network writes of documents from files, JSONL and standard input, and what it refuses."""

import dataclasses
import io
import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from launcher.cli import main
from launcher.summarize import Request, Summarizer
from shards.corpora.npm import RESNET, fetch
from shards.files.caches import default_cache
from shards.format.index import Corpus
from shards.printable import one_line
from tests.support.checkpoints import recipe_in, write_checkpoint
from tests.support.pretrained import save_mbart50

TEXTS = ("sun moon star sea rain", "house road door bread milk fire tree leaf", "soleil lune étoile")


@pytest.fixture(scope="module")
def model(tiny_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported model with nothing else beside it."""
    folder = tmp_path_factory.mktemp("summarize")
    checkpoint, _ = write_checkpoint(recipe_in(folder / "run", tiny_corpus), tiny_corpus)
    assert main(["export", str(checkpoint), str(folder / "model")]) == 0
    shutil.rmtree(folder / "run")
    return folder / "model"


def run(capsys: pytest.CaptureFixture[str], *words: object) -> list[str]:
    capsys.readouterr()
    assert main(["summarize", *map(str, words)]) == 0
    return capsys.readouterr().out.splitlines()


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    assert main(["summarize", *map(str, words)]) == 2
    found = capsys.readouterr()
    assert found.out == ""
    assert found.err.count("\n") == 1
    return found.err


def test_files_standard_input_and_lines_have_the_same_summaries(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [tmp_path / f"{number}.txt" for number in range(len(TEXTS))]
    for file, text in zip(files, TEXTS, strict=True):
        file.write_text(text)
    together = run(capsys, model, "--to", "ur", *files)
    assert len(together) == len(TEXTS)
    assert len(set(together)) > 1
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(TEXTS[1].encode())))
    assert run(capsys, model, "--to", "urdu") == [together[1]]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(TEXTS[1].encode())))
    assert run(capsys, model, files[0], "--to", "urdu", "-") == together[:2]

    lines = [{"text": text, "id": number} for number, text in enumerate(TEXTS)]
    lines.append({"text": TEXTS[0], "to": "french", "id": 3})
    (tmp_path / "all.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    found = [json.loads(line) for line in run(capsys, model, "--to", "ur", tmp_path / "all.jsonl")]
    # In their order, whatever is written together; of a text on one line, whatever is written.
    assert [one_line(record["summary"]) for record in found[:3]] == together
    assert [{key: record[key] for key in record if key != "summary"} for record in found] == lines
    assert one_line(found[3]["summary"]) != together[0]


def test_greedy_is_asked_for_by_key(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a").write_text(TEXTS[1])
    beams = run(capsys, model, "--to", "en", tmp_path / "a", "--set", "lengths.summary=6")
    drawn = ["--set", "evaluation.num_beams=1", "--set", "evaluation.temperature=5"]
    other = run(capsys, model, "--to", "en", tmp_path / "a", "--set", "lengths.summary=6", *drawn)
    assert beams != other


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--to", "fi"], "unknown language 'fi'"),
        (["--to", "welsh"], "knows no welsh; it knows english, french, hindi, urdu"),
        (["--to", "ur", "--from", "russian"], "--from russian:"),
        ([], "say in which language: --to LANGUAGE, one of english, french, hindi, urdu"),
        (["--to", "ur", "--set", "lengths.summmary=6"], "did you mean 'summary'"),
        (["--to", "ur", "--set", "network.text.d_model=6"], "the weights in"),
    ],
)
def test_what_a_model_does_not_know_is_named(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], error: str
) -> None:
    (tmp_path / "a").write_text(TEXTS[0])
    assert error in refused(capsys, model, tmp_path / "a", *words)


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("none", None, "cannot be read: No such file"),
        ("a", b" \n", "there is no text in it"),
        ("a", b"\xff\xfe", "is not UTF-8 text"),
        ("a.jsonl", b'{"text": "x"}\n{"text"', "a.jsonl, line 2 is not JSON"),
        ("a.jsonl", b'["x"]', "line 1 is not a JSON object"),
        ("a", "\u200b\ufeff\u00ad\u3164\u2800\ufe0f\x00 ".encode(), "there is no text in it"),
        ("a", b"La rivi\xe8re", "a is not UTF-8 text (invalid continuation byte at byte 7)"),
        ("a", "words".encode("utf-16"), "a is not UTF-8 text but UTF-16"),
        ("a.JSONL", b'{"text": "x"}\n\xff', "a.JSONL, line 2 is not UTF-8 text"),
        ("a.jsonl", b'{"text": "half \\ud800 a pair"}', "line 1 holds half a surrogate pair"),
        ("a.jsonl", b'{"text": "x", "title": ["\\udfff"]}', "line 1 holds half a surrogate pair"),
        ("a.jsonl", b'{"text": "x", "n": ' + b"9" * 5000 + b"}", "line 1 is JSON with a number that is too long"),
        ("a.jsonl", b'{"text": ' + b"[" * 100_000, "line 1 is JSON with a number that is too long or too much within"),
        ("a.jsonl", b'{"text": "x", "to": "klingon"}', "line 1: \"to\": unknown language 'klingon'"),
        ("a.jsonl", b'{"text": "x", "from": "welsh"}', 'line 1: "from" welsh: '),
        ("a.jsonl", b'{"text": "x", "images": ["a\\u0000.png"]}', "was trained on image features"),
        ("a.jsonl", b'{"text": 3}', 'line 1 is no object with a "text"'),
        ("a.jsonl", b'{"text": "a", "text": "b"}', "line 1 is JSON in which 'text' comes twice"),
        ("a.jsonl", b'{"text": "a", "n": NaN}', "line 1 holds a number that JSON has not: NaN, or one too large"),
        ("a.jsonl", b'{"text": "a", "n": 1e999}', "line 1 holds a number that JSON has not"),
        ("a.jsonl", b'{"text": "x", "to": 3}', 'line 1: "to" is no language'),
        ("a.jsonl", b'{"text": "x", "images": "a.png"}', '"images" is no list of paths'),
        ("a.jsonl", b'{"text": "x"}\n{"text": ""}', "line 2: there is no text in it"),
    ],
)
def test_bad_documents_are_named_before_anything_is_written(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes | None, error: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert error in refused(capsys, model, "--to", "ur", tmp_path / name)


def test_images_that_a_model_cannot_use_are_refused(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """This one's features were made up: no picture gives such."""
    (tmp_path / "a").write_text(TEXTS[0])
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    error = refused(capsys, model, tmp_path / "a", "--to", "ur", "--images", tmp_path / "a.png")
    assert "was trained on image features that were made elsewhere" in error
    (tmp_path / "b.jsonl").write_text('{"text": "x"}')
    words = (tmp_path / "b.jsonl", "--to", "ur", "--images", tmp_path / "a.png")
    assert "--images are of one document" in refused(capsys, model, *words)


def test_pictures_become_the_features_that_it_was_trained_on(
    tiny_corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch(RESNET, default_cache())
    corpus = dataclasses.replace(tiny_corpus, manifest=tiny_corpus.manifest | {"name": "emoji"})
    recipe = recipe_in(tmp_path / "run", corpus, "network.vision.feature_size=2048")
    checkpoint, _ = write_checkpoint(recipe, corpus)
    (tmp_path / "a").write_text(TEXTS[0])
    for name, colour in (("red", (255, 0, 0)), ("grey", (99, 99, 99))):
        Image.new("RGB", (70, 50), colour).save(tmp_path / f"{name}.png")
    lines = [{"text": TEXTS[0]}, {"text": TEXTS[0], "images": ["red.png"]}, {"text": TEXTS[0], "images": ["grey.png"]}]
    (tmp_path / "all.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = [json.loads(line)["summary"] for line in run(capsys, checkpoint, "--to", "ur", tmp_path / "all.jsonl")]
    assert found[0] != found[1] != found[2]
    words = ("--to", "ur", "--images", tmp_path / "red.png")
    assert run(capsys, checkpoint, tmp_path / "a", *words) == [one_line(found[1])]
    (tmp_path / "no.png").write_text("no picture")
    words = ("--to", "ur", "--images", tmp_path / "no.png")
    assert "no.png is no image that can be read" in refused(capsys, checkpoint, tmp_path / "a", *words)


def test_mbart_wants_the_documents_language(
    tiny_corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = save_mbart50(tmp_path / "tokenizer")
    words = [f"corpus.tokenizer={tokenizer}", "network.text.architecture=mbart", "network.text.d_kv="]
    words.append("network.text.max_position_embeddings=40")
    checkpoint, _ = write_checkpoint(recipe_in(tmp_path / "run", tiny_corpus, *words), tiny_corpus)
    (tmp_path / "a").write_text(TEXTS[0])
    assert "say --from LANGUAGE" in refused(capsys, checkpoint, tmp_path / "a", "--to", "ur")
    assert len(run(capsys, checkpoint, tmp_path / "a", "--to", "ur", "--from", "en")) == 1


def test_it_is_what_the_network_writes_of_the_text_alone(model: Path) -> None:
    """The visual path runs, masked: a document without images is no error."""
    summarizer = Summarizer(model)
    request = Request(text=TEXTS[0], source=None, target="hindi", images=(), where="here")
    (alone,) = summarizer([request])
    other = Request(text=TEXTS[1], source=None, target="hindi", images=(), where="there")
    assert summarizer([other, request])[1] == alone


def test_a_byte_order_mark_and_strange_but_sound_text_are_read(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plain").write_text(TEXTS[0])
    (tmp_path / "marked").write_text(TEXTS[0], encoding="utf-8-sig")
    plain, marked = run(capsys, model, "--to", "ur", tmp_path / "plain", tmp_path / "marked")
    assert marked == plain
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbf" + TEXTS[0].encode())))
    assert run(capsys, model, "--to", "ur") == [plain]
    lines = [{"text": TEXTS[0]}, {"text": TEXTS[0], "title": "line\u2028separator"}, {"text": "nul \0 and \x1b"}]
    content = b"\xef\xbb\xbf" + "\r\n".join(json.dumps(line, ensure_ascii=False) for line in lines).encode() + b"\r\n"
    (tmp_path / "marked.jsonl").write_bytes(content + b"\xef\xbb\xbf\n")
    assert main(["summarize", str(model), "--to", "ur", str(tmp_path / "marked.jsonl")]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.removesuffix("\n").split("\n")]
    assert [one_line(record["summary"]) for record in records[:2]] == [plain] * 2
    assert [record["text"] for record in records] == [line["text"] for line in lines]


@pytest.mark.parametrize("content", [b"La rivi\xe8re est froide", b"\xed\xa0\x80", b"\xff\xfeh\0i\0"])
def test_bytes_on_standard_input_that_are_no_text(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    # As Python opens it under LANG=C and C.UTF-8.
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), "utf-8", errors="surrogateescape"))
    assert "standard input is not UTF-8 text" in refused(capsys, model, "--to", "ur")


def test_standard_streams_that_are_closed(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", None)
    assert "standard input is closed" in refused(capsys, model, "--to", "ur")
    monkeypatch.setattr("sys.stdout", None)
    (tmp_path / "a").write_text(TEXTS[0])
    assert main(["summarize", str(model), "--to", "ur", str(tmp_path / "a")]) == 2
    assert "standard output is closed" in capsys.readouterr().err


def test_output_is_utf_8_whatever_the_locale_and_a_closed_pipe_is_one_line(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "étoile"}), encoding="utf-8")
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, "ascii"))
    assert main(["summarize", str(model), "--to", "ur", str(tmp_path / "a.jsonl")]) == 0
    assert json.loads(written.getvalue().decode())["text"] == "étoile"
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as output:  # whose end, which writes what is buffered, does not fail once more
        monkeypatch.setattr("sys.stdout", output)
        assert main(["summarize", str(model), "--to", "ur", str(tmp_path / "a.jsonl")]) == 2
    assert "standard output cannot be written (Broken pipe): not all summaries are there" in capsys.readouterr().err


def test_what_is_no_file_never_blocks(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "fifo.jsonl")
    for name, what in (("fifo.jsonl", "it is a FIFO"), (".", "it is a directory")):
        assert f"cannot be read: {what}, not a regular file" in refused(capsys, model, "--to", "ur", tmp_path / name)
    reader, writer = os.pipe()  # a shell's <(command)
    os.write(writer, TEXTS[0].encode())
    os.close(writer)
    (tmp_path / "a").write_text(TEXTS[0])
    together = run(capsys, model, "--to", "ur", tmp_path / "a", f"/dev/fd/{reader}")
    os.close(reader)
    assert together[0] == together[1]


def test_a_document_beyond_measure_is_refused(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shards.text.lines.LONGEST", 100)
    monkeypatch.setattr("launcher.documents.LONGEST", 100)
    (tmp_path / "a").write_text("long " * 50)
    assert "a is longer than" in refused(capsys, model, "--to", "ur", tmp_path / "a")
    (tmp_path / "a.jsonl").write_text('{"text": "short"}\n' + json.dumps({"text": "long " * 50}) + "\n")
    assert "a.jsonl, line 2 is longer than" in refused(capsys, model, "--to", "ur", tmp_path / "a.jsonl")
