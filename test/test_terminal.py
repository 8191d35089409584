"""What is printed is only shown, and printing never ends a command."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from computation.printable import plain
from computation.terminal import SafeConsole, complain, console, shown

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("sub-1", "sub-1"),
        ("José ±", "José ±"),
        ("a\x1b]0;title\x07b", r"a\x1b]0;title\x07b"),
        ("one\ntwo\r\tthree", r"one\ntwo\r\tthree"),
        (os.fsdecode(b"Jos\xe9"), r"Jos\xe9"),
        ("\ud800", r"\ud800"),
        ("right\u202eleft", r"right\u202eleft"),
        ("wide\u3000blank", "wide\u3000blank"),
        ("\x9b31m", r"\x9b31m"),
    ],
)
def test_a_text_becomes_one_line_of_what_can_be_shown(text, seen):
    assert plain(text) == seen


def printed(*what, encoding="utf-8", **how):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, write_through=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        made = console()
        for one in what:
            made.print(one, **how)
    return raw.getvalue().decode(encoding)


def test_brackets_of_a_name_are_brackets_and_its_escapes_are_spelt():
    assert printed("[green]" + shown("[red]x\x1b[2J")) == "[red]x\\x1b[2J\n"
    assert printed("seen\x1b[2J by nobody") == "seen\\x1b[2J by nobody\n"


def test_a_table_keeps_its_lines_and_loses_its_escapes():
    table = Table("name")
    table.add_row(shown("a\x1b[8mb"))
    table.add_row("c\x1b[8md")
    lines = printed(table).splitlines()
    assert len(lines) == 6
    assert r"a\x1b[8mb" in lines[3]
    assert "\x1b" not in "".join(lines)


def test_colours_are_still_colours():
    raw = io.StringIO()
    seen = SafeConsole(file=raw, force_terminal=True, color_system="standard", highlight=False)
    seen.print("[red]bad\x1b(0")
    assert raw.getvalue() == "\x1b[31mbad\\x1b(0\x1b[0m\n"


@pytest.mark.parametrize(
    ("encoding", "seen"),
    [
        ("utf-8", "Dice 0.9 ± 0.1 – Łódź\n"),
        ("ascii", "Dice 0.9 +- 0.1 - ??d?\n"),
        ("latin-1", "Dice 0.9 +- 0.1 - ?ód?\n"),
    ],
)
def test_what_an_encoding_lacks_is_replaced(encoding, seen):
    assert printed("Dice 0.9 ± 0.1 – Łódź", encoding=encoding) == seen


def test_a_progress_bar_with_a_spinner_is_shown_in_ascii():
    raw = io.BytesIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii", write_through=True))
        with Progress(console=console()) as progress:
            progress.update(progress.add_task("scans ⠋", total=2), completed=2)
    assert b"scans ?" in raw.getvalue()


def code(text, **how):
    script = "from computation.terminal import complain, console\nmade = console()\n" + text
    return subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False, **how)


def test_a_reader_that_left_does_not_end_the_work():
    script = "for _ in range(20000): made.print('a line of text')\ncomplain('done')"
    reading, writing = os.pipe()
    os.close(reading)
    ended = code(script, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (0, b"done\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it")
def test_a_full_disk_does_not_end_the_work():
    with open("/dev/full", "w") as full:  # noqa: PTH123
        ended = code("made.print('text')\ncomplain('done')", stdout=full, stderr=subprocess.PIPE)
    assert (ended.returncode, ended.stderr) == (0, b"done\n")


def test_no_output_at_all_does_not_end_the_work():
    script = "import sys; sys.stdout = sys.stderr = None; made = console(); made.print('x'); complain('y')"
    assert code(script).returncode == 0


def test_complaints_keep_their_lines_and_lose_their_escapes(capsys):
    complain("first\nsecond \x1b[1m")
    assert capsys.readouterr().err == "first\nsecond \\x1b[1m\n"


def test_it_is_a_console():
    assert isinstance(console(), Console)
