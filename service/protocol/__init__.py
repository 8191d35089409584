"""What a run is made of: records, the states they pass through, and the transitions between them; all of it pure.

Nothing here reads a clock, a store or a file. Times are whole milliseconds since 1970, UTC, by the server's clock.
"""

from service.protocol.canonical import canonical, digest_of
from service.protocol.identifiers import identifier
from service.protocol.records import (
    PRESENCES,
    Answer,
    Event,
    File,
    Membership,
    Presence,
    Record,
    Result,
    Run,
    Session,
    Step,
    Stored,
    Update,
    Upload,
)
from service.protocol.refusals import (
    Conflict,
    Forbidden,
    Gone,
    Malformed,
    Refusal,
    TooLarge,
    TooMany,
    Unknown,
)
from service.protocol.spec import Participant, Spec

__all__ = [
    "PRESENCES",
    "Answer",
    "Conflict",
    "Event",
    "File",
    "Forbidden",
    "Gone",
    "Malformed",
    "Membership",
    "Participant",
    "Presence",
    "Record",
    "Refusal",
    "Result",
    "Run",
    "Session",
    "Spec",
    "Step",
    "Stored",
    "TooLarge",
    "TooMany",
    "Unknown",
    "Update",
    "Upload",
    "canonical",
    "digest_of",
    "identifier",
]
