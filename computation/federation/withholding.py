"""Which voxel counts may leave a site: those of one person's scan are that person's tissue volumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from computation.tracking import Tracker
from computation.training.metrics import Counts

__all__ = ["Threshold"]


class Threshold:
    """Holds back the counts of a split of few scans, and counts of which two would differ by a few scans.

    Parameters
    ----------
    least : int
        Fewest scans whose counts may leave; 1 holds nothing back.
    labelled, voxels : mapping of int
        Labelled scans of the site in `valid` and `test`, and their voxels.

    Attributes
    ----------
    labelled, voxels : dict of int
        What the site says that it has: nothing of a split whose counts stay.
    first : dict of tuple of int
        Keys of the scans that could not be read when the counts of a split first left.
    """

    def __init__(self, least: int, labelled: Mapping[str, int], voxels: Mapping[str, int]) -> None:
        self.least, self._there = least, dict(labelled)
        self.labelled = {split: 0 if self.shut(split) else count for split, count in labelled.items()}
        self.voxels = {split: 0 if self.shut(split) else count for split, count in voxels.items()}
        self.first: dict[str, tuple[int, ...]] = {}

    def shut(self, split: str) -> bool:
        """Whether the site has scans for a split, and so few that nothing of them is counted."""
        return 0 < self._there[split] < self.least

    def tell(self, tracker: Tracker) -> None:
        """Note which splits are left out."""
        for split, count in self._there.items():
            if self.shut(split):
                text = (
                    f"split {split!r} has {_scans(count)}, fewer than setting 'min_scans', {self.least}: their voxel "
                    "counts do not leave this site, and it takes no part in that evaluation"
                )
                tracker.notice("withheld", text, split=split)

    def lack(self, split: str, counts: Counts) -> str:
        """Say why the counts of a split must stay; nothing where they may leave, which is then remembered.

        Two counts of one split over different scans would tell the difference's: so whatever scans were counted when
        they first left, only counts of the very same ones leave later.
        """
        if self.least <= 1:
            return ""
        if counts.scans < self.least:
            return f"only {_scans(counts.scans)} could be read, fewer than setting 'min_scans', {self.least}"
        if self.first.setdefault(split, counts.skipped) != counts.skipped:
            return "other scans could be read than when its counts first left, and the difference would be a few people"
        return ""

    def record(self) -> dict[str, list[int]]:
        """Return what a restarted site needs, as plain JSON."""
        return {split: list(keys) for split, keys in self.first.items()}

    def restore(self, record: Mapping[str, Sequence[int]]) -> None:
        """Go back to a recorded state."""
        self.first = {split: tuple(keys) for split, keys in record.items()}


def _scans(count: int) -> str:
    return f"{count} labelled scan{'s' * (count != 1)}"
