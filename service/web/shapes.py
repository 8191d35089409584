"""JSON Schema, as much of it as the API's own schemas use: one fault is found, and named by where it is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from computation.checks import is_number

__all__ = ["KEYWORDS", "Schema", "fault"]

Schema = Mapping[str, Any]

#: What a schema may say of a value; what it says beside that is for readers.
KEYWORDS = frozenset(
    {
        "$ref", "type", "enum", "properties", "required", "additionalProperties", "maxProperties", "items", "minItems",
        "maxItems", "minimum", "maximum", "minLength", "maxLength", "pattern", "anyOf",
    }
)  # fmt: skip

_TYPES: Mapping[str, Any] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": is_number,
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}


def fault(value: Any, schema: Schema, named: Mapping[str, Schema], where: str = "") -> tuple[str, str] | None:
    """Say what is wrong with a value.

    Parameters
    ----------
    value : object
        Plain JSON values.
    schema : mapping
        What it should be.
    named : mapping of mapping
        The schemas that a `$ref` may name.
    where : str
        What the value is called.

    Returns
    -------
    (str, str) or None
        Where the first fault is, as names with dots between them, and what was wanted there; None if there is none. It
        repeats nothing of the value but the names of what it has too much.
    """
    if "$ref" in schema:
        return fault(value, named[schema["$ref"].rpartition("/")[2]], named, where)
    if "anyOf" in schema and all(fault(value, one, named, where) for one in schema["anyOf"]):
        return where, "one of several forms; see the API's description"
    if wanted := _wanted(value, schema):
        return where, wanted
    if isinstance(value, dict):
        return _object_fault(value, schema, named, where)
    if isinstance(value, list) and "items" in schema:
        return next(_faults(((f"{where}[{at}]", one, schema["items"]) for at, one in enumerate(value)), named), None)
    return None


def _wanted(value: Any, schema: Schema) -> str:
    """Say what is wanted instead of a value itself, whatever is inside it."""
    types = schema.get("type", ())
    types = (types,) if isinstance(types, str) else types
    if types and not any(_TYPES[one](value) for one in types):
        return " or ".join(types)
    if "enum" in schema and not any(value == one and type(value) is type(one) for one in schema["enum"]):
        return f"one of {', '.join(map(str, schema['enum']))}"
    if isinstance(value, str):
        return _text_wanted(value, schema)
    if _TYPES["number"](value):
        return _bounded(value, schema, "minimum", "maximum", "a number")
    if isinstance(value, list):
        return _bounded(len(value), schema, "minItems", "maxItems", "a list with a length")
    if isinstance(value, dict):
        return _bounded(len(value), schema, "", "maxProperties", "an object with a size")
    return ""


def _text_wanted(value: str, schema: Schema) -> str:
    if "pattern" in schema and not _pattern(schema["pattern"]).search(value):
        return f"a text like {schema['pattern']}"
    return _bounded(len(value), schema, "minLength", "maxLength", "a text with a length")


@lru_cache(maxsize=256)
def _pattern(text: str) -> re.Pattern[str]:
    """A pattern as JSON Schema means it: its end is the text's, not a last line's."""
    return re.compile(re.sub(r"\$$", r"\\Z", text), re.ASCII)


def _bounded(value: float, schema: Schema, low: str, high: str, what: str) -> str:
    least, most = schema.get(low), schema.get(high)
    if (least is not None and value < least) or (most is not None and value > most):
        bounds = [f"from {least}" if least is not None else "", f"to {most}" if most is not None else ""]
        return " ".join([what, *filter(None, bounds)])
    return ""


def _object_fault(
    value: Mapping[str, Any], schema: Schema, named: Mapping[str, Schema], where: str
) -> tuple[str, str] | None:
    known, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    for name in schema.get("required", ()):
        if name not in value:
            return _below(where, name), "a value, which is missing"
    if others is False:
        for name in value:
            if name not in known:
                return _below(where, str(name)[:40]), f"no such name (there are {', '.join(known)})"
    inside = ((_below(where, name), one, known.get(name, others)) for name, one in value.items())
    return next(_faults(inside, named), None)


def _faults(inside: Iterator[tuple[str, Any, Any]], named: Mapping[str, Schema]) -> Iterator[tuple[str, str]]:
    for where, value, schema in inside:
        if isinstance(schema, Mapping) and (found := fault(value, schema, named, where)):
            yield found


def _below(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name
