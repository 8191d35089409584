"""One fixture for each interface; a place that needs more than Python adds a name and a maker here."""

import pytest
from places import Clock

from service.blobs.files import Files
from service.cases.desk import Desk
from service.store.memory import MemoryStore
from service.store.sqlite import SqliteStore
from service.worker import Worker

#: How each store is made in a folder of its own.
STORES = {"memory": lambda folder: MemoryStore(), "sqlite": lambda folder: SqliteStore(folder / "service.db")}
#: How each place for files is made.
BLOBS = {
    "files": lambda folder: Files(folder / "files"),
    "files and shelf": lambda folder: Files(folder / "files", small=SqliteStore(folder / "service.db").shelf),
}


@pytest.fixture(params=STORES)
def store(request, tmp_path):
    made = STORES[request.param](tmp_path)
    yield made
    made.close()


@pytest.fixture(params=BLOBS)
def blobs(request, tmp_path):
    return BLOBS[request.param](tmp_path)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def desk(tmp_path, clock):
    """A desk over memory and files, with a clock that stands still."""
    store = MemoryStore()
    return Desk(store, Files(tmp_path / "files"), clock)


@pytest.fixture
def worker(desk, tmp_path):
    with Worker(desk, tmp_path / "work", lease=60_000) as made:
        yield made
