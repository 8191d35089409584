"""Services with their pages: an empty one for each test, and one in which much has happened for all of them."""

import importlib.util
from pathlib import Path

import pytest

NEEDED = ("starlette", "httpx", "jinja2", "argon2", "jwt", "cryptography")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
collect_ignore_glob = ["test_*.py"] if MISSING else []


@pytest.fixture
def office(tmp_path):
    from offices import Office

    from service.bell import Bell
    from service.blobs.files import Files
    from service.cases.desk import Desk
    from service.store.memory import MemoryStore

    bell = Bell()
    made = Office(Desk(MemoryStore(), Files(tmp_path / "files"), ring=bell), tmp_path, bell=bell)
    yield made
    made.local.records.close()


@pytest.fixture(scope="session")
def lived(tmp_path_factory):
    """A service in which much has happened: a run in every state, with the numbers of real sites."""
    from offices import HOSTILE, Office
    from places import ROOT, go, opened

    from service.bell import Bell
    from service.cases import coordinator, reading, site
    from service.worker import Worker

    folder = Path(tmp_path_factory.mktemp("lived"))
    bell = Bell()
    desk = opened(folder / "data", bell)
    made = Office(desk, folder, bell=bell)
    made.runs = {
        "draft": made.make(name=f"draft {HOSTILE}", description=HOSTILE, invited=False),
        "inviting": made.make(name=f"inviting {HOSTILE}", description=HOSTILE, sites=("north", "south", "east")),
        "aborted": made.make(name="an aborted one"),
        "completed": made.make(name="a completed one", quorum=2, preparation={}),
        "running": made.make(name="a running one", quorum=2),
    }
    coordinator.abort(desk, made.who("carl"), made.runs["aborted"].id)
    with Worker(desk, folder / "work") as worker:
        run = made.runs["completed"].id
        assert go(desk, worker, run, made.begin(run)).state == "completed"
        run = made.runs["running"].id
        sites = made.begin(run)
        for _ in range(3):
            worker.work(run)
            now = reading.run(desk, ROOT, run)
            for one in sites:
                site.heartbeat(desk, one.who, run, "training")
            sites[0].commit(now.step)
            if now.step < 3:
                sites[1].commit(now.step)
    yield made
    desk.store.close()
    made.local.records.close()


@pytest.fixture(scope="module")
def served(lived):
    from offices import Door

    made = Door(lived.app)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def chromium():
    from browsers import started

    with started() as made:
        yield made
