"""Requests that wait: woken by what happens, let go when the time is up, and none of them holds a thread."""

import asyncio
import threading
import time
from dataclasses import replace

import pytest

from service.cases import coordinator
from service.identity.principal import Principal
from service.web.app import application
from service.web.waiting import Waiting


@pytest.fixture
def run(house):
    carl = house.client("carl")
    made = carl.post("/v1/runs", house.spec()).json()["id"]
    carl.post(f"/v1/runs/{made}/invite")
    return made


async def _after(seconds, ask):
    await asyncio.sleep(seconds)
    return await ask


def test_a_change_wakes_whoever_waits_for_one(house, run):
    north, carl = house.client("north"), house.client("carl")
    tag = north.get(f"/v1/runs/{run}/round").headers["etag"]

    async def course():
        asked = north.asks("GET", f"/v1/runs/{run}/round", params={"wait": 25}, headers={"If-None-Match": tag})
        change = _after(0.1, carl.asks("POST", f"/v1/runs/{run}/abort"))
        return (await asyncio.gather(asked, change))[0]

    begun = time.monotonic()
    answer = asyncio.run(course())
    assert answer.status_code == 200 and answer.json()["run"]["state"] == "aborted"
    assert time.monotonic() - begun < 20


def test_without_news_the_answer_without_news_comes_when_the_time_is_up(house, run):
    north = house.client("north")
    tag = north.get(f"/v1/runs/{run}/round").headers["etag"]
    answer = north.get(f"/v1/runs/{run}/round", params={"wait": 1}, headers={"If-None-Match": tag})
    assert answer.status_code == 304
    answer = north.get(f"/v1/runs/{run}/rounds/0/result", params={"wait": 1})
    assert answer.status_code == 202 and answer.headers["retry-after"] == "1"
    assert north.get(f"/v1/runs/{run}/round", params={"wait": 26}).status_code == 422
    # Without a tag whatever is there is news.
    begun = time.monotonic()
    assert north.get(f"/v1/runs/{run}/round", params={"wait": 25}).status_code == 200
    assert time.monotonic() - begun < 20


def test_a_run_that_ends_lets_everybody_go_who_waits_for_a_result(house, run):
    carl = house.client("carl")

    async def course():
        asked = [
            house.client(name).asks("GET", f"/v1/runs/{run}/rounds/0/result", params={"wait": 25})
            for name in ("north", "south", "vera")
        ]
        return (await asyncio.gather(*asked, _after(0.1, carl.asks("POST", f"/v1/runs/{run}/abort"))))[:-1]

    answers = asyncio.run(course())
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == 3 * [(410, "aborted")]


def test_a_lost_ring_is_made_up_for(house, run):
    quiet = replace(house.desk, ring=lambda run: None)
    north, carl = house.client("north"), Principal(house.subjects["carl"], frozenset({"coordinator"}))

    async def course():
        asked = north.asks("GET", f"/v1/runs/{run}/rounds/0/result", params={"wait": 25})
        change = asyncio.to_thread(coordinator.abort, quiet, carl, run)
        return (await asyncio.gather(asked, _after(0.1, change)))[0]

    assert asyncio.run(course()).status_code == 410


def test_hundreds_wait_and_others_are_served_meanwhile(house, run):
    north, carl = house.client("north"), house.client("carl")

    async def course():
        before = threading.active_count()
        asked = [
            asyncio.create_task(north.asks("GET", f"/v1/runs/{run}/rounds/0/result", params={"wait": 25}))
            for _ in range(200)
        ]
        waiting = house.app.state.waiting
        while waiting._count < 200:
            await asyncio.sleep(0.01)
        assert threading.active_count() - before < 60
        assert (await carl.asks("GET", "/v1/runs")).status_code == 200
        await carl.asks("POST", f"/v1/runs/{run}/abort")
        return {answer.status_code for answer in await asyncio.gather(*asked)}

    assert asyncio.run(course()) == {410}
    assert house.app.state.waiting._count == 0 and not house.app.state.waiting._ears


