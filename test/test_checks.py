"""Foreign JSON: what it may hold, and what is refused by name."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from computation.checks import parse_json

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-(2**1023), 2**1023)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=30,
)


@given(value=VALUES, ascii=st.booleans())
def test_sound_values_come_back(value, ascii):
    text = json.dumps(value, ensure_ascii=ascii)
    assert parse_json(text) == parse_json(text.encode()) == value


def test_a_byte_order_mark_is_no_part_of_it():
    assert parse_json(b"\xef\xbb\xbf[1]") == parse_json("\ufeff[1]") == [1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"x": NaN}', "NaN is not JSON"),
        ("[-Infinity]", "-Infinity is not JSON"),
        ("[1e999]", "a number is too large"),
        ("1" * 400, "a number is too large"),
        (f"[{2**1024}]", "a number is too large"),
        ("1" * 100_000, "limit"),
        ('{"a": 1, "b": {"c": 1, "c": 1}}', "a name is given twice"),
        ('{"a": 1, "\\u0061": 2}', "a name is given twice"),
        ("[" * 34 + "]" * 34, "nested too deeply"),
        ('{"a":' * 100 + "1" + "}" * 100, "nested too deeply"),
        ("[" * 200_000, "nested too deeply"),
        ('["\\ud800"]', "half a letter"),
        ('{"\\udfff": 1}', "half a letter"),
        (b"\xff", "utf-8"),
        ('"a"'.encode("utf-16"), "utf-8"),
        ("", "Expecting value"),
        ("[1] [2]", "Extra data"),
    ],
)
def test_what_is_refused(text, said):
    with pytest.raises(ValueError, match=said):
        parse_json(text)


def test_what_is_just_not_too_much_passes():
    assert parse_json("[" * 32 + "]" * 32) is not None
    assert parse_json(str(2**1023)) == 2**1023 and parse_json("1.7e308") == 1.7e308


@settings(max_examples=500)
@given(st.binary() | st.text() | VALUES.map(json.dumps))
def test_whatever_comes_is_a_value_or_one_error(text):
    try:
        json.dumps(parse_json(text), allow_nan=False, ensure_ascii=False).encode()
    except ValueError as error:
        assert str(error)
