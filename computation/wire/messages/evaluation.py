"""Voxel counts as they travel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from computation.errors import MessageError
from computation.wire.messages.base import MOST_GRID, MOST_ROUNDS, MOST_SCANS, is_count, plain
from computation.wire.reader import Reader

__all__ = ["Evaluation"]

_MOST_VOXELS = MOST_GRID * MOST_SCANS


@dataclass(frozen=True)
class Evaluation:
    """Voxel counts of one model over one split of one site: they add up over sites, ratios do not.

    Attributes
    ----------
    round : int
        The model is the one after this round; 0 is the initial model.
    intersection, predicted, truth : tuple of int
        Voxels of each class, summed over the split's scans.
    scans : int
        Scans counted.
    """

    round: int
    intersection: tuple[int, ...]
    predicted: tuple[int, ...]
    truth: tuple[int, ...]
    scans: int

    @classmethod
    def parse(cls, raw: Any) -> Evaluation:
        """Read one evaluation; raises `MessageError`."""
        reader = Reader("evaluation", raw)
        rows = {name: _row(reader, name) for name in ("intersection", "predicted", "truth")}
        record = cls(reader.whole("round", MOST_ROUNDS), **rows, scans=reader.whole("scans", MOST_SCANS, 1))
        reader.end()
        if len(set(map(len, rows.values()))) != 1:
            raise MessageError("the evaluation has lists of different lengths; wanted one count for each class")
        if any(i > min(p, t) for i, p, t in zip(*rows.values(), strict=True)):
            raise MessageError("the evaluation counts more voxels in common than there are; wanted true counts")
        if sum(record.predicted) != sum(record.truth) or sum(record.truth) < record.scans:
            raise MessageError("the evaluation labels another number of voxels than there are; wanted true counts")
        return record

    def as_json(self) -> dict[str, Any]:
        """Return the record as plain JSON."""
        return plain(self)


def _row(reader: Reader, name: str) -> tuple[int, ...]:
    value = reader.pop(name)
    fits = isinstance(value, list) and 2 <= len(value) <= 256 and all(is_count(item, _MOST_VOXELS) for item in value)
    return reader.take(name, "a list of voxel counts", fits, tuple(value) if fits else ())
