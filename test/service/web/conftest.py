"""The whole application in this process, over two stores; without the extra nothing here is run."""

import importlib.util

import pytest
from houses import House

from service.store.memory import MemoryStore
from service.store.sqlite import SqliteStore

NEEDED = ("starlette", "httpx", "argon2", "jwt", "cryptography")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
collect_ignore_glob = ["test_*.py"] if MISSING else []
collect_ignore = [] if importlib.util.find_spec("schemathesis") else ["test_schemathesis.py"]


@pytest.fixture(params=["memory", "sqlite"])
def store(request, tmp_path):
    made = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "service.db")
    yield made
    made.close()


@pytest.fixture
def house(store, tmp_path):
    made = House(tmp_path, store)
    yield made
    made.close()
