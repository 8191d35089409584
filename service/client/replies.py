"""What a service may say to a site, read by a fixed schema with limits.

A newer service may say more than is known here, so what is not known is left; what is known must be what it should.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from computation.errors import MessageError

__all__ = ["Invitation", "Linked", "Moment", "Told"]


@dataclass(frozen=True)
class Invitation:
    """A run, as its spec says; what a site is asked to take part in.

    Attributes
    ----------
    id, name, state : str
        Of the run.
    site, member : str
        What this site is called in it, and the state of its membership; empty where it is none.
    spec : mapping
        The spec.
    digest : str
        Of the spec; computed here, never taken over.
    """

    id: str
    name: str
    state: str
    site: str
    member: str
    spec: Mapping[str, Any]
    digest: str


@dataclass(frozen=True)
class Moment:
    """Where a run stands.

    Attributes
    ----------
    state, reason, detail : str
        Of the run, and why it ended.
    step : int
        The newest.
    open : bool
        Whether it takes commits.
    expected : bool
        Whether this site may commit to it.
    base : str
        Digest of the result that its updates answer.
    member : str
        State of this site's membership.
    mark : str
        Stands for all of that: who has seen it waits for another.
    """

    state: str
    reason: str
    detail: str
    step: int
    open: bool
    expected: bool
    base: str
    member: str
    mark: str


@dataclass(frozen=True)
class Linked:
    """A file of a result, and where to fetch it; or its bytes, where they came along."""

    name: str
    size: int
    sha256: str
    url: str = ""
    content: bytes | None = field(default=None, repr=False)

    def checked(self, content: bytes) -> bytes:
        """Return the file's bytes.

        Raises
        ------
        MessageError
            If they are others.
        """
        if len(content) != self.size or hashlib.sha256(content).hexdigest() != self.sha256:
            raise MessageError("a file of the run is not the one that the service announced; tell its administrator")
        return content


@dataclass(frozen=True)
class Told:
    """What the centre answered to a step.

    Attributes
    ----------
    message : mapping
        Plain JSON values.
    files : tuple of Linked
        What travels with it.
    digest : str
        Of both; computed here, never taken over.
    """

    message: Mapping[str, Any]
    files: tuple[Linked, ...]
    digest: str
