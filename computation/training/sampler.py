"""The batches that the settings call for."""

from __future__ import annotations

from computation.errors import ScanError
from computation.scans.drawing.augment import NONE, USUAL
from computation.scans.drawing.sampling import Batch, PatchSampler
from computation.scans.store.opening import Store
from computation.settings import Settings

__all__ = ["NoScans", "patch_sampler", "trains"]

#: Share of the training scans that may be unreadable before a site gives up.
_MOST_BAD = 0.5


class NoScans:
    """The sampler of a site that only evaluates: there is nothing to draw."""

    samples = 0
    steps_per_epoch = 0

    def batch(self, step: int) -> Batch:
        """Refuse to draw; raises `ScanError`."""
        raise ScanError("there is no scan to train on; import some with split 'train'")


def trains(store: Store) -> bool:
    """Tell whether a store has a labelled scan to train on."""
    return any(scan.labelled for scan in store.scans("train"))


def patch_sampler(store: Store, settings: Settings, *, site: str, batch_size: int | None = None) -> PatchSampler:
    """Return the sampler of a store's training scans.

    Parameters
    ----------
    store : Store
        The scans.
    settings : Settings
        Side, number and place of sub-volumes, augmentation and seed.
    site : str
        Its name: no two sites draw the same random numbers.
    batch_size : int, optional
        Sub-volumes in a batch, other than the settings'.

    Raises
    ------
    SettingsError
        If flips would give the classes of one side to the other.
    StoreError
        If there is no scan to train on.
    """
    return PatchSampler(
        store,
        "train",
        patch_size=None if settings.whole_volume else settings.patch_size,
        batch_size=batch_size or settings.batch_size,
        seed=settings.seed,
        site=site,
        place=settings.sampling,
        augmentation=USUAL if settings.augmentation == "usual" else NONE,
        most_bad=_MOST_BAD,
    )
