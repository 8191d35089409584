"""The two log lines that the COINSTAC app shows of a container must say what is going on."""

import doctest
import io

import pytest

from computation.tracking import RoundNumbers, progress
from computation.tracking.progress import Progress, round_line

CLASSES = ("background", "white matter", "grey matter")


def test_examples():
    assert doctest.testmod(progress).failed == 0


def test_a_usual_round():
    numbers = RoundNumbers(
        7,
        "",
        loss=0.4123,
        sites=2,
        counted=("local0", "local1"),
        seconds=0.94,
        validated=6,
        dice={"background": 0.99, "white matter": 0.812, "grey matter": 0.779},
    )
    assert round_line(numbers, 200, CLASSES) == "round 7/200  loss 0.412  2/2 sites  Dice WM .81 GM .78  0.9 s"


def test_a_round_with_absent_sites_and_unreadable_scans():
    numbers = RoundNumbers(8, "", loss=0.4, sites=2, counted=("a",), skipped={"b": "out-of-memory"}, unreadable=2)
    assert (
        round_line(numbers, 200, CLASSES)
        == "round 8/200  loss 0.400  1/2 sites (b: out-of-memory)  2 scans unreadable  0.0 s"
    )


def test_a_round_with_updates_that_were_far_too_large():
    numbers = RoundNumbers(8, "", loss=0.4, sites=3, counted=("a", "b"), skipped={"c": "outlier"}, clipped=("b",))
    assert round_line(numbers, 200, CLASSES) == "round 8/200  loss 0.400  2/3 sites (b: clipped, c: outlier)  0.0 s"


def test_a_void_round():
    numbers = RoundNumbers(9, "", sites=5, void=True, skipped=dict.fromkeys("abcde", "failed"))
    line = round_line(numbers, 0, CLASSES)
    assert line == "round 9  void  0/5 sites (a: failed, b: failed and 3 more)  0.0 s"


@pytest.mark.parametrize(
    ("classes", "dice", "shown"),
    [
        (("bg", "lesion"), {"lesion": 1.0}, "Dice lesion 1.00"),
        (("bg", "lesion"), {"lesion": None}, "Dice lesion -"),
        (("bg", *"abcdefgh"), dict.fromkeys("abcdefgh", 0.5), "Dice .50 over 8 classes"),
    ],
)
def test_dice_of_other_class_lists(classes, dice, shown):
    assert shown in round_line(RoundNumbers(1, "", dice=dice), 1, classes)


def test_a_line_is_one_line_of_plain_text_whatever_a_site_is_called():
    stream = io.StringIO()
    Progress(stream).say("site \x1b[31m\n\r\u202e<b>\ud800 ü" + "x" * 500)
    text = stream.getvalue()
    assert text.endswith("\n")
    assert text.count("\n") == 1
    assert text[:-1].isascii()
    assert text[:-1].isprintable()
    assert len(text) <= 161


class Closed(io.StringIO):
    tries = 0

    def write(self, text):
        self.tries += 1
        raise BrokenPipeError


def test_a_stream_that_cannot_be_written_stops_nothing_and_the_log_has_it(tmp_path):
    stream, log = Closed(), tmp_path / "log.txt"
    progress = Progress(stream, log)
    progress.say("round 1")
    progress.say("round 2")
    assert stream.tries == 2
    assert [line.split("  ", 1)[1] for line in log.read_text().splitlines()] == ["round 1", "round 2"]


def test_without_a_standard_error_the_log_has_it(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stderr", None)
    Progress(log=tmp_path / "log.txt").say("round 1")
    assert (tmp_path / "log.txt").read_text().endswith("round 1\n")


def test_nothing_goes_to_standard_output(capsys):
    Progress().say("round 1")
    out, err = capsys.readouterr()
    assert (out, err) == ("", "round 1\n")
