"""Schemas mean what JSON Schema means by them: a reader of another make agrees on every value."""

import json
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.web.schemas import NAMED
from service.web.shapes import KEYWORDS, fault

PROSE = {"title", "description", "default", "format"}
WHOLE = st.integers(-3, 3)
VALUES = st.recursive(
    st.none() | st.booleans() | WHOLE | st.sampled_from([0.5, -1.5]) | st.text("ab1", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
TYPES = st.sampled_from(["null", "boolean", "integer", "number", "string", "array", "object"])


def _flat():
    return st.fixed_dictionaries(
        {},
        optional={
            "type": TYPES | st.lists(TYPES, min_size=1, max_size=3, unique=True),
            "enum": st.lists(st.text("ab1", max_size=2), min_size=1, max_size=3, unique=True),
            "minimum": WHOLE, "maximum": WHOLE, "minLength": st.integers(0, 3), "maxLength": st.integers(0, 3),
            "minItems": st.integers(0, 3), "maxItems": st.integers(0, 3), "maxProperties": st.integers(0, 3),
            "pattern": st.sampled_from(["^[a-b]*$", "1", "^(ab)?$"]),
            "required": st.lists(st.sampled_from("abc"), max_size=2, unique=True),
        },
    )  # fmt: skip


def _deeper(inner):
    below = {
        "properties": st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
        "additionalProperties": st.booleans() | inner,
        "items": inner,
        "anyOf": st.lists(inner, min_size=1, max_size=3),
    }
    return st.builds(lambda flat, more: {**flat, **more}, _flat(), st.fixed_dictionaries({}, optional=below))


@settings(max_examples=300, deadline=None)
@given(st.recursive(_flat(), _deeper, max_leaves=5), VALUES)
def test_another_reader_of_schemas_agrees(schema, value):
    other = pytest.importorskip("jsonschema_rs", reason="NOT HELD AGAINST ANOTHER READER: schemathesis is not there")
    assert (fault(value, schema, {}) is None) == other.is_valid(schema, value), fault(value, schema, {})


def _keywords(schema):
    for name, inner in schema.items():
        yield name
        below = inner.values() if name == "properties" else inner if name == "anyOf" else [inner]
        for one in below if name in ("properties", "anyOf", "items", "additionalProperties") else ():
            if isinstance(one, dict):
                yield from _keywords(one)


@pytest.mark.parametrize("name", NAMED)
def test_every_word_of_our_schemas_is_understood(name):
    assert set(_keywords(NAMED[name])) <= KEYWORDS | PROSE


@pytest.mark.parametrize("text", ["a\n", "\na", "a\nb"])
def test_a_patterns_end_is_the_texts_end(text):
    assert fault(text, {"pattern": "^[a-z]$"}, {})
    assert fault("a", {"pattern": "^[a-z]$"}, {}) is None


def test_a_fault_says_where_it_is_and_repeats_nothing_but_names():
    body = {"name": "x", "roles": ["site", "secret"], "password": "y"}
    assert fault(body, NAMED["NewAccount"], NAMED)[0] == "roles[1]" and "secret" not in str(
        fault(body, NAMED["NewAccount"], NAMED)
    )
    where, wanted = fault({**body, "more": 1}, NAMED["NewAccount"], NAMED)
    assert where == "more" and "name" in wanted
    assert fault({"name": "x"}, NAMED["NewAccount"], NAMED)[0] == "roles"


@given(st.dictionaries(st.text(string.printable, max_size=5), VALUES, max_size=4))
def test_no_value_is_too_strange_to_be_refused(value):
    for schema in NAMED.values():
        found = fault(json.loads(json.dumps(value)), schema, NAMED)
        assert found is None or all(isinstance(part, str) for part in found)
