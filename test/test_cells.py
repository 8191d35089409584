"""A cell is text or a number to a spreadsheet, never a formula."""

import os

import pytest

from computation.cells import cell


@pytest.mark.parametrize(
    "text", ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", " =1+1", "\u3000=1", "＝1+1", "--1"]
)
def test_a_formula_becomes_text(text):
    assert cell(text) == f"'{text}"
    assert cell(cell(text)) == cell(text)


@pytest.mark.parametrize("text", ["\t=1+1", "\r=1", "\n=1"])
def test_a_blank_before_a_formula_is_spelt(text):
    assert cell(text)[0] == "\\"


@pytest.mark.parametrize(
    ("value", "text"), [(-0.5, "-0.5"), (-3, "-3"), ("-1.5e-3", "-1.5e-3"), ("+2", "+2"), (None, "")]
)
def test_numbers_and_nothing_stay(value, text):
    assert cell(value) == text


def test_a_byte_that_is_no_text_is_spelt():
    assert cell(os.fsdecode(b"Jos\xe9")) == r"Jos\xe9"
