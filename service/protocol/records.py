"""What is kept of a run, one frozen record for each kind of row; every store keeps the same ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from service.protocol import spec as specs
from service.protocol.spec import Spec

__all__ = [
    "ENDED",
    "PRESENCES",
    "Answer",
    "Event",
    "File",
    "Membership",
    "Phase",
    "Presence",
    "Record",
    "Result",
    "Run",
    "RunState",
    "Session",
    "Step",
    "StepState",
    "Stored",
    "Update",
    "Upload",
]

RunState = Literal["draft", "inviting", "running", "paused", "completed", "failed", "aborted"]
StepState = Literal["open", "aggregating", "published", "cancelled"]
Phase = Literal["join", "train", "finish", "done"]
#: States of a run that nothing leaves.
ENDED: tuple[RunState, ...] = ("completed", "failed", "aborted")
#: What a site may say of itself while it is busy.
PRESENCES = ("waiting", "preparing", "training", "validating", "uploading", "applying", "finished")


@dataclass(frozen=True)
class Run:
    """A run.

    Attributes
    ----------
    id : str
        Of RFC 9562, version 7.
    owner : str
        Subject of its coordinator.
    state : str
        One of `RunState`.
    spec, digest : str
        The spec's canonical text, and its SHA-256.
    created, changed : int
        When.
    step : int
        The newest step; -1 while it is a draft.
    rounds : int
        Rounds that the centre planned; 0 before the join.
    manifest : str
        Digest of the shapes that every payload of the run has; empty before the join.
    payload : int
        Bytes of each of them; 0 before the join.
    reason, detail : str
        A word and a sentence on why the run failed, was aborted or is paused.
    paused : int
        When it was paused; 0 unless it is.
    version : int
        Grows with every change.
    """

    id: str
    owner: str
    state: RunState
    spec: str
    digest: str
    created: int
    changed: int
    step: int = -1
    rounds: int = 0
    manifest: str = ""
    payload: int = 0
    reason: str = ""
    detail: str = ""
    paused: int = 0
    version: int = 0

    @property
    def wanted(self) -> Spec:
        """The spec as a record."""
        return specs.read(self.spec)

    @property
    def key(self) -> tuple[str, ...]:
        """By what the record is found."""
        return (self.id,)


@dataclass(frozen=True)
class Membership:
    """What somebody is in a run: there is one for everybody who may see it, its coordinator included.

    Attributes
    ----------
    run, subject : str
        Whose.
    role : str
        `coordinator`, `site` or `viewer`.
    site : str
        Name in the run; empty unless the role is `site`.
    state : str
        Of a site: `invited`, then `declined` or `accepted`; `inactive` while nobody waits for it; `left`, `removed`.
        Of others `accepted`.
    consent : str
        Digest of the spec that the site accepted.
    invited, answered : int
        When.
    missed : int
        Steps in a row that it missed.
    version : int
        Grows with every change.
    """

    run: str
    subject: str
    role: Literal["coordinator", "site", "viewer"]
    state: Literal["invited", "accepted", "declined", "inactive", "left", "removed"]
    site: str = ""
    consent: str = ""
    invited: int = 0
    answered: int = 0
    missed: int = 0
    version: int = 0

    @property
    def key(self) -> tuple[str, ...]:
        """By what the record is found."""
        return self.run, self.subject


@dataclass(frozen=True)
class Presence:
    """When a site was last heard of, and what it said it was doing: a word of `PRESENCES`."""

    run: str
    subject: str
    seen: int
    status: str

    @property
    def key(self) -> tuple[str, ...]:
        """By what the record is found."""
        return self.run, self.subject


@dataclass(frozen=True)
class File:
    """A file that travels: its plain name, and its content by size and SHA-256."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Stored(File):
    """A file of an update, and the blob that holds it."""

    key: str


@dataclass(frozen=True)
class Result:
    """What the centre answered to a step.

    Attributes
    ----------
    message : str
        Its message, as canonical JSON.
    files : tuple of File
        What travels with it; the blob of each is named by its content.
    papers : tuple of File
        What is for people, such as the report at the end; it may differ between two attempts at the same step.
    state : str
        Key of the blob from which a cold worker restores the centre; empty at the end.
    digest : str
        SHA-256 of message and files: what the next step's updates are based on.
    last : bool
        Whether the run has succeeded with it.
    published : int
        When.
    """

    message: str
    files: tuple[File, ...]
    papers: tuple[File, ...]
    state: str
    digest: str
    last: bool
    published: int


