"""Nothing that a corpus, a run or an error holds gives a terminal orders, is read as markup, or breaks a document."""

import io
import re
import sys
from pathlib import Path

import pytest
from rich.table import Table

from launcher.cli import main
from launcher.comparison.sheet import as_latex, as_markdown
from launcher.pages.sheet import Sheet, words
from shards.printable import one_line, printable
from trainer import markdown
from trainer.terminal.progress import stage
from trainer.terminal.text import Console, PrintableStream, data_output, printable_output

#: An escape sequence, C1's own CSI, a bell, a carriage return, an override of the direction, half a surrogate pair.
HOSTILE = "\x1b[31m\x9b2J\x07\r\u202eabc\u2066\x7f\udc80"
MARKUP = ("[red]x[/]", "[/]", "[bold", "[link=http://e]y[/link]")


def orders(text: str) -> list[str]:
    """The characters of a text that are orders to a terminal."""
    return [sign for sign in text if sign in HOSTILE and sign not in "[31m2Jabc"]


def test_what_scripts_need_is_left_alone() -> None:
    for text in ("قالت\u200fه", "می\u200cخواهم", "क्\u200dष", "日本語\tx\n", "e\u0301"):
        assert printable(text) == text
    assert one_line("a\nb\tc") == "a␊b␉c"
    assert not orders(printable(HOSTILE))
    assert len(printable(HOSTILE)) == len(HOSTILE)


def test_a_table_shows_what_it_is_given() -> None:
    out = io.StringIO()
    console = Console(file=out, width=100)
    table = Table(title=MARKUP[0] + HOSTILE, caption=MARKUP[1])
    table.add_column(MARKUP[1] + HOSTILE)
    for cell in (*MARKUP, HOSTILE):
        table.add_row(cell)
    console.print(table)
    console.print(MARKUP[0] + HOSTILE, soft_wrap=True)
    shown = out.getvalue()
    assert not orders(shown)
    assert all(shown.count(text) >= 1 for text in MARKUP)


def test_a_bar_shows_its_description_as_it_is() -> None:
    out = io.StringIO()
    with stage("[/]\x1b]0;title\x07", 3, out=Console(file=out, width=100, force_terminal=True)) as progress:
        progress.reach(3)
    assert "[/]␛]0;t" in out.getvalue()
    assert "\x1b]0" not in out.getvalue()


def test_print_shows_control_characters_and_rich_keeps_its_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    with printable_output():
        print("a" + HOSTILE)
        print("b" + HOSTILE, file=sys.stderr)
        Console(force_terminal=True, color_system="standard").print("c\x1b[31m", style="bold")
        data_output().write("data \x1b")
    assert sys.stdout is out
    assert not orders(err.getvalue())
    assert out.getvalue().startswith("a␛[31m")
    assert "\x1b[1mc␛[31m\x1b[0m" in out.getvalue()
    assert out.getvalue().endswith("data \x1b")


def test_a_bar_of_a_library_still_begins_at_its_line() -> None:
    out = io.StringIO()
    PrintableStream(out).write("\r 50%\r")
    assert out.getvalue() == "\r 50%␍"


@pytest.mark.parametrize("command", ["inspect", "verify", "watch --once", "report", "preview --story x", "compare"])
def test_an_error_is_one_line_without_orders(tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    name, *options = command.split()
    hostile = HOSTILE.replace("\udc80", "") + "\nerror: all is well"
    try:
        code = main([name, str(tmp_path / hostile), *options])
    except SystemExit as error:  # argparse's
        code = int(str(error.code))
    said = capsys.readouterr()
    assert code == 2
    assert not orders(said.out + said.err)
    assert "\nerror: all is well" not in said.err


@pytest.mark.parametrize("command", ["inspect", "verify", "watch --once", "report", "recipe", "evaluate"])
def test_a_name_that_is_too_long_is_one_line(tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    name, *options = command.split()
    assert main([name, str(tmp_path / ("x" * 300)), *options]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1


HOSTILE_MARKDOWN = "a|b`c`[d](http://e)<script>*f* __g__ ~~h~~\n# i &lt; $x$\x1b"


def test_markdown_shows_names_as_they_are() -> None:
    sheet = Sheet(
        title="t",
        head=("", HOSTILE_MARKDOWN),
        rows=((words(HOSTILE_MARKDOWN), words("mms_mxls")),),
        note=HOSTILE_MARKDOWN,
    )
    lines = as_markdown(sheet).splitlines()
    assert len(lines) == 5
    assert r"a\|b\`c\`\[d\](http://e)&lt;script>\*f\* \_\_g_\_ \~\~h\~\~␊# i &amp;lt; \$x\$␛" in lines[2]
    assert "| mms_mxls |" in lines[2]
    assert "<script" not in as_markdown(sheet)


def test_code_in_markdown_cannot_be_left() -> None:
    assert markdown.as_code("a`b``c") == "```a`b``c```"
    assert markdown.as_code("`") == "`` ` ``"
    assert markdown.as_code("a|b\n") == "`a\\|b␊`"


def test_latex_keeps_to_its_rows() -> None:
    sheet = Sheet(title="t", head=("", "b"), rows=((words("[1cm]\n\\input{x}"), words("<|>")),), note="n\n\\end{x}")
    text = as_latex(sheet)
    assert r"{[}1cm{]}␊\textbackslash{}input\{x\}" in text
    assert "\n\\end{x}" not in text


def test_nothing_else_makes_a_console() -> None:
    """rich's own reads markup and lets control characters through."""
    root = Path(__file__).parents[3]
    files = [path for room in ("launcher", "trainer", "shards", "models") for path in (root / room).rglob("*.py")]
    found = re.compile(r"^from rich(\.console)? import .*\b(Console|print)\b|^import rich|from_markup\(", re.MULTILINE)
    assert [path.name for path in files if found.search(path.read_text())] == ["text.py"]