def test_when_too_many_wait_the_next_is_answered_at_once(house, run, monkeypatch):
    monkeypatch.setattr(Waiting, "full", property(lambda self: True))
    begun = time.monotonic()
    assert house.client("north").get(f"/v1/runs/{run}/rounds/0/result?wait=25").status_code == 202
    assert time.monotonic() - begun < 20


def test_where_waiting_costs_nobody_waits(house, run):
    house.app = application(replace(house.served, longest_wait=0), streams=False)
    begun = time.monotonic()
    assert house.client("north").get(f"/v1/runs/{run}/rounds/0/result?wait=25").status_code == 202
    assert time.monotonic() - begun < 20
    assert house.client("north").get(f"/v1/runs/{run}/events/stream").status_code == 404


class Stream:
    """Reads server-sent events as a browser does, straight from the application."""

    def __init__(self, house, name, path, **headers):
        self.app, self.path, self.lines = house.app, path, asyncio.Queue()
        given = {"authorization": f"Bearer {house.tokens[name]}", **headers}
        self.headers = [(key.encode(), value.encode()) for key, value in given.items()]
        self.gone = asyncio.Event()

    async def _receive(self):
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message):
        if message["type"] == "http.response.start":
            self.status = message["status"]
        for line in message.get("body", b"").decode().split("\n\n"):
            if line:
                await self.lines.put(line)

    async def __aenter__(self):
        path, _, query = self.path.partition("?")
        scope = {
            "type": "http", "http_version": "1.1", "method": "GET", "path": path, "raw_path": path.encode(),
            "query_string": query.encode(), "headers": self.headers, "client": ("test", 1), "server": ("test", 80),
            "scheme": "http", "root_path": "",
        }  # fmt: skip
        self.task = asyncio.create_task(self.app(scope, self._receive, self._send))
        return self

    async def __aexit__(self, *_):
        self.gone.set()
        await asyncio.wait_for(self.task, 30)

    async def next(self):
        line = await asyncio.wait_for(self.lines.get(), 30)
        return dict(one.split(": ", 1) for one in line.split("\n"))


def test_events_come_as_they_happen_and_go_on_after_the_last_one(house, run):
    carl = house.client("carl")
    path = f"/v1/runs/{run}/events/stream"

    async def course():
        async with Stream(house, "vera", path) as stream:
            first, second = await stream.next(), await stream.next()
            assert (first["event"], second["event"]) == ("created", "invited")
        async with Stream(house, "vera", path, **{"last-event-id": first["id"]}) as stream:
            assert (await stream.next())["event"] == "invited"
            await carl.asks("POST", f"/v1/runs/{run}/abort")
            assert [(await stream.next())["event"] for _ in range(2)] == ["aborted", "end"]
            await asyncio.wait_for(asyncio.shield(stream.task), 30)

    asyncio.run(course())
    assert house.app.state.waiting._count == 0


def test_a_stream_ends_with_its_token(house, run):
    async def course():
        async with Stream(house, "vera", f"/v1/runs/{run}/events/stream") as stream:
            await stream.next(), await stream.next()
            assert not stream.task.done()
            house.local.accounts.change(house.subjects["vera"], disabled=True)
            house.bell(run)
            await asyncio.wait([stream.task], timeout=30)
            assert stream.task.done() and stream.lines.empty()

    asyncio.run(course())
    assert house.app.state.waiting._count == 0


def test_a_stream_of_what_one_may_not_see_has_a_status(house, run):
    for client in (house.client("cleo"), house.client("east")):
        assert client.get(f"/v1/runs/{run}/events/stream").status_code == 404
    assert house.client().get(f"/v1/runs/{run}/events/stream").status_code == 401
    assert house.client("carl").get("/v1/runs/x/events/stream").status_code == 404


def test_a_new_event_loop_is_heard_as_well(house, run):
    for _ in range(3):
        assert house.client("north").get(f"/v1/runs/{run}/rounds/0/result?wait=1").status_code == 202
    test_a_change_wakes_whoever_waits_for_one(house, run)
