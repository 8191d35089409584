"""A run behind the service: its application, its workers, and sites as `join` runs them, in an order that is drawn.

Requests go through the application itself; what is lost, late or said twice is so between a site and it. Nobody sleeps:
time passes when all wait. The oracle is COINSTAC's own course: the same sites in the same rounds give the same bits.
"""

import asyncio
import json
import random
import threading
from contextlib import closing
from dataclasses import replace
from types import SimpleNamespace

import httpx
from houses import House
from places import ANNA

from chaos import judge, null
from chaos.baton import Baton
from chaos.carrying import replaced
from chaos.crash import Crash, Killed, armed
from chaos.judge import Ended, Wrong
from chaos.scenario import CENTRE, Fault, Scenario, drawn
from computation.coinstac.carried import Carried
from computation.errors import MeshNetError
from computation.tracking import read
from service.cases import coordinator, reading
from service.client import joining, site
from service.client.address import Address
from service.client.backoff import Backoff
from service.client.bearer import Bearer
from service.client.credentials import Credentials
from service.client.joining import Asked
from service.client.link import Link
from service.store.memory import MemoryStore
from service.worker import Worker

#: What befalls a request of a site: it does not arrive, nobody hears the answer, it arrives twice, the service is busy,
#: the answer breaks off, the site dies before or after it; and the network is gone for six minutes.
REQUESTS = ("lost", "unheard", "twice", "busy", "broken", "dies", "died", "outage")
#: What befalls a node at a file operation.
FILES = ("kill", "full")
#: A night without power: longer than a step waits.
NIGHT = "night"
OUTAGE, DEADLINE, LEASE = 360.0, 600, 100


def drawn_here(seed):
    """Return the scenario of a seed, for the service."""
    dice, base = random.Random(f"{seed} at the service"), drawn(seed)
    # The service refuses masks, of which every site would have to be there.
    base = replace(base, settings={name: value for name, value in base.settings.items() if "secure" not in name})
    faults = []
    for _ in range(dice.randint(1, 10)):
        client = dice.choice((*base.sites, CENTRE))
        kinds = FILES if client == CENTRE else dice.choice((REQUESTS, REQUESTS, FILES, (NIGHT,)))
        step = dice.randint(0, 2 * base.settings["epochs"] + 2)
        faults.append(Fault(dice.choice(kinds), step, client, dice.randrange(1, 30)))
    # Nothing in the order of a set, which is another in every process.
    faults = sorted(set(faults), key=lambda one: (one.iteration, one.client, one.kind, one.number))
    return Scenario(seed, base.sites, base.settings, tuple(faults))


def judge_here(seed, folder):
    """Run a seed's scenario behind a service, and return how it ended; raises `Wrong`."""
    scenario = drawn_here(seed)
    with closing(Hospitals(scenario, folder)) as run:
        state, said = run.run()
        ended = run.ended
    away = _away(scenario)
    if state.state != "completed":
        if not away or not (state.reason == "quorum" or "lower 'quorum'" in state.detail):
            raise Wrong(f"{state.state} ({state.reason}: {state.detail}), although nobody was away for long")
        return Ended("stopped", f"{state.reason}: {state.detail}")
    if any(ended.values()):
        raise Wrong(f"sites ended with {ended}")
    course = judge.left_out(said)
    if course and not away:
        raise Wrong(f"left out {sorted(course)}, although nobody was away for long")
    clean = judge.platform(replace(scenario, faults=()), folder / "clean", course)
    wanted, found = clean.run()["model_digest"], said[-1]["model_digest"]
    if found != wanted:
        raise Wrong(f"ended in {found[:12]}; wanted {wanted[:12]} without {sorted(course)}")
    held = {name: said_last(run.folder / name) for name in scenario.sites}
    if set(held.values()) != {found}:
        raise Wrong(f"sites hold {held}; wanted {found}")
    return Ended("course" if course else "unbroken", found)


def _away(scenario):
    """Tell whether anybody may have been away for longer than a step waits: one outage alone is not so long."""
    kinds = [one.kind for one in scenario.faults]
    return NIGHT in kinds or kinds.count("outage") + [one.client for one in scenario.faults].count(CENTRE) > 1


def said_last(folder):
    """Return the digest of the model that a site was left with."""
    return [entry for entry in read(folder / "results" / "journal.jsonl") if entry["event"] == "round"][-1]["digest"]


