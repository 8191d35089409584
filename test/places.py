"""Runs of the service without a network: real handlers at the sites, real cases, a real worker."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qsl, urlsplit

import numpy as np
from consortium import SHORT, database

from computation import local
from computation.coinstac.carried import Carried
from computation.federation.origin import Charter
from computation.wire.messages import FinishOffer, JoinOffer, Plan, RoundOffer
from computation.wire.messages.seal import sealed
from computation.wire.payload import CONTRIBUTION, HEADER_BYTES, Payload, encode
from computation.wire.signing import Key
from service.cases import committing, coordinator, reading
from service.cases.committing import Content
from service.identity.principal import Principal
from service.place import Place

FILE = "__cx_contribution.bin"
ANNA = Principal("anna", frozenset({"coordinator"}))
ROOT = Principal("root", frozenset({"administrator"}))
EVE = Principal("eve", frozenset({"coordinator", "site", "viewer"}))


def who(name):
    return Principal(f"site-{name}", frozenset({"site"}))


def spec(sites=2, **changes):
    settings = {name: value for name, value in {**SHORT, **changes.pop("settings", {})}.items() if name != "data"}
    names = [f"local{index}" for index in range(sites)]
    return {
        "name": "a run",
        "settings": settings,
        "participants": [{"subject": f"site-{name}", "site": name} for name in names],
        **changes,
    }


def send(desk, run, number, name, content, principal, size=None, sha256=None):
    """Reserve an upload and send it to its URL."""
    sha256 = sha256 or hashlib.sha256(content).hexdigest()
    upload, signed = committing.reserve(desk, principal, run, number, name, size or len(content), sha256)
    query = dict(parse_qsl(urlsplit(signed.url).query, keep_blank_values=True))
    with desk.blobs.incoming(upload.file.key, query, desk.clock()) as incoming:
        incoming.write(content)
    return upload


class Site:
    """A site: COINSTAC's handler, and what a client of the service does around it."""

    def __init__(
        self, desk, folder: Path, name: str, run: str, *, seed=0, inline=True, make=local.create, scans=(2, 1, 1)
    ):
        self.desk, self.name, self.run, self.inline = desk, name, run, inline
        self.who = who(name)
        data = database(folder / "made" / name / "site.db", seed=seed, scans=scans)
        self.handler = Carried(make(), folder / "sites" / name, name, lent={"site.db": data})
        self.answers = {}

    def content(self, number, message, files):
        """Let the handler answer, and return what is to be committed."""
        answer = self.handler.call(number + 1, message, files)
        base = "" if number == 0 else reading.step(self.desk, self.who, self.run, number).base
        if self.inline:
            return Content(answer.output, base, inline=answer.files)
        sent = [send(self.desk, self.run, number, name, data, self.who).id for name, data in answer.files.items()]
        return Content(answer.output, base, sent)

    def accept(self):
        run = reading.run(self.desk, self.who, self.run)
        message = {**run.wanted.settings, "data": ["site.db"]}
        return committing.accept(self.desk, self.who, self.run, run.digest, self.content(0, message, {}))

    def published(self, number):
        """Return message and files of a published step."""
        result = reading.step(self.desk, self.who, self.run, number).result
        return json.loads(result.message), {
            file.name: reading.content(self.desk, self.who, self.run, number, file.name) for file in result.files
        }

    def prepare(self, number):
        """Compute what is to be committed to a step."""
        return self.content(number, *self.published(number - 1))

    def commit(self, number):
        return committing.commit(self.desk, self.who, self.run, number, self.prepare(number))


def begun(desk, folder, sites=2, *, changes=None, **options):
    """Make a run, let its sites accept, and start it."""
    run = coordinator.create(desk, ANNA, spec(sites, **(changes or {})))
    coordinator.invite(desk, ANNA, run.id)
    made = [Site(desk, folder, f"local{index}", run.id, seed=index, **options) for index in range(sites)]
    for one in made:
        one.accept()
    coordinator.start(desk, ANNA, run.id)
    return run.id, made


def go(desk, worker, run, sites, most=100):
    """Go on with a run to its end, one step after the other."""
    for _ in range(most):
        worker.work(run)
        now = reading.run(desk, ROOT, run)
        if now.state != "running":
            return now
        for one in sites:
            one.commit(now.step)
    raise AssertionError("the run did not end")


