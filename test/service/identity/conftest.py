"""Accounts in memory and in a file, a clock that is set by hand, and passwords that are checked for real, cheaply."""

import importlib.util

import pytest
from houses import SOUND, Hand, cheap

MISSING = [name for name in ("argon2", "jwt", "cryptography") if importlib.util.find_spec(name) is None]
collect_ignore_glob = ["test_*.py"] if MISSING else []


@pytest.fixture
def clock():
    return Hand()


@pytest.fixture(params=["memory", "file"])
def records(request, tmp_path):
    from service.identity.records import Records

    with_file = request.param == "file"
    made = Records(tmp_path / "identity.sqlite" if with_file else None)
    yield made
    made.close()


@pytest.fixture(scope="session")
def passwords():
    return cheap()


@pytest.fixture
def local(records, clock, passwords):
    from service.identity.local import Local

    return Local(records, clock, passwords)


@pytest.fixture
def accounts(records, clock, passwords):
    from service.identity.accounts import Accounts

    return Accounts(records, clock, passwords)


@pytest.fixture
def ada(accounts):
    return accounts.first_administrator("Ada", SOUND)
