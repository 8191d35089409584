"""Reads a foreign JSON object by a fixed schema: the only outcomes are a value or an error that names the field."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from computation.checks import is_digest, is_number, is_text
from computation.errors import MessageError

__all__ = ["MANY", "Reader"]

#: Entries that an object or list may have unless its reader says otherwise: more sites than any consortium.
MANY = 1_000

#: What single precision holds. Averaging or drawing numbers near the end of double precision would overflow.
_LARGEST = 3.4e38

_NUMBER = f"a number from -{_LARGEST:g} to {_LARGEST:g}"

#: How deep, how many and how long values of an object may be of which a reader does not know more.
_DEEPEST, _WIDEST, _LONGEST = 3, 256, 1000

T = TypeVar("T")


class Reader:
    """Takes the fields out of one foreign JSON object, and refuses what is left."""

    def __init__(self, what: str, raw: Any) -> None:
        if not isinstance(raw, Mapping):
            raise MessageError(f"the {what} is {type(raw).__name__}; wanted an object")
        self._what = what
        self._left = dict(raw)

    def fail(self, name: str, wanted: str) -> MessageError:
        """Return the error for a field that is not what was wanted."""
        return MessageError(f"field {name!r} of the {self._what} is missing or malformed; wanted {wanted}")

    def take(self, name: str, wanted: str, fits: bool, value: T) -> T:
        """Return a value that fits, or refuse its field."""
        if not fits:
            raise self.fail(name, wanted)
        return value

    def pop(self, name: str) -> Any:
        """Take a field out as it is; `None` where it is missing."""
        return self._left.pop(name, None)

    def optional(self, name: str, parse: Callable[[Any], T]) -> T | None:
        """Take a record that `parse` reads, or nothing; errors as for `parse`."""
        raw = self.pop(name)
        return None if raw is None else parse(raw)

    def constant(self, name: str, wanted: Any) -> None:
        """Insist on one value."""
        value = self.pop(name)
        if value != wanted or isinstance(value, bool) != isinstance(wanted, bool):
            seen = repr(value)[:40]
            raise MessageError(f"field {name!r} of the {self._what} is {seen}; wanted {wanted!r}")

    def whole(self, name: str, high: int, low: int = 0) -> int:
        """Take a whole number between bounds."""
        value: int = self.pop(name)
        fits = _is_whole(value) and low <= value <= high
        return self.take(name, f"a whole number from {low} to {high}", fits, value)

    def number(self, name: str, low: float = -_LARGEST) -> float:
        """Take a finite number, not below a bound."""
        value = self.pop(name)
        wanted = f"a number from {low:g} to {_LARGEST:g}"
        return float(self.take(name, wanted, _is_moderate(value) and value >= low, value))

    def number_or_null(self, name: str) -> float | None:
        """Take a finite number or nothing."""
        value: float | None = self.pop(name)
        return self.take(name, f"{_NUMBER} or null", value is None or _is_moderate(value), value)

    def text(self, name: str, longest: int = 200) -> str:
        """Take a printable text of bounded length."""
        value: str = self.pop(name)
        return self.take(name, f"a printable text of at most {longest} characters", is_text(value, longest), value)

    def one_of(self, name: str, words: tuple[str, ...]) -> str:
        """Take one of a few words."""
        value: str = self.pop(name)
        wanted = f"one of {', '.join(map(repr, words))}"
        return self.take(name, wanted, isinstance(value, str) and value in words, value)

    def digest(self, name: str) -> str:
        """Take a SHA-256 digest."""
        value: str = self.pop(name)
        return self.take(name, "a SHA-256 digest", is_digest(value), value)

    def digest_or_empty(self, name: str) -> str:
        """Take 32 bytes in hexadecimal, such as a SHA-256 digest or a key, or an empty text."""
        value: str = self.pop(name)
        return self.take(name, "32 bytes in hexadecimal, or nothing", value == "" or is_digest(value), value)

    def digests_by_name(self, name: str) -> dict[str, str]:
        """Take an object of which each value is 32 bytes in hexadecimal."""
        table = self.mapping(name)
        return self.take(name, "an object of 32 bytes each in hexadecimal", all(map(is_digest, table.values())), table)

    def flag(self, name: str) -> bool:
        """Take true or false."""
        value: bool = self.pop(name)
        return self.take(name, "true or false", isinstance(value, bool), value)

    def texts(self, name: str, most: int = 1000, longest: int = 200) -> tuple[str, ...]:
        """Take a list of texts."""
        value = self.pop(name)
        fits = isinstance(value, list) and len(value) <= most and all(is_text(item, longest) for item in value)
        return self.take(name, f"a list of at most {most} texts", fits, tuple(value) if fits else ())

    def mapping(self, name: str, most: int = MANY, longest: int = 200) -> dict[str, Any]:
        """Take an object of a bounded number of entries, with names of bounded length."""
        value = self.pop(name)
        fits = isinstance(value, Mapping) and len(value) <= most and all(is_text(key, longest) for key in value)
        wanted = f"an object of at most {most} entries, each name of at most {longest} characters"
        return self.take(name, wanted, fits, dict(value) if fits else {})

    def plain_mapping(self, name: str, most: int) -> dict[str, Any]:
        """Take an object whose values are finite numbers, texts, flags, or short lists and objects of these."""
        table = self.mapping(name, most)
        return self.take(name, "an object of finite numbers, texts and lists", _is_plain(table, _DEEPEST), table)

    def shares_by_name(self, name: str) -> dict[str, float | None]:
        """Take an object of numbers from 0 to 1, or nulls."""
        table = self.mapping(name)
        fits = all(value is None or (is_number(value) and 0 <= value <= 1) for value in table.values())
        return self.take(name, "an object, each value a number from 0 to 1 or null", fits, table)

    def wholes_by_name(self, name: str, high: int, low: int = 0) -> dict[str, int]:
        """Take an object of whole numbers between bounds."""
        table = self.mapping(name)
        fits = all(_is_whole(value) and low <= value <= high for value in table.values())
        return self.take(name, f"an object, each value a whole number from {low} to {high}", fits, table)

    def texts_by_name(self, name: str, most: int = MANY, longest: int = 200) -> dict[str, str]:
        """Take an object of texts, with a bounded number of names of bounded length."""
        table = self.mapping(name, most, longest)
        return self.take(name, "an object of texts", all(is_text(text, 200) for text in table.values()), table)

    def end(self) -> None:
        """Refuse what is left."""
        if self._left:
            raise MessageError(f"the {self._what} carries an unknown field {sorted(map(str, self._left))[0][:40]!r}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_moderate(value: Any) -> bool:
    return is_number(value) and -_LARGEST <= value <= _LARGEST


def _is_plain(value: Any, deepest: int) -> bool:
    """Tell whether a value can be kept and written as JSON again."""
    if isinstance(value, Mapping | list):
        inner = [*value, *value.values()] if isinstance(value, Mapping) else value
        return deepest > 0 and len(value) <= _WIDEST and all(_is_plain(item, deepest - 1) for item in inner)
    return value is None or isinstance(value, bool) or is_number(value) or is_text(value, _LONGEST)
