"""The whole application in this process, over both stores; without the extra nothing here is run."""

import importlib.util

import pytest
from houses import House

NEEDED = ("starlette", "httpx", "argon2", "jwt", "cryptography")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
collect_ignore_glob = ["test_*.py"] if MISSING else []
collect_ignore = [] if importlib.util.find_spec("schemathesis") else ["test_schemathesis.py"]


@pytest.fixture
def house(store, tmp_path):
    made = House(tmp_path, store)
    yield made
    made.close()
