"""A service with its web application, and browsers without scripts that look at it in this process."""

import asyncio
import html
import re
import socket
import threading
import time

import httpx
import uvicorn
from houses import SOUND, cheap
from places import ROOT, Site, spec

from service.cases import coordinator
from service.clock import now
from service.identity.local import Local
from service.identity.principal import Principal
from service.identity.records import Records
from service.web.app import application
from service.web.dashboard import Front, routes
from service.web.served import Served

#: Texts that would be markup, scripts or attributes if they were not escaped.
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7*7 }}"


class Office:
    """A service with its pages, and browsers of those who have accounts."""

    def __init__(self, desk, folder, clock=None, bell=None, **front):
        self.desk, self.folder, self.clock = desk, folder, clock or now
        self.local = Local(Records(folder / "identity.sqlite"), self.clock, cheap())
        self.front = Front(desk, self.local, bell, **front)
        self.app = application(Served(desk, self.local, local=self.local, bell=bell), routes(self.front))
        self.subs = {"ada": self.local.accounts.first_administrator("ada", SOUND).sub}
        for name, role in (("carl", "coordinator"), ("cleo", "coordinator"), ("vera", "viewer"), ("nobody", "")):
            self.subs[name] = self.local.accounts.add(name, {role} - {""}, SOUND).sub
        for name in ("north", "south", "east"):
            self.subs[name] = self.local.accounts.add(name, {"site"}, SOUND).sub

    def who(self, name):
        account = self.local.records.account(self.subs[name])
        return Principal(account.sub, account.roles, account.name)

    def make(self, by="carl", sites=("north", "south"), invited=True, **changes):
        """Make a run without its pages."""
        taking = [{"subject": self.subs[name], "site": name} for name in sites]
        raw = {**spec(), "viewers": [self.subs["vera"]], **changes, "participants": taking}
        run = coordinator.create(self.desk, self.who(by), raw)
        return coordinator.invite(self.desk, self.who(by), run.id) if invited else run

    def site(self, run, name, seed=0):
        made = Site(self.desk, self.folder / run, name, run, seed=seed)
        made.who = self.who(name)
        return made

    def begin(self, run, names=("north", "south")):
        """Let sites accept with their real handlers, and start."""
        made = [self.site(run, name, seed) for seed, name in enumerate(names)]
        for one in made:
            one.accept()
        coordinator.start(self.desk, ROOT, run)
        return made

    def browser(self, name="", **headers):
        made = Browser(self.app, headers)
        return made.login(name) if name else made


class Client:
    """Asks an application in this process, one request after the other, and keeps its cookies."""

    def __init__(self, app, base="http://testserver", headers=()):
        self.app, self.base, self.headers, self.cookies = app, base, dict(headers), httpx.Cookies()

    def get(self, path, **rest):
        return self.ask("GET", path, **rest)

    def post(self, path, **rest):
        return self.ask("POST", path, **rest)

    def ask(self, method, path, **rest):
        async def one():
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            told = {"transport": transport, "base_url": self.base, "headers": self.headers, "cookies": self.cookies}
            async with httpx.AsyncClient(**told) as client:
                answer = await client.request(method, path, **rest)
                self.cookies = client.cookies
                return answer

        return asyncio.run(one())


class Browser:
    """What a browser does without scripts: it keeps cookies, and sends forms with what their pages held."""

    def __init__(self, app, headers=None, base="http://testserver"):
        self.client = Client(app, base, headers or {})

    def login(self, name, password=SOUND):
        answer = self.send("/login", name=name, password=password)
        assert answer.status_code == 303, answer.text
        return self

    def get(self, path, status=200):
        answer = self.client.get(path)
        assert answer.status_code == status, (answer.status_code, answer.text[:2000])
        return answer

    def follow(self, answer):
        assert answer.status_code == 303, (answer.status_code, shown(answer))
        return self.get(answer.headers["location"])

    def stamp(self, path="/password"):
        return stamp_of(self.client.get(path).text)

    def send(self, path, page=None, **fields):
        """Send a form as the page that has it does."""
        told = {"stamp": self.stamp(page or path), **fields}
        return self.client.post(path, data={name: value for name, value in told.items() if value is not None})


class Door:
    """An application on a port of this machine, in a thread."""

    def __init__(self, app, port=0):
        self.door = socket.socket()
        self.door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.door.bind(("127.0.0.1", port))
        self.port = self.door.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, args=([self.door],), daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)

    def stop(self):
        self.server.should_exit = True
        self.thread.join()
        self.door.close()


def stamp_of(text):
    found = re.search(r'name="stamp" value="([0-9a-f]*)"', text)
    return found[1] if found else ""


def shown(answer):
    """Return a page's text as a person reads it, tags taken out."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", answer.text)).split())


def fields_of(text):
    """Return what stands in the inputs, choices and texts of a page's forms."""
    found = {}
    for tag in re.findall(r"<input[^>]*>", text):
        told = dict(re.findall(r'([a-z-]+)="([^"]*)"', tag))
        if told.get("type") != "checkbox" or " checked" in tag:
            found[told.get("name")] = html.unescape(told.get("value", "on"))
    for name, body in re.findall(r'<textarea[^>]* name="([^"]*)"[^>]*>(.*?)</textarea>', text, re.S):
        found[name] = html.unescape(body)
    for name, body in re.findall(r'<select[^>]* name="([^"]*)"[^>]*>(.*?)</select>', text, re.S):
        found[name] = html.unescape(re.findall(r"<option(?: selected)?>([^<]*)", body)[0])
        found[name] = next(iter(re.findall(r"<option selected>([^<]*)", body)), found[name])
    return found
