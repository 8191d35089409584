"""Why the service does not do what it was asked: each has a fixed code, which the web turns into a status."""

from __future__ import annotations

from typing import Any

from computation.errors import ServiceError

__all__ = ["Conflict", "Forbidden", "Gone", "Malformed", "Refusal", "TooLarge", "TooMany", "Unknown"]


class Refusal(ServiceError):
    """What was asked is refused.

    Parameters
    ----------
    code : str
        One word of a fixed vocabulary, for programs.
    public : str
        What was seen, what was wanted, what to do, for whoever asked.
    detail : object
        Plain JSON values that help a program to go on, such as the current step.
    """

    def __init__(self, code: str, public: str, **detail: Any) -> None:
        super().__init__(public)
        self.code, self.detail = code, detail


class Unknown(Refusal):
    """There is no such thing, or it is none of the caller's business; the two look the same (404)."""


class Forbidden(Refusal):
    """The caller may see it and may not do this to it (403)."""


class Conflict(Refusal):
    """It is not in the state in which this can be done, or something else was done before (409)."""


class Gone(Refusal):
    """It has ended for good, or what was to be used is too old (410)."""


class TooLarge(Refusal):
    """More bytes than anybody may send (413)."""


class Malformed(Refusal):
    """What was sent cannot be, whatever the state (422)."""


class TooMany(Refusal):
    """Too much at once; later it may go (429)."""
