"""`d2tv prepare` on input that leaves nothing to train on: the refusal says what was wrong, by file and line."""

import json
from pathlib import Path

import pytest

from launcher.cli import main

LINE = json.dumps({"url": "u", "summary": "a summary", "text": "la rivière"}, ensure_ascii=False) + "\n"
PAGE = '<page xmlns="http://projectmallard.org/1.0/" id="a"><info><desc>{}</desc></info><p>{}</p></page>'


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (
            {"english_train.jsonl": LINE.encode("utf-16")},
            "no story: broken line 2 (english_train.jsonl:1: is not UTF-8 text but UTF-16",
        ),
        (
            {"french_train.jsonl": LINE.encode("latin-1") * 3},
            "no story: broken line 3 (french_train.jsonl:1: is not UTF-8 text (invalid continuation byte",
        ),
        (
            {"english_train.jsonl": b"{\n", "english_test.jsonl": LINE.encode()},
            "no story in its training split: broken line 1 (english_train.jsonl:1: is not JSON",
        ),
        (
            {"english_train.jsonl.gz": b"\x1f\x8b\x08\0\0\0\0\0\0\0no"},
            "no story: damaged file 1 (english_train.jsonl.gz",
        ),
        ({"english_train.jsonl": b""}, "no story: empty file 1 (english_train.jsonl)"),
        ({"english-train.jsonl": LINE.encode()}, "no story: unknown file name 1 (english-train.jsonl)"),
    ],
)
def test_crosssum_without_a_story_names_what_was_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], files: dict[str, bytes], said: str
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    out = tmp_path / "out/corpus"
    assert main(["prepare", "crosssum", "--data", str(tmp_path), "--without-images", "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert f"error: the crosssum corpus has {said}" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("pages", "said"),
    [
        ({"C/app/a.page": b"<page", "C/app/b.page": b"\xff\xfe<"}, "no story: page is not XML 2 (C/app/a.page: "),
        ({"C/app/a.page": b"<page", "C/app/b.page.gz": b""}, "page is not XML 1 (C/app/a.page: "),
        ({"C/app/a.page": b"<page", "C/app/b.page.gz": b""}, "unknown file name 1 (C/app/b.page.gz)"),
        (
            {"C/app/a.page": b"<page", "top.page": b"", "C/app/B.PAGE": b""},
            "unknown file name 2 (C/app/B.PAGE, top.page)",
        ),
        ({"C/app/a.page": PAGE.format("\u200b", "text").encode()}, "no story: see that"),
        ({"C/app/a.page": PAGE.format("summary", "\u2800\u00ad").encode()}, "no story: see that"),
    ],
)
def test_help_without_a_story_names_what_was_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pages: dict[str, bytes], said: str
) -> None:
    for name, content in pages.items():
        (tmp_path / "pages" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pages" / name).write_bytes(content)
    words = ["prepare", "help", "--data", str(tmp_path / "pages"), "--out", str(tmp_path / "corpus")]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "no .jsonl file below"),
        ({"a.csv": ""}, "what is there: unknown file name 1 (a.csv)"),
        ({"a.jsonl": "{\n"}, "the captions corpus has no story: broken line 1 (a.jsonl:1: is not JSON"),
        (
            {"a.jsonl": '{"image": "a.png", "language": "en", "caption": "A dog."}\n'},
            "the captions corpus has no story: missing image file 1 (a.jsonl:1: a.png)",
        ),
    ],
)
def test_captions_without_a_story_name_what_was_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], files: dict[str, str], said: str
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name, text in files.items():
        (data / name).write_text(text)
    assert main(["prepare", "captions", "--data", str(data), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert main(["prepare", "captions", "--out", str(tmp_path / "out")]) == 2
    assert "captions needs --data DIR" in capsys.readouterr().err
