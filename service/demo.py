"""`coinstac-meshnet service demo`: two sites made from a brain template take part in a run of the service beside it."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from computation.coinstac.compspec import inputspec
from computation.errors import ServiceError, unwritable
from computation.federation.keys import VARIABLE as KEY
from computation.isolation import variables
from computation.orphans import die_with_parent
from computation.settings import Member, options
from computation.terminal import say
from service.asking import written
from service.cases import coordinator, reading
from service.cases.desk import Desk
from service.client.address import Address
from service.identity.principal import Principal
from service.place import Place
from service.protocol import Run
from sqlite_fixtures.build import build

__all__ = ["demo"]

_SITES = ("local0", "local1")
#: Seconds that the two sites may take until they have accepted.
_PATIENCE = 120.0


def demo(options: argparse.Namespace) -> None:
    """Build two sites, invite them, start them, and start their run.

    Raises
    ------
    ServiceError
        If the data folder has no administrator, or a site fails.
    MeshNetError
        If the demo's scans cannot be made.
    """
    address, place = Address.parse(options.url), Place(options.data)
    place.expect_founded()
    desk, who = place.desk(place.bell()), _administrator(place)
    say("building the two demo sites from a template; they are not people")
    try:
        build(options.output / "sites")
    except OSError as error:
        raise ServiceError(unwritable("output"), str(error)) from error
    subjects = {site: _enrolled(place, site, options.output, address) for site in _SITES}
    run = coordinator.invite(desk, who, coordinator.create(desk, who, _spec(subjects)).id)
    with ExitStack() as stack:
        joined = [stack.enter_context(_joined(site, run, options.output, address)) for site in _SITES]
        _start(desk, who, run, joined)
        say(f"the run has begun; watch it at {address.base}/runs/{run.id}")
        if any(one.wait() for one in joined):
            raise ServiceError("a site of the demo has failed; it said why above")
    say(f"the run is over; each site's page is in {options.output}/, in SITE/results/index.html")


def _administrator(place: Place) -> Principal:
    found = place.accounts().administrators
    if not found:
        raise ServiceError(f"the service has no administrator; make one first: {place.founding}")
    return Principal(found[0].sub, found[0].roles, found[0].name)


def _enrolled(place: Place, site: str, output: Path, address: Address) -> str:
    """Give a demo site an account, if it has none, and new credentials; return its subject."""
    accounts = place.accounts()
    account = accounts.records.account_named(site) or accounts.add(site, {"site"})
    for old in accounts.records.credentials(account.sub):
        if not old.revoked and old.label == "demo":
            accounts.records.revoke_credential(old.id)
    _, token = accounts.add_credential(account.sub, "demo")
    path = output / f"{site}.json"
    path.unlink(missing_ok=True)
    written(path, {"server": address.base, "token": token})
    return account.sub


def _spec(subjects: Mapping[str, str]) -> dict[str, object]:
    own = options(Member)
    settings = {name: one["value"] for name, one in inputspec()[0].items() if name not in own}
    members = [{"subject": subject, "site": site} for site, subject in subjects.items()]
    return {"name": "demo", "settings": settings, "participants": members, "quorum": len(members)}


def _joined(site: str, run: Run, output: Path, address: Address) -> subprocess.Popen[bytes]:
    data = output / "sites" / site / "simulatorRun" / "site.db"
    command = [sys.executable, "-m", "computation.cli", "join", address.base, "--run", run.id]
    command += ["--data", str(data), "--output", str(output / run.id / site)]
    command += ["--credentials", str(output / f"{site}.json"), "--consent", run.digest]
    environment = {**os.environ, **variables()}
    environment.pop(KEY, None)  # of one site: here there are several
    return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent())


def _start(desk: Desk, who: Principal, run: Run, joined: list[subprocess.Popen[bytes]]) -> None:
    """Start the run once both sites have accepted."""
    until = time.monotonic() + _PATIENCE
    while sum(one.membership.state == "accepted" for one in _sites(desk, who, run)) < len(joined):
        if time.monotonic() > until or any(one.poll() for one in joined):
            raise ServiceError("the demo's sites have not accepted; is `coinstac-meshnet serve` running at this URL?")
        time.sleep(0.2)
    coordinator.start(desk, who, run.id)


def _sites(desk: Desk, who: Principal, run: Run) -> list[reading.Member]:
    return [one for one in reading.members(desk, who, run.id) if one.membership.role == "site"]
