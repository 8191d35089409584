"""A site takes part in a run, from the credentials to the results in its folder; or goes on where it was."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from computation import local
from computation.coinstac.carried import Carried
from computation.coinstac.node import Service
from computation.errors import ServiceError
from service.client import credentials, remote
from service.client.address import Address
from service.client.backoff import Backoff
from service.client.bearer import Bearer
from service.client.journal import Begun, Journal
from service.client.layout import DATABASE, RESULTS, WORK
from service.client.link import Link
from service.client.pulse import Pulse
from service.client.replies import Invitation
from service.client.site import RunEnded, Site

__all__ = ["Asked", "join"]

#: Name under which the handler finds the model that a site brings.
_MODEL = "start"


@dataclass(frozen=True)
class Asked:
    """What whoever runs a site has asked for.

    Attributes
    ----------
    url : str
        Of the service.
    data : Path
        The scan database.
    output : Path
        For everything that the run leaves at this site; one folder for one run.
    credentials : Path or None
        File of the credentials; the environment where none is named.
    run : str
        Id of the run; empty for the only one that there is.
    device : str
        Where to compute.
    model : Path or None
        JSON of the exported model that the run starts from, if this site brings it.
    patience : float
        Seconds without a service after which to give up.
    """

    url: str
    data: Path
    output: Path
    credentials: Path | None = None
    run: str = ""
    device: str = "auto"
    model: Path | None = None
    patience: float = 86_400.0


def join(
    asked: Asked,
    consent: Callable[[Invitation], bool],
    told: Callable[[str], object] = lambda text: None,
    make: Callable[[], Service] = local.create,
) -> bool:
    """Take part in a run until it has ended.

    Parameters
    ----------
    asked : Asked
        What was asked for.
    consent : callable
        Asks a person whether this site takes part in a run; not again after a restart.
    told : callable
        Told in a sentence what a person wants to know.
    make : callable
        Makes the site's handler.

    Returns
    -------
    bool
        Whether the run was completed; False where there was no consent.

    Raises
    ------
    RunEnded
        If the run ended without a result, or goes on without this site.
    MeshNetError
        If this site cannot take part, or cannot go on now.
    """
    if not asked.data.is_file():
        raise ServiceError("there is no scan database of that name; import scans into one first", str(asked.data))
    address = Address.parse(asked.url)
    bearer = Bearer(address, lambda: credentials.read(asked.credentials))
    draws = random.Random(f"{asked.url}\0{asked.output}")
    with closing(Link(address, bearer, lambda: Backoff(draws, asked.patience), told)) as link:
        return _Joining(asked, link, told, make).run(consent)


class _Joining:
    def __init__(self, asked: Asked, link: Link, told: Callable[[str], object], make: Callable[[], Service]) -> None:
        self._asked, self._link, self._told, self._make = asked, link, told, make
        self._folder = asked.output / WORK

    def run(self, consent: Callable[[Invitation], bool]) -> bool:
        journal = Journal(self._folder)
        begun = journal.begun()
        found = self._invitation(begun)
        if begun is None:
            _expect_invited(found)
            if not consent(found):
                self._told("nothing was accepted, and nothing sent")
                return False
            self._folder.mkdir(parents=True, exist_ok=True)
            begun = Begun(found.id, found.site, found.spec.digest)
        self._expect_same(begun, found)
        with Carried(
            self._make(), self._folder, begun.site, output=self._asked.output / RESULTS, lent=self._lent()
        ) as carried:
            journal.begin(begun)
            self._work(found, carried, journal)
        return True

    def _invitation(self, begun: Begun | None) -> Invitation:
        wanted = self._asked.run
        if begun is not None and wanted not in ("", begun.run):
            raise ServiceError("the output folder is of another run; name another folder for this one", begun.run)
        if begun is not None or wanted:
            return remote.invitation(self._link, begun.run if begun else wanted)
        found = remote.find(self._link)
        if len(found) != 1:
            names = "; ".join(f"{one.id} {one.spec.name[:60]!r}" for one in found[:10])
            raise ServiceError(
                f"this site is invited to {len(found)} runs{f' ({names})' if names else ''}; wanted one: name it with "
                "--run, or ask the coordinator to invite this site"
            )
        return found[0]

    def _expect_same(self, begun: Begun, found: Invitation) -> None:
        if (begun.site, begun.spec) != (found.site, found.spec.digest):
            raise ServiceError("the run is not what this site consented to any more; tell its coordinator")

    def _lent(self) -> Mapping[str, Path]:
        model = self._asked.model
        models = {f"{_MODEL}{end}": model.with_suffix(end) for end in (".json", ".safetensors")} if model else {}
        return {DATABASE: self._asked.data, **models}

    def _inputs(self, found: Invitation) -> dict[str, Any]:
        return {**found.spec.settings, "data": list(self._lent()), "device": self._asked.device}

    def _work(self, found: Invitation, carried: Carried, journal: Journal) -> None:
        run = remote.RemoteRun(self._link, found.id)
        with Pulse(run.tell) as pulse:
            site = Site(run, carried, journal, self._inputs(found), self._told, pulse.status)
            site.join(found.spec.digest)
            self._told(f"taking part in {found.spec.name!r} as {found.site}; this can be stopped and started again")
            site.work()
            pulse.status("finished")
        self._told(f"the run is over; the results are in {RESULTS}/ of the output folder: begin with index.html")


def _expect_invited(found: Invitation) -> None:
    if found.member == "" or not found.site:
        raise ServiceError("these credentials are no site's of that run; ask its coordinator to invite this site")
    if found.member != "invited" and found.state != "completed":
        raise RunEnded(
            f"this site has {found.member} this run already, but not with this output folder; go on with the folder "
            "that it was joined with"
        )
