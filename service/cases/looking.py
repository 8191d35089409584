"""What pages look at: a run's published answers, its latest events, and what its sites brought."""

from __future__ import annotations

import json
from collections.abc import Iterator

from computation.wire.messages import JoinOffer
from service.cases.desk import Desk, seat
from service.identity.principal import Principal
from service.protocol import Event, Step
from service.protocol.identifiers import earliest

__all__ = ["joined", "latest", "published"]

#: Records that are read at once, and steps that are read one by one instead.
_PAGE, _FEW = 200, 64


def published(desk: Desk, who: Principal, id: str, first: int = 0) -> Iterator[Step]:
    """Yield the steps of a run that have a result, in order, from a number on.

    Few are read one by one: whoever has those before asks for the rest again and again.
    """
    newest = seat(desk, who, id).run.step
    if newest - first < _FEW:
        found = (desk.store.step(id, number) for number in range(max(0, first), newest + 1))
        yield from (step for step in found if step is not None and step.result is not None)
        return
    cursor = ""
    while True:
        steps, cursor = desk.store.steps(id, cursor, _PAGE)
        yield from (step for step in steps if step.number >= first and step.result is not None)
        if not cursor:
            return


def latest(desk: Desk, who: Principal, id: str, most: int) -> tuple[Event, ...]:
    """Return the last events of a run, newest first, without reading those of all its rounds."""
    run = seat(desk, who, id).run
    back = 1
    while True:
        step = desk.store.step(id, run.step - back) if run.step > back else None
        found = list(_since(desk, id, earliest(step.opened) if step else ""))
        if step is None or len(found) >= most:
            return tuple(found[::-1][:most])
        back *= 4


def _since(desk: Desk, id: str, after: str) -> Iterator[Event]:
    while True:
        found, after = desk.store.events(id, after, _PAGE)
        yield from found
        if len(found) < _PAGE:
            return


def joined(desk: Desk, who: Principal, id: str) -> dict[str, JoinOffer]:
    """Return what each site that counts brought to the join, for those who take part; for others nothing."""
    at = seat(desk, who, id)
    if at.undecided:
        return {}
    return {one.site: JoinOffer.parse(json.loads(one.message)) for one in desk.store.updates(id, 0)}
