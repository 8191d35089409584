"""A site's course: take over what was published, answer the open step, until the run has ended.

It is at every moment a function of two things: how far the site's handler has come, and where the run stands. So there
is nothing to mend after a kill, a lost network or a night without power but to look again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

from computation.coinstac.carried import Answer, Carried
from computation.errors import ConsensusError, ServiceError
from service.client.journal import Journal, Pending
from service.client.link import Refused
from service.client.replies import Moment, Told
from service.protocol.records import ENDED

__all__ = ["Run", "RunEnded", "Site"]

#: Seconds that the service may hold a question for a result.
_WAIT = 20
#: Seconds of the pauses where a service answers at once that there is nothing to do: the first, and the longest.
_SHORTEST, _LONGEST = 0.001, 3.0
#: Seconds after its commit in which a site is sure that the step after it is still open when it is published.
_FRESH = 30.0
#: Refusals of a commit after which the answer is not needed any more, and after which it is sent again later.
_CLOSED, _LATER = ("round_closed", "other_content"), ("run_paused", "deadline_passed", "not_open", "busy")
_AWAY = ("inactive", "not_expected")


class RunEnded(ServiceError):
    """The run has ended without a result, or goes on without this site."""


class Run(Protocol):
    """What a site asks of a run; `remote.RemoteRun` asks a service."""

    def moment(self) -> Moment:
        """Return where the run stands."""
        ...

    def accept(self, consent: str, answer: Pending) -> None:
        """Consent to the spec of this digest, with the answer to the join."""
        ...

    def commit(self, answer: Pending, wait: int = 0) -> Told | None:
        """Commit an answer, once more is as good as once; return what is published of its step, as `told` does."""
        ...

    def told(self, step: int, wait: int = 0) -> Told | None:
        """Return what was published of a step, as soon as it is; None if it is not after so many seconds."""
        ...

    def file(self, step: int, told: Told, name: str) -> bytes:
        """Return a file of it, checked."""
        ...

    def rejoin(self) -> None:
        """Come back after having been away for long."""
        ...


class Site:
    """One site in one run.

    Parameters
    ----------
    run : Run
        The run.
    carried : Carried
        The site's handler; what it has answered decides what is next.
    journal : Journal
        Of the answers.
    inputs : mapping
        What the owner and the member set: the first message.
    told : callable
        Told in a sentence what a person wants to know.
    status : callable
        Told in a word of `PRESENCES` what the site is doing.
    """

    def __init__(
        self,
        run: Run,
        carried: Carried,
        journal: Journal,
        inputs: Mapping[str, Any],
        told: Callable[[str], object] = lambda text: None,
        status: Callable[[str], object] = lambda word: None,
    ) -> None:
        self._run, self._carried, self._journal, self._inputs = run, carried, journal, inputs
        self._told, self._status = told, status
        self._done = -1  # the newest step of which nothing more has to be sent
        self._kept: tuple[int, Told] | None = None  # the result that was seen last

    def join(self, consent: str) -> None:
        """Answer the join, and consent with it; at once if that has been done.

        Raises
        ------
        Refused
            If the service takes no consent any more, or the scans are not what the run is for.
        MeshNetError
            If this site cannot take part.
        """
        if self._answered > 0:
            return
        self._status("preparing")
        self._run.accept(consent, self._answer(0))
        self._done = 0

    def work(self) -> None:
        """Take part until the run has ended, and leave all results in the output folder.

        Raises
        ------
        RunEnded
            If it ended without a result, or goes on without this site.
        MeshNetError
            If this site cannot go on; started again, it goes on from where it stands.
        """
        pause = _SHORTEST
        while True:
            at = self._run.moment()
            _refuse_the_end(at)
            if self._go_on(at):
                pause = _SHORTEST
            elif at.state == "completed":
                return
            else:
                pause = self._wait(at, pause)

    def _wait(self, at: Moment, pause: float) -> float:
        """Wait until there may be something to do; return how long to pause the next time."""
        self._status("waiting")
        asked = time.monotonic()
        if self._done >= self._answered and self._published(at.step, _WAIT) is not None:
            return _SHORTEST
        if time.monotonic() - asked < 1.0:
            time.sleep(pause)
        return min(2 * pause, _LONGEST)

    def _published(self, step: int, wait: int) -> Told | None:
        """Return what was published of a step; nothing if it is not yet, or will never be, as the next look says."""
        try:
            return self._run.told(step, wait)
        except Refused as why:
            if why.status != 410:
                raise
            return None

    @property
    def _answered(self) -> int:
        """The newest step that the handler has answered; -1 before the join."""
        return self._carried.iteration - 1

    def _go_on(self, at: Moment) -> bool:
        """Do the next thing; tell whether there was one."""
        if self._answered < at.step:
            return self._next(at)
        if self._answered > at.step:
            raise ServiceError("the service has forgotten steps of this site; tell its administrator")
        if not at.open:
            self._done = self._answered
        if self._done >= self._answered:
            return False
        return self._commit(self._answer(self._answered))[0] != "later"

    def _next(self, at: Moment) -> bool:
        """Answer the step after the last; only take over what was published if the others have closed it."""
        step = self._answered + 1
        missed = step < at.step or not at.open
        if not missed and (not at.expected or at.member == "inactive"):
            self._run.rejoin()
            self._told("this site was away for long and has come back into the run")
            return False
        if missed:
            self._status("applying")
            self._call(step, missed=True)
            self._done = step
            return True
        self._expect_base(at, self._said(step - 1).digest)
        return self._contribute(step)

    def _contribute(self, step: int) -> bool:
        """Answer the open step, and those after it for as long as this site is among the first to hear of them."""
        while True:
            self._status("training")
            answer, since = self._answer(step), time.time()
            outcome, said = self._commit(answer, _WAIT)
            if outcome != "sent":
                return outcome == "closed"
            # The clock of the wall: it goes on while a machine sleeps, and then the step after may long be closed.
            if said is None or said.last or not 0 <= time.time() - since < _FRESH:
                return True
            self._kept = step, said
            step += 1

    def _answer(self, step: int) -> Pending:
        """Return the answer to a step: the one that was written down, or a computed one, written down."""
        if self._answered == step and (kept := self._journal.pending(step)) is not None:
            return kept
        answer, base = self._call(step)
        pending = Pending(step, base, answer.output, answer.files)
        self._journal.keep(pending)
        return pending

    def _call(self, step: int, *, missed: bool = False) -> tuple[Answer, str]:
        """Call the handler with what was published before a step; return its answer, and the digest of that."""
        if step == 0:
            return self._carried.call(1, self._inputs), ""
        said = self._said(step - 1)
        files = {file.name: self._run.file(step - 1, said, file.name) for file in said.files}
        return self._carried.call(step + 1, said.message, files, missed=missed), said.digest

    def _said(self, step: int) -> Told:
        """Return what was published of a step that is over."""
        if self._kept is None or self._kept[0] != step:
            said = self._run.told(step)
            if said is None:
                raise ServiceError(f"the service has no result of step {step}, which is over; tell its administrator")
            self._kept = step, said
        return self._kept[1]

    def _expect_base(self, at: Moment, base: str) -> None:
        if at.base != base:
            raise ConsensusError("the service's open step answers another result than this site holds; join anew")

    def _commit(self, answer: Pending, wait: int = 0) -> tuple[Literal["sent", "closed", "later"], Told | None]:
        """Send an answer; say whether it counts, is not needed any more, or has to be sent again, and its result."""
        self._status("uploading")
        try:
            said = self._run.commit(answer, wait)
        except Refused as why:
            return self._refused(why, answer), None
        self._done = answer.step
        return "sent", said

    def _refused(self, why: Refused, answer: Pending) -> Literal["closed", "later"]:
        if why.code in _CLOSED:
            if why.code == "round_closed":
                self._told(f"step {answer.step} was closed before this site's answer came; going on with the next")
            self._done = answer.step
            return "closed"
        if why.code in _AWAY:
            self._run.rejoin()
        elif why.code not in _LATER and why.status != 410:  # what has ended, and why, says the next look
            raise why
        return "later"


def _refuse_the_end(at: Moment) -> None:
    if at.member in ("declined", "left", "removed"):
        raise RunEnded(f"this site has {_WORDS[at.member]} the run; ask its coordinator")
    if at.state in ENDED and at.state != "completed":
        why = ": ".join(filter(None, (at.reason, at.detail)))
        raise RunEnded(f"the run is {at.state}{f' ({why})' if why else ''}")


_WORDS = {"declined": "declined", "left": "left", "removed": "been taken out of"}
