"""The stream that tells a page when to look again: who may have it, what ends it, and what it costs nobody."""

import json
import threading
from contextlib import closing
from dataclasses import replace

import httpx
import pytest
from offices import SOUND, Door, stamp_of

from service.cases import coordinator, site
from service.web.app import application
from service.web.dashboard import live, routes
from service.web.served import Served


@pytest.fixture
def door(office):
    made = Door(office.app)
    yield made
    made.stop()


def entered(url, name):
    client = httpx.Client(base_url=url, timeout=10)
    page = client.get("/login")
    client.post("/login", data={"stamp": stamp_of(page.text), "name": name, "password": SOUND})
    return client


def pulses(lines):
    return (json.loads(line.removeprefix("data: "))["pulse"] for line in lines if line.startswith("data: "))


def test_a_pulse_comes_at_once_and_with_each_change(office, door):
    run = office.make()
    client = entered(door.url, "carl")
    with client.stream("GET", f"/runs/{run.id}/live") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        told = pulses(answer.iter_lines())
        seen = [next(told)]
        site.decline(office.desk, office.who("north"), run.id)
        seen.append(next(told))
        coordinator.abort(office.desk, office.who("carl"), run.id)
        seen.append(next(told))
    assert len(set(seen)) == 3
    assert client.get(f"/runs/{run.id}/pulse").json()["pulse"] == seen[-1]


@pytest.mark.parametrize("ends", ["the session", "the membership", "the run"])
def test_a_stream_ends_with_what_it_was_given_for(office, door, ends):
    run = office.make()
    client = entered(door.url, "north")
    with client.stream("GET", f"/runs/{run.id}/live") as answer:
        told = pulses(answer.iter_lines())
        next(told)
        if ends == "the session":
            office.local.records.end_sessions(office.subs["north"])
        elif ends == "the membership":
            coordinator.remove(office.desk, office.who("carl"), run.id, "north")
        else:
            coordinator.abort(office.desk, office.who("carl"), run.id)
            coordinator.forget(office.desk, office.who("carl"), run.id, run.digest)
        assert len(list(told)) <= 1


def test_who_may_not_see_a_run_is_told_nothing(office, door):
    run = office.make()
    assert httpx.get(f"{door.url}/runs/{run.id}/live").status_code == 204
    client = entered(door.url, "cleo")
    assert "data" not in client.get(f"/runs/{run.id}/live").text
    assert client.get(f"/runs/{run.id}/pulse").status_code == 404


def test_where_nothing_streams_browsers_are_told_to_ask(office):
    run = office.make()
    front = replace(office.front, streams=False)
    door = Door(application(Served(office.desk, office.local, local=office.local), routes(front)))
    client = entered(door.url, "carl")
    assert client.get(f"/runs/{run.id}/live").status_code == 204
    assert client.get(f"/runs/{run.id}/pulse").status_code == 200
    door.stop()


def test_beyond_so_many_streams_browsers_are_told_to_ask(office, door, monkeypatch):
    monkeypatch.setattr(live, "_MOST", 1)
    run = office.make()
    client, other = entered(door.url, "carl"), entered(door.url, "vera")
    with client.stream("GET", f"/runs/{run.id}/live") as answer:
        told = pulses(answer.iter_lines())
        assert next(told)
        assert other.get(f"/runs/{run.id}/live").status_code == 204


def test_twenty_browsers_at_once(office, door):
    cookies = entered(door.url, "carl").cookies
    run, seen, begun = office.make(), [], threading.Semaphore(0)

    def look():
        client = httpx.Client(base_url=door.url, timeout=30, cookies=cookies)
        with closing(client), client.stream("GET", f"/runs/{run.id}/live") as answer:
            told = pulses(answer.iter_lines())
            first = next(told)
            begun.release()
            seen.append((first, next(told)))

    threads = [threading.Thread(target=look) for _ in range(20)]
    for one in threads:
        one.start()
    assert all(begun.acquire(timeout=30) for _ in threads)
    site.decline(office.desk, office.who("north"), run.id)
    for one in threads:
        one.join()
    assert len(set(seen)) == 1 and len(seen) == 20
