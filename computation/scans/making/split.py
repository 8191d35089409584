"""Dividing people, never scans, into train, valid and test."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass

import numpy as np

from computation.errors import ImportScanError
from computation.scans.store.records import SPLITS

__all__ = ["Fractions", "assign", "given"]


@dataclass(frozen=True)
class Fractions:
    """The parts of a split; they must be at least 0 and sum to 1."""

    train: float = 0.7
    valid: float = 0.2
    test: float = 0.1

    def __post_init__(self) -> None:
        parts = astuple(self)
        if min(parts) < 0 or not math.isclose(sum(parts), 1.0, abs_tol=1e-9):
            raise ImportScanError(f"split fractions {parts} must be at least 0 and sum to 1")


def assign(
    subjects: Iterable[str], fractions: Fractions, seed: int, kept: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Divide subjects at random.

    Parameters
    ----------
    subjects : iterable of str
        Identifiers; repetitions and order do not matter.
    fractions : Fractions
        How large each part should be; the largest remainders are rounded up, so the sizes are off by less than one.
    seed : int
        Equal seeds and equal people give equal splits.
    kept : mapping, optional
        Parts of people who have one already, among the subjects or not; they stay, and the others fill up.

    Returns
    -------
    dict
        Subject to ``train``, ``valid`` or ``test``.

    Raises
    ------
    ImportScanError
        If the seed is negative.
    """
    if seed < 0:
        raise ImportScanError(f"the seed of the split is {seed}; wanted a whole number from 0")
    kept = dict(kept or {})
    people = sorted(set(subjects) - set(kept))
    sizes = _sizes(len(people) + len(kept), fractions)
    room = _room(sizes, [sum(part == name for part in kept.values()) for name in SPLITS], len(people))
    parts = [name for name, size in zip(SPLITS, room, strict=True) for _ in range(size)]
    order = np.random.default_rng([seed]).permutation(len(people))
    return {**kept, **{people[index]: part for index, part in zip(order, parts, strict=True)}}


def _sizes(people: int, fractions: Fractions) -> list[int]:
    wanted = [fraction * people for fraction in astuple(fractions)]
    # A product such as .7 * 10 may fall a hair below its whole number.
    sizes = [math.floor(number + 1e-9) for number in wanted]
    by_remainder = sorted(range(len(SPLITS)), key=lambda part: sizes[part] - wanted[part])
    for part in by_remainder[: people - sum(sizes)]:
        sizes[part] += 1
    return sizes


def _room(sizes: list[int], held: list[int], people: int) -> list[int]:
    """Return how many new people go where; a part that is too full already takes the difference from the fullest."""
    room = [max(0, size - have) for size, have in zip(sizes, held, strict=True)]
    while sum(room) > people:
        room[max(range(len(room)), key=room.__getitem__)] -= 1
    return room


def given(rows: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """Take a split that a table states.

    Parameters
    ----------
    rows : iterable of (subject, split)
        One per scan.

    Returns
    -------
    dict
        Subject to split.

    Raises
    ------
    ImportScanError
        If a split has another name, or a person is in two of them.
    """
    parts: dict[str, str] = {}
    for subject, part in rows:
        if part not in SPLITS:
            raise ImportScanError(f"the split column holds {part!r}; wanted one of {', '.join(SPLITS)} in every row")
        if parts.setdefault(subject, part) != part:
            text = f"one person's scans are in both {parts[subject]} and {part}; put all of them in one part"
            raise ImportScanError(text, subject)
    return parts
