"""Accounts in memory and in a file, a clock that is set by hand, and passwords that are checked for real, cheaply."""

import importlib.util

import pytest

MISSING = [name for name in ("argon2", "jwt", "cryptography") if importlib.util.find_spec(name) is None]
collect_ignore_glob = ["test_*.py"] if MISSING else []

SOUND = "correct horse battery"


class Hand:
    """A clock that stands until it is moved; milliseconds, moved by seconds."""

    def __init__(self, now=1_800_000_000_000):
        self.now = now

    def __call__(self):
        return self.now

    def forward(self, seconds):
        self.now += int(1000 * seconds)


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
    import argon2

    from service.identity.passwords import Passwords

    return Passwords(argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


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
