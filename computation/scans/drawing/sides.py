"""Which classes belong to one side of the head, by their names: what a mirror makes of them."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["counterparts", "one_sided"]

#: Words of class names that change sides in a mirror; letters alone make a word, all else stands between words.
_SIDES = (("left", "right"), ("lh", "rh"), ("l", "r"))


def one_sided(name: str) -> bool:
    """Tell whether a class belongs to one side: whether a word of its name says left or right."""
    return bool(_mirrored(name))


def counterparts(names: Sequence[str]) -> list[int]:
    """Return, for each class, the class that it becomes in a mirror: itself unless its name has a side."""
    places = {name: index for index, name in enumerate(names)}
    return [next((places[other] for other in _mirrored(name) if other in places), places[name]) for name in names]


def _mirrored(name: str) -> list[str]:
    found = []
    for left, right in _SIDES:
        for one, other in ((left, right), (right, left)):
            found += _replaced(name, one, other)
    return found


def _replaced(name: str, one: str, other: str) -> list[str]:
    """Replace a word in each place where it stands, keeping capitals."""
    parts = re.split(r"([^A-Za-z]+)", name)
    hits = [(place, _cased(other, part)) for place, part in enumerate(parts) if part.lower() == one]
    return ["".join([*parts[:place], word, *parts[place + 1 :]]) for place, word in hits]


def _cased(word: str, like: str) -> str:
    if like.isupper():
        return word.upper()
    return word.capitalize() if like[0].isupper() else word