def digest(desk, run):
    """Return the digest of a run's final model."""
    step = reading.run(desk, ROOT, run).step
    return json.loads(reading.step(desk, ROOT, run, step).result.message)["model_digest"]


class Plain:
    """A site that computes nothing: it says what a site may say, with values from anywhere."""

    def __init__(self, desk, name, run):
        self.desk, self.name, self.run, self.who = desk, name, run, who(name)
        self.key = Key(hashlib.sha256(name.encode()).digest())

    def signed(self, message, charter="", data=None):
        """Return a message with the site's seal; whatever was changed of it before, its owner could."""
        message = {name: value for name, value in message.items() if name != "signature"}
        files = {} if data is None else {FILE: bytes(data[152:184]).hex().ljust(64, "0")}
        try:
            return sealed(message, self.key, self.name, charter, files)
        except (ValueError, OverflowError):  # what is no JSON nobody can sign
            return message

    @property
    def charter(self):
        """Digest of the run's plan."""
        return Charter.of(Plan.parse(json.loads(reading.step(self.desk, ROOT, self.run, 0).result.message))).digest

    def joins(self, **changes):
        run = reading.run(self.desk, ROOT, self.run)
        nothing = {"valid": 0, "test": 0}
        offer = JoinOffer(
            settings=dict(run.wanted.settings),
            classes=tuple(run.wanted.settings["classes"]),
            scans={"train": 1, **nothing},
            labelled=nothing,
            voxels=nothing,
            steps=1,
            preparation={"spacing": "1 mm"},
            device="cpu",
            versions={},
            key=self.key.public,
            nonce="ab" * 32,
        )
        return self.signed(replace(offer, **changes).as_json())

    def accept(self, **changes):
        digest = reading.run(self.desk, ROOT, self.run).digest
        return committing.accept(self.desk, self.who, self.run, digest, Content(self.joins(**changes)))

    def values(self, number, seed=0):
        run = reading.run(self.desk, ROOT, self.run)
        size = (run.payload - HEADER_BYTES) // 4
        return np.random.default_rng([number, seed, *self.name.encode()]).normal(size=size).astype("<f4")

    def payload(self, step, values, **changes):
        run = reading.run(self.desk, ROOT, self.run)
        shapes = changes.pop("manifest", None) or SimpleNamespace(digest=run.manifest)
        told = {"model": step.model, "site": self.name, "run": run.id, "round": step.round, "kind": CONTRIBUTION}
        return encode(Payload(**{**told, **changes}, manifest=shapes, values=values))

    def content(self, number, values=None, *, data=None, base=None, seed=0, **changes):
        """Return what this site has to say in a step."""
        step = reading.step(self.desk, ROOT, self.run, number)
        base = step.base if base is None else base
        if step.phase != "train":
            word = "evaluated" if step.phase == "finish" else "done"
            return Content(self.signed({**FinishOffer(word, step.model).as_json(), **changes}, self.charter), base)
        values = self.values(number, seed) if values is None else values
        data = self.payload(step, values) if data is None else data
        offer = RoundOffer(step.round, "ok", "", 1, 1.0, step.model).as_json()
        return Content(self.signed({**offer, **changes}, self.charter, data), base, inline={FILE: data})

    def commit(self, number, *args, **changes):
        return committing.commit(self.desk, self.who, self.run, number, self.content(number, *args, **changes))


#: A run of five rounds in which nothing is validated.
BARE = {"epochs": 5, "validate_every": 1000, "model": "meshnet-10x5"}


def plain(desk, sites=2, *, settings=None, **changes):
    """Make a run of sites that compute nothing, and start it."""
    run = coordinator.create(desk, ANNA, spec(sites, settings={**BARE, **(settings or {})}, **changes)).id
    coordinator.invite(desk, ANNA, run)
    made = [Plain(desk, f"local{index}", run) for index in range(sites)]
    for one in made:
        one.accept()
    coordinator.start(desk, ANNA, run)
    return run, made


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self):
        self.now = 1_700_000_000_000

    def __call__(self):
        return self.now

    def pass_(self, seconds):
        self.now += round(1000 * seconds)


def opened(data, bell=None):
    """Open the desk of an embedded service's folder."""
    place = Place(data)
    return place.desk(bell or place.bell())


def kinds(desk, run):
    """Return what happened in a run, word by word."""
    return [event.kind for event in desk.store.events(run, "", 1000)[0]]