class Hospitals:
    """One run of a scenario behind a service."""

    def __init__(self, scenario, folder):
        self.scenario, self.folder = scenario, folder
        self.dice = random.Random(f"{scenario.seed} on its way")
        self.house = House(folder / "service", MemoryStore())
        self.baton = Baton(self.dice, self.house.clock.forward)
        self.spent, self.requests = set(), dict.fromkeys(scenario.sites, 0)
        self.ended, self.crashes, self.outages = dict.fromkeys(scenario.sites), {}, {}
        self.tokens = {name: self._enrolled(name) for name in scenario.sites}
        self.loop = asyncio.new_event_loop()
        self.worker = None

    def _enrolled(self, name):
        account = self.house.local.accounts.add(name, {"site"}, "correct horse battery")
        self.house.subjects[name] = account.sub
        return self.house.local.accounts.add_credential(account.sub, name)[1]

    def close(self):
        self._end_worker()
        self.house.close()
        self.loop.close()

    def run(self):
        """Return the run as it ended, and what the centre said in every step."""
        desk, sites = self.house.desk, self.scenario.sites
        settings = {name: value for name, value in judge.inputs(self.scenario).items() if name != "data"}
        share = settings["quorum"]
        spec = {
            "name": "chaos",
            "settings": settings,
            "participants": [{"subject": self.house.subjects[name], "site": name} for name in sites],
            "quorum": max(1, round(share * len(sites))),
            "deadline": DEADLINE,
        }
        self.id = coordinator.create(desk, ANNA, spec).id
        coordinator.invite(desk, ANNA, self.id)
        clock = SimpleNamespace(time=self._wall, monotonic=lambda: self.baton.seconds, sleep=self._sleep)
        with replaced((site, "time", clock), (joining, "Pulse", _Quiet), (joining, "Carried", self._carried)):
            for name in sites:
                self.baton.start(name, lambda name=name: self._live(name))
            while self.baton.step():
                self._work()
        ended = reading.run(desk, ANNA, self.id)
        results = [desk.store.step(self.id, number).result for number in range(ended.step + 1)]
        return ended, [json.loads(one.message) for one in results if one is not None]

    # --- the service ------------------------------------------------------------------------------------------------

    def _work(self):
        """Start the run once all have accepted, and let a worker look, die and be replaced."""
        desk = self.house.desk
        run = reading.run(desk, ANNA, self.id)
        members = [one for one in desk.store.memberships(self.id) if one.role == "site"]
        if run.state == "inviting" and all(one.state == "accepted" for one in members):
            coordinator.start(desk, ANNA, self.id)
        if self.worker is None:
            self.worker = Worker(desk, self.folder / "work", lease=1000 * LEASE)
        faults = [one for one in self.scenario.at(CENTRE, run.step, *FILES) if one not in self.spent]
        step = desk.store.step(self.id, run.step)
        due = run.state == "running" and len(desk.store.updates(self.id, run.step)) == len(step.expected)
        fault = faults[0] if faults and due else None
        self.spent.update([fault] if fault else [])
        crash = Crash(fault.kind if fault else "none", fault.number if fault else 0, [str(self.folder / "work")])
        try:
            with armed(crash):
                published = self.worker.work(self.id)
            if published or reading.run(desk, ANNA, self.id).state != run.state:
                self.baton.wake()
        except Killed:
            self._end_worker()
            self.house.clock.forward(LEASE + 1)

    def _end_worker(self):
        if self.worker is not None:
            self.worker._closed.set()
            for centre in self.worker._warm.values():
                centre._carried.close()
            self.worker = None

    # --- a site -----------------------------------------------------------------------------------------------------

    def _live(self, name):
        """Be a site, over all its deaths."""
        while True:
            try:
                self.ended[name] = self._joined(name)
                return
            except Killed:
                self._disarmed(name)
                self.baton.rest(name, self.dice.uniform(0, 20))
            except MeshNetError as error:
                full = "full" in error.public or "No space left" in error.public
                self._disarmed(name)
                if not full:
                    self.ended[name] = error.public
                    return
                self.baton.rest(name, self.dice.uniform(0, 200))  # somebody makes room, and starts it again

    def _joined(self, name):
        asked = Asked("http://localhost:1", judge.made(name), self.folder / name, None, self.id, "cpu")
        address = Address.parse(asked.url)
        bearer = Bearer(address, lambda: Credentials(token=self.tokens[name]), lambda: self.baton.seconds)
        draws = random.Random(f"{self.scenario.seed}/{name}")
        wait = {"sleep": lambda seconds: self.baton.rest(name, seconds), "clock": lambda: self.baton.seconds}
        with closing(Link(address, bearer, lambda: Backoff(draws, asked.patience, **wait))) as link:
            way = _Way(self, name)
            link._way = lambda url: way
            done = joining._Joining(asked, link, lambda text: None, null.make()).run(lambda found: True)
        self._disarmed(name)
        return "" if done else "no consent"

    def _wall(self):
        return 1_800_000_000 + self.baton.seconds

    def _sleep(self, seconds):
        self.baton.rest(threading.current_thread().name, seconds)

    def _carried(self, service, folder, client, **given):
        run = self

        class Mortal(Carried):
            def call(self, iteration, message, files=None, *, missed=False):
                run._arm(client, iteration - 1)
                return super().call(iteration, message, files, missed=missed)

        return Mortal(service, folder, client, **given)

    def _arm(self, name, step):
        """Let a crash strike a site from here to its next request."""
        self._disarmed(name)
        faults = [one for one in self.scenario.at(name, step, *FILES) if one not in self.spent]
        if faults:
            self.spent.add(faults[0])
            crash = Crash(faults[0].kind, faults[0].number, [str(self.folder / name)])
            self.crashes[name] = armed(crash)
            self.crashes[name].__enter__()

    def _disarmed(self, name):
        if name in self.crashes:
            self.crashes.pop(name).__exit__(None, None, None)

    # --- between a site and the service -----------------------------------------------------------------------------

    def ask(self, name, request):
        """Pass a request on, or not."""
        self._disarmed(name)
        self.baton.rest(name, self.dice.uniform(0, 0.2))
        self.requests[name] += 1
        fault = self._fault(name)
        kind = fault.kind if fault else ""
        if kind == NIGHT:
            self.baton.rest(name, DEADLINE * (1 + fault.number / 10))
        if kind == "dies":
            raise Killed
        if kind in ("lost", "outage"):
            raise httpx.ConnectError("lost", request=request)
        if kind == "busy":
            return httpx.Response(503, headers={"Retry-After": "1"}, request=request)
        answer = self._asked(request)
        # No news yet: of a result, or, once something is committed, of what comes of it.
        if answer.status_code in (201, 202) and (seconds := int(request.url.params.get("wait", 0))):
            self.baton.rest(name, seconds, light=True)
            answer = self._asked(request)
        if kind == "twice":
            answer = self._asked(request)
        if kind == "died":
            raise Killed
        if kind in ("unheard", "broken"):
            raise (httpx.ReadTimeout if kind == "unheard" else httpx.RemoteProtocolError)(kind, request=request)
        return answer

    def _fault(self, name):
        """Return what befalls this request: of the faults of the step in which the run stands, each once."""
        if self.baton.seconds < self.outages.get(name, 0.0):
            return Fault("lost", 0, name, 0)
        step = reading.run(self.house.desk, ANNA, self.id).step
        for fault in self.scenario.at(name, step, *REQUESTS, NIGHT):
            if fault not in self.spent:
                self.spent.add(fault)
                if fault.kind == "outage":
                    self.outages[name] = self.baton.seconds + OUTAGE
                return fault
        return None

    def _asked(self, request):
        """Ask the application, which waits for nothing: time stands still meanwhile."""
        url = request.url.copy_remove_param("wait")
        copy = httpx.Request(request.method, url, headers=request.headers, content=request.read())

        async def one():
            answer = await httpx.ASGITransport(self.house.app).handle_async_request(copy)
            return answer.status_code, answer.headers, await answer.aread()

        status, headers, content = self.loop.run_until_complete(one())
        return httpx.Response(status, headers=headers, stream=httpx.ByteStream(content), request=request)


class _Way(httpx.BaseTransport):
    """The way from one site to the service."""

    def __init__(self, run, name):
        self.run, self.name = run, name

    def handle_request(self, request):
        return self.run.ask(self.name, request)


class _Quiet:
    """A site that does not say how it is: that would be said at any time."""

    def __init__(self, tell):
        self.status = lambda word: None

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        pass