@dataclass(frozen=True)
class Step:
    """One exchange between the sites and the centre; COINSTAC's iteration less one.

    Attributes
    ----------
    run : str
        Whose.
    number : int
        From 0, the join.
    state : str
        `open`, `aggregating`, `published`; or `cancelled`, where the run ended before.
    phase : str
        Of the sites' messages: `join`, `train`, then `finish` with the last counts, and `done`.
    round : int
        That the messages are of; 0 unless the phase is `train`.
    model : str
        Digest of the model that they must be computed on; empty at the join.
    base : str
        Digest of the result of the step before; empty at the join.
    expected : tuple of str
        Sites that may commit, sorted.
    opened : int
        When.
    deadline : int
        When it is closed without those that are missing; 0 is never: a join waits for its coordinator.
    extended : int
        How often the deadline was moved for want of a quorum.
    owner : str
        Worker that has claimed it; empty while open.
    attempt : int
        Which claim that is, from 1; a worker whose attempt is not the latest can publish nothing.
    lease : int
        Until when the claim holds.
    frozen : tuple of (str, str)
        Site and digest of each update that counts, sorted: fixed by the first claim.
    result : Result or None
        Once published.
    version : int
        Grows with every change, and with every change of the run or its members that decides who may commit.
    """

    run: str
    number: int
    phase: Phase
    expected: tuple[str, ...]
    opened: int
    state: StepState = "open"
    round: int = 0
    model: str = ""
    base: str = ""
    deadline: int = 0
    extended: int = 0
    owner: str = ""
    attempt: int = 0
    lease: int = 0
    frozen: tuple[tuple[str, str], ...] = ()
    result: Result | None = None
    version: int = 0

    @property
    def key(self) -> tuple[str, ...]:
        """By what the record is found; numbers sort as texts."""
        return self.run, f"{self.number:010d}"

    @property
    def active(self) -> bool:
        """Whether there is something left to do about it."""
        return self.state in ("open", "aggregating")


@dataclass(frozen=True)
class Upload:
    """Room that a site reserved for one file of one step.

    Attributes
    ----------
    run, step, site, subject : str, int, str, str
        Whose.
    id : str
        Of the upload.
    file : Stored
        What was announced, and where it goes.
    expires : int
        Until when it may be sent.
    """

    run: str
    step: int
    site: str
    subject: str
    id: str
    file: Stored
    expires: int

    @property
    def key(self) -> tuple[str, ...]:
        """By what the record is found."""
        return self.run, f"{self.step:010d}", self.site, self.id


@dataclass(frozen=True)
class Update:
    """What a site committed to a step; there is at most one, and it never changes.

    Attributes
    ----------
    run, step, site, subject : str, int, str, str
        Whose.
    message : str
        Canonical JSON.
    files : tuple of Stored
        What came with it, sorted by name.
    digest : str
        SHA-256 of base, message and files' names and contents: equal for equal commits.
    committed : int
        When.
    """

    run: str
    step: int
    site: str
    subject: str
    message: str
    files: tuple[Stored, ...]
    digest: str
    committed: int

    @property
    def key(self) -> tuple[str, ...]:
        """By what the record is found."""
        return self.run, f"{self.step:010d}", self.site


@dataclass(frozen=True)
class Event:
    """A line of a run's audit trail; it holds no token, path or subject.

    Attributes
    ----------
    run, id : str
        Whose; ids sort by time.
    at : int
        When.
    kind : str
        A word of a fixed vocabulary; see `service.cases`.
    who : str
        A site's name, `coordinator`, `administrator` or `service`.
    step : int
        That it is about; -1 where none.
    detail : mapping
        Plain JSON values.
    """

    run: str
    id: str
    at: int
    kind: str
    who: str
    step: int = -1
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, ...]:
        """By what the record is found."""
        return self.run, self.id


@dataclass(frozen=True)
class Answer:
    """What was done for an idempotency key, so that asking again does nothing again.

    Attributes
    ----------
    subject, route, name : str
        Who asked for what, under which key.
    body : str
        Digest of what was asked.
    outcome : str
        Id of what was made.
    expires : int
        When it may be forgotten.
    """

    subject: str
    route: str
    name: str
    body: str
    outcome: str
    expires: int

    @property
    def key(self) -> tuple[str, ...]:
        """By what the record is found."""
        return self.subject, self.route, self.name


@dataclass(frozen=True)
class Session:
    """A browser's, of somebody who signed in at a user pool; it belongs to no run.

    Attributes
    ----------
    id : str
        SHA-256 of the token that the browser has.
    subject : str
        Who signed in.
    sealed : str
        The pool's own tokens; only the browser's opens them.
    made, expires : int
        When it began, and when it ends.
    version : int
        Counts its changes.
    """

    id: str
    subject: str
    sealed: str = field(repr=False)
    made: int
    expires: int
    version: int = 0

    @property
    def key(self) -> tuple[str, ...]:
        """By what the record is found."""
        return (self.id,)


Record = Run | Membership | Presence | Step | Upload | Update | Event | Answer | Session
