"""One exception hierarchy for the whole computation.

COINSTAC shows a failing site's error text to every other site, so each error has two halves: `public`, which names
what was seen, what was wanted and what to do, and never a path, subject id, voxel or traceback; and `private`, the
detail that stays in the site's own log.
"""

from __future__ import annotations

__all__ = [
    "ConsensusError",
    "ContributionError",
    "DeviceError",
    "IdentityError",
    "ImportScanError",
    "InfinitePayloadError",
    "MeshNetError",
    "MessageError",
    "ModelError",
    "PayloadError",
    "PeersError",
    "PrivacyError",
    "QuorumError",
    "ResumeError",
    "ScanError",
    "ServiceError",
    "SettingsError",
    "SimulatorError",
    "StoreError",
    "public_text",
    "unwritable",
]


class MeshNetError(Exception):
    """Anything this computation refuses to do.

    Parameters
    ----------
    public : str
        What every site may read: seen, wanted, what to do. Never a path, a subject id, a voxel or a traceback.
    private : str, optional
        What only the owner of the machine may read, such as the path or the scan's name.
    """

    def __init__(self, public: str, private: str = "") -> None:
        super().__init__(public, private)
        self.public = public
        self.private = private

    def __str__(self) -> str:
        return f"{self.public} [{self.private}]" if self.private else self.public


def public_text(error: BaseException) -> str:
    """Return what every site may read of an exception; of one that we did not write, not even its text."""
    return error.public if isinstance(error, MeshNetError) else f"unexpected {type(error).__name__}"


def unwritable(kind: str) -> str:
    """Return the public text for a folder (`output`, `transfer`) that takes no file."""
    return f"the {kind} folder is full or may not be written; free some space or mend its rights, then start again"


class SettingsError(MeshNetError):
    """A setting is unknown, of the wrong type, out of range, or differs between sites."""


class MessageError(MeshNetError):
    """The JSON half of a message does not follow the protocol."""


class PayloadError(MeshNetError):
    """The tensor half of a message is truncated, oversized, altered, misplaced or of another type, or finds no room."""


class InfinitePayloadError(PayloadError):
    """A payload is whole and from its sender, and holds values that are NaN or infinite."""


class ContributionError(MeshNetError):
    """A site's contribution must not be averaged; the message names the site."""


class ConsensusError(MeshNetError):
    """The sites no longer hold the same model; the message names those that differ."""


class QuorumError(MeshNetError):
    """Too few sites contributed for too long."""


class StoreError(MeshNetError):
    """A scan database is missing, unreadable, of another schema, or empty."""


class ScanError(MeshNetError):
    """One scan in a database cannot be used; training skips and counts it."""


class ImportScanError(MeshNetError):
    """One image or label cannot enter a database."""


class ModelError(MeshNetError):
    """An architecture or a model file is unknown, malformed or does not fit."""


class DeviceError(MeshNetError):
    """The requested computing device is not there or ran out of memory."""


class ResumeError(MeshNetError):
    """A restarted container finds no checkpoint from which the run could go on."""


class PrivacyError(MeshNetError):
    """What is asked for would tell more of a scan than the run's settings allow."""


class SimulatorError(MeshNetError):
    """A simulated consortium could not be started or did not finish."""


class PeersError(MeshNetError):
    """A run without a centre could not be started or did not finish."""


class ServiceError(MeshNetError):
    """The service refuses what was asked of it, or cannot do it now."""


class IdentityError(ServiceError):
    """Nobody knows who is asking: no token, or one that is malformed, unknown, expired or revoked."""
