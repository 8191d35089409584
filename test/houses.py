"""The whole service in this process, with somebody for each role; all answers are held against its description."""

import asyncio
import re
from contextlib import nullcontext

SOUND = "correct horse battery"


class Hand:
    """A clock that stands until it is moved; milliseconds, moved by seconds."""

    def __init__(self, now=1_800_000_000_000):
        self.now = now

    def __call__(self):
        return self.now

    def forward(self, seconds):
        self.now += int(1000 * seconds)


def cheap():
    """Return what keeps and checks passwords for real, at Argon2's least costs."""
    import argon2

    from service.identity.passwords import Passwords

    return Passwords(argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


class House:
    """The service, its accounts, and somebody for each role."""

    def __init__(self, folder, store):
        from service.bell import Bell
        from service.blobs.files import Files
        from service.cases.desk import Desk
        from service.identity.local import Local
        from service.identity.records import Records
        from service.web.app import application
        from service.web.served import Served

        self.clock, self.bell = Hand(), Bell()
        small = getattr(store, "shelf", None)
        together = getattr(store, "together", nullcontext)
        self.desk = Desk(store, Files(folder / "files", small=small), self.clock, self.bell, together=together)
        self.local = Local(Records(), self.clock, cheap())
        self.served = Served(self.desk, self.local, local=self.local, bell=self.bell)
        self.app = application(self.served)
        self.subjects, self.tokens = {}, {}
        self._enrol("ada", {"administrator", "coordinator"}, first=True)
        for name, role in (
            ("carl", "coordinator"), ("cleo", "coordinator"), ("vera", "viewer"),
            ("north", "site"), ("south", "site"), ("east", "site"),
        ):  # fmt: skip
            self._enrol(name, {role})

    def _enrol(self, name, roles, first=False):
        accounts = self.local.accounts
        made = accounts.first_administrator(name, SOUND) if first else accounts.add(name, roles, SOUND)
        self.subjects[name] = made.sub
        self.tokens[name] = self.local.login(name, SOUND).access

    def spec(self, sites=("north", "south"), **rest):
        participants = [{"subject": self.subjects[name], "site": name} for name in sites]
        return {"name": "tissue", "participants": participants, "viewers": [self.subjects["vera"]], **rest}

    def client(self, name="", **headers):
        return Client(self, self.tokens.get(name, name), headers)

    def close(self):
        self.local.records.close()


class Client:
    """Asks in this process, and refuses every answer that the description does not foresee."""

    def __init__(self, house, token, headers):
        self.house, self.headers = house, {**({"Authorization": f"Bearer {token}"} if token else {}), **headers}

    async def asks(self, method, path, *, body=None, checked=True, **rest):
        import httpx

        headers = {**self.headers, **rest.pop("headers", {})}
        transport = httpx.ASGITransport(self.house.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as client:
            rest = {**rest, **({"json": body} if body is not None else {})}
            answer = await client.request(method, path, **rest)
        if checked:
            described(method, httpx.URL(path).path, answer)
        return answer

    def __call__(self, method, path, **rest):
        return asyncio.run(self.asks(method, path, **rest))

    def get(self, path, **rest):
        return self("GET", path, **rest)

    def post(self, path, body=None, **rest):
        return self("POST", path, body=body, **rest)


def described(method, path, answer):
    """Hold an answer against the description."""
    from service.web import openapi
    from service.web.schemas import NAMED
    from service.web.shapes import fault

    assert answer.headers["x-request-id"] and answer.headers["x-content-type-options"] == "nosniff"
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json", answer.text
        assert fault(answer.json(), NAMED["Problem"], NAMED) is None
    operation = next((one for one in openapi.OPERATIONS if one.method == method and _matches(one.path, path)), None)
    if operation is None:
        others = (openapi.PATH, "/events/stream")
        assert answer.status_code in (404, 405) or path.endswith(others), f"{method} {path} is not described"
        return
    assert answer.status_code in openapi.statuses(operation), f"{method} {operation.path}: {answer.status_code}"
    if (schema := operation.answers.get(answer.status_code)) is not None:
        wrong = fault(answer.json(), schema, NAMED)
        assert wrong is None, f"{method} {operation.path}: {wrong}"
    elif answer.status_code < 400:
        assert not answer.content


def _matches(pattern, path):
    return re.fullmatch(re.sub(r"{\w+}", "[^/]+", pattern), path) is not None
