"""The numbers of a run's rounds from the centre's published answers: each answer is read once."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace

from computation.errors import MessageError
from computation.tracking import RoundNumbers
from computation.wire.messages import Plan, Results, Verdict
from service.cases.desk import Desk
from service.cases.looking import published
from service.identity.principal import Principal
from service.protocol import File, Run, Step

__all__ = ["Course", "Courses"]

#: Runs whose numbers are kept at hand.
_MOST = 16


@dataclass(frozen=True)
class Course:
    """What was published of a run so far.

    Attributes
    ----------
    steps : int
        Steps that are in it.
    rounds : tuple of RoundNumbers
        The training rounds, in order.
    plan : Plan or None
        The centre's answer to the join.
    results : Results or None
        What the run came to.
    files : mapping of str to (int, File)
        The final files by name, and the step that published each.
    sites : tuple of str
        Sites that ended with the final model.
    at : int
        When the last was published.
    """

    steps: int = 0
    rounds: tuple[RoundNumbers, ...] = ()
    plan: Plan | None = None
    results: Results | None = None
    files: tuple[tuple[int, File], ...] = ()
    sites: tuple[str, ...] = ()
    at: int = 0


class Courses:
    """Keeps the courses of the runs that were looked at lately; any thread may ask."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._kept: OrderedDict[str, Course] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, who: Principal, run: Run) -> Course:
        """Return a run's course; whoever may not see the run learns nothing."""
        with self._lock:
            known = self._kept.get(run.id, Course())
        grown = _grown(known, self._desk, who, run)
        with self._lock:
            self._kept[run.id] = grown
            self._kept.move_to_end(run.id)
            while len(self._kept) > _MOST:
                self._kept.popitem(last=False)
        return grown


def _grown(course: Course, desk: Desk, who: Principal, run: Run) -> Course:
    """Return a course with what was published since."""
    rounds = list(course.rounds)
    for step in published(desk, who, run.id, course.steps):
        course = _with(course, step, rounds)
    return replace(course, rounds=tuple(rounds)) if len(rounds) > len(course.rounds) else course


def _with(course: Course, step: Step, rounds: list[RoundNumbers]) -> Course:
    assert step.result is not None
    message, before = json.loads(step.result.message), course.at
    course = replace(course, steps=step.number + 1, at=step.result.published)
    try:
        if step.phase == "join":
            return replace(course, plan=Plan.parse(message))
        if step.phase == "train":
            rounds.append(_numbers(Verdict.parse(message), step, before))
            return course
        files = (*course.files, *((step.number, file) for file in (*step.result.files, *step.result.papers)))
        if step.phase == "finish":
            return replace(course, results=Results.parse(message), files=files)
        return replace(course, files=files, sites=tuple(site for site, _ in step.frozen))
    except MessageError:
        return course  # of another version: what it says stays unknown, and the page goes on


def _numbers(verdict: Verdict, step: Step, before: int) -> RoundNumbers:
    assert step.result is not None
    return RoundNumbers(
        round=verdict.round,
        digest=verdict.model,
        loss=verdict.loss,
        sites=len({*verdict.counted, *verdict.skipped}),
        counted=verdict.counted,
        skipped=verdict.skipped,
        void=verdict.void,
        seconds=(step.result.published - before) / 1000 if before else 0.0,
        validated=verdict.validated,
        dice=verdict.dice,
        missing=verdict.missing,
        clipped=verdict.clipped,
        best=verdict.best,
    )
