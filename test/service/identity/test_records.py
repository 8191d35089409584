"""The database of identities when there is no room, and when many write at once."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from houses import SOUND

from computation.errors import IdentityError, ServiceError
from service.identity.accounts import Accounts
from service.identity.local import Local
from service.identity.records import Account, Records


def test_a_full_disk_is_told_and_nothing_is_half_written(records, clock, passwords):
    local = Local(records, clock, passwords)
    ada = local.accounts.first_administrator("Ada", SOUND)
    token = local.login("Ada", SOUND).access
    pages = records._one("PRAGMA page_count")[0]
    records._one(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(ServiceError) as failed:
        for number in range(1000):
            local.accounts.add(f"name {number} {'x' * 40}", ["viewer"])
    assert not isinstance(failed.value, IdentityError) and "free some space" in failed.value.public
    assert local.verify(token).sub == ada.sub
    before = len(records.accounts())
    with pytest.raises(ServiceError), records.changing():
        for number in range(1000):
            records.add_account(Account(f"sub {number}", f"other {number} {'x' * 40}", frozenset()))
    assert len(records.accounts()) == before
    records._one("PRAGMA max_page_count = 100000")
    assert local.accounts.add("bob", ["site"]) and local.login("Ada", SOUND)


def test_many_writers_of_one_file_wait_for_each_other(tmp_path, clock, passwords):
    path = tmp_path / "identity.sqlite"
    Local(first := Records(path), clock, passwords).accounts.first_administrator("Ada", SOUND)

    def busy(number):
        records = Records(path)
        local = Local(records, clock, passwords)
        for _ in range(5):
            given = local.login("Ada", SOUND, f"192.0.2.{number}")
            assert local.verify(local.refresh(given.refresh).access)
            local.logout(given.refresh)
        records.close()

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(busy, range(20)))
    assert first._one("SELECT count(*) FROM sessions")[0] == 0
    first.close()


def test_what_a_failed_step_began_is_taken_back(records, clock, passwords):
    accounts = Accounts(records, clock, passwords)
    ada = accounts.first_administrator("Ada", SOUND)
    with pytest.raises(RuntimeError), records.changing():
        records.end_sessions(ada.sub)
        records.add_account(Account("1", "bob", frozenset()))
        raise RuntimeError
    assert [account.name for account in records.accounts()] == ["Ada"]
