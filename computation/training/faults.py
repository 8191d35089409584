"""What can go wrong in one round at one site, beyond an unreadable scan and a full device."""

from __future__ import annotations

from computation.errors import MeshNetError

__all__ = ["NotFiniteError"]


class NotFiniteError(MeshNetError):
    """A loss, a gradient or a step is NaN or infinite, so that nothing of this round may leave the site.

    Attributes
    ----------
    reason : str
        The word of the protocol with which the site skips the round.
    """

    reason = "not-finite"
