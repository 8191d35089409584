"""What can be wrong with one scan, as an enumeration that travels in counts and journals."""

from __future__ import annotations

from enum import Enum

from computation.errors import ScanError

__all__ = ["Fault", "ScanFault"]


class Fault(str, Enum):
    """Why a scan cannot be read; the value is the reason code that a journal shows."""

    MISSING = "block-missing"
    CHECKSUM = "checksum-mismatch"
    TRUNCATED = "block-truncated"
    CORRUPT = "block-corrupt"
    UNREADABLE = "database-unreadable"
    CHANGED = "database-changed"
    OUTSIDE = "outside-the-volume"
    UNLABELLED = "no-label"
    LABEL = "label-outside-classes"
    FINITE = "voxels-not-finite"


_TEXT = {
    Fault.MISSING: "a block of a scan is missing from the database; import the scans again",
    Fault.CHECKSUM: "a scan does not match its stored checksum; restore the database or import again",
    Fault.TRUNCATED: "a block of a scan has another size than its place in the volume wants; import the scans again",
    Fault.CORRUPT: "a block of a scan cannot be decompressed; restore the database or import again",
    Fault.UNREADABLE: "the scan database could not be read to the end; restore the file or import again",
    Fault.CHANGED: "the scan database was written to while it was in use; start again, with the same scans in it",
    Fault.OUTSIDE: "a sub-volume was asked for that does not lie inside the scan; choose a smaller patch_size",
    Fault.UNLABELLED: "a scan has no label map, but one was asked for; import it with a label",
    Fault.LABEL: "a label map holds values outside the class list; import it again with the right label set",
    Fault.FINITE: "a scan holds voxels that are NaN or infinite; repair the image and import it again",
}


class ScanFault(ScanError):
    """A scan that cannot be used, with its reason code.

    Parameters
    ----------
    fault : Fault
        The reason; it decides the public text.
    private : str
        The scan, the block, the checksums: for the owner of the machine only.
    """

    def __init__(self, fault: Fault, private: str) -> None:
        super().__init__(_TEXT[fault], private)
        self.fault = fault
