"""Local accounts: who gets in, for how long, and what an attacker learns."""

import sqlite3
import stat
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from argon2 import PasswordHasher
from houses import SOUND
from hypothesis import given
from hypothesis import strategies as st

from computation.errors import IdentityError, ServiceError
from service.identity import tokens
from service.identity.accounts import Accounts
from service.identity.local import Local
from service.identity.passwords import Passwords
from service.identity.records import Records
from service.identity.throttle import Throttled
from service.protocol import Conflict, Malformed, TooMany, Unknown


def test_a_login_gives_tokens_that_say_who_it_is(local, ada, clock):
    given = local.login("Ada", SOUND)
    one = local.verify(given.access)
    assert (one.sub, one.name, one.roles) == (ada.sub, "Ada", {"administrator", "coordinator"})
    assert one.since == clock.now and given.until == clock.now + 900_000 and given.principal == one
    assert given.access not in repr(given) and given.refresh not in repr(given)


def test_a_token_expires_and_its_session_renews_it_until_that_ends_too(local, ada, clock):
    first = local.login("ada", SOUND)
    clock.forward(900)
    with pytest.raises(IdentityError):
        local.verify(first.access)
    second = local.refresh(first.refresh)
    assert local.verify(second.access).sub == ada.sub and second.refresh == first.refresh
    clock.forward(7 * 86_400)
    for use, token in ((local.verify, second.access), (local.refresh, first.refresh)):
        with pytest.raises(IdentityError):
            use(token)


def test_a_token_never_outlives_its_session(local, ada, clock):
    given = local.login("Ada", SOUND)
    clock.forward(7 * 86_400 - 10)
    assert local.refresh(given.refresh).until == given.refresh_until


def test_a_session_that_renews_without_end_keeps_few_tokens(local, ada):
    given = local.login("Ada", SOUND)
    access = [local.refresh(given.refresh).access for _ in range(20)]
    assert local.verify(access[-1]) and local.verify(access[4])
    with pytest.raises(IdentityError):
        local.verify(access[3])


@pytest.mark.parametrize("token", ["access", "refresh"])
def test_a_logout_ends_the_whole_session_and_no_other(local, ada, token):
    one, other = local.login("Ada", SOUND), local.login("Ada", SOUND)
    local.logout(getattr(one, token))
    local.logout(getattr(one, token))
    for use, what in ((local.verify, one.access), (local.refresh, one.refresh)):
        with pytest.raises(IdentityError):
            use(what)
    assert local.verify(other.access).sub == ada.sub


def test_nobodys_tokens_are_refused_with_one_text(local, ada):
    given = local.login("Ada", SOUND)
    wrong = ["", "x", given.refresh, tokens.mint(tokens.ACCESS), given.access + "A", given.access[:-1]]
    wrong += [given.access.upper(), " " + given.access, given.access + "\n", "mna_\0", "a" * 100_000, "mna_" + "A" * 43]
    wrong += ["mna_" + "é" * 43, "mna_" + "\ud800" * 43]
    texts = set()
    for token in wrong:
        with pytest.raises(IdentityError) as refused:
            local.verify(token)
        texts.add(str(refused.value))
    assert len(texts) == 1


@given(st.text(max_size=80))
def test_no_text_is_a_token_by_chance(text):
    assert tokens.is_token(tokens.ACCESS + text, tokens.ACCESS) == (
        len(text) == 43 and all(letter.isascii() and (letter.isalnum() or letter in "-_") for letter in text)
    )


def test_only_digests_are_kept(tmp_path, clock, passwords):
    records = Records(tmp_path / "identity.sqlite")
    local, accounts = Local(records, clock, passwords), Accounts(records, clock, passwords)
    accounts.first_administrator("Ada", SOUND)
    north = accounts.add("north", ["site"])
    _, credential = accounts.add_credential(north.sub, "the scanner's machine")
    given = local.login("Ada", SOUND)
    with pytest.raises(IdentityError):
        local.login("a password in the wrong field", SOUND)
    secrets = (SOUND, given.access, given.refresh, credential, "a password in the wrong field")
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert not [secret for secret in secrets if secret.encode() in kept]
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in tmp_path.iterdir())
    records.close()


class Counting(PasswordHasher):
    """Argon2id that counts how often it works."""

    checks = 0

    def verify(self, kept, password):
        self.checks += 1
        return super().verify(kept, password)


def test_an_unknown_name_a_disabled_account_and_a_wrong_password_look_and_cost_the_same(records, clock):
    hasher = Counting(time_cost=1, memory_cost=8, parallelism=1)
    passwords = Passwords(hasher)
    local, accounts = Local(records, clock, passwords), Accounts(records, clock, passwords)
    accounts.first_administrator("Ada", SOUND)
    gone = accounts.add("gone", ["viewer"], SOUND)
    accounts.change(gone.sub, disabled=True)
    accounts.add("no password", ["site"])
    seen = set()
    for name, password in (("nobody", SOUND), ("Ada", "wrong"), ("gone", SOUND), ("no password", ""), ("", "")):
        before = hasher.checks
        with pytest.raises(IdentityError) as refused:
            local.login(name, password)
        seen.add((str(refused.value), hasher.checks - before))
    assert len(seen) == 1 and seen.pop()[1] == 1


def test_who_guesses_waits_longer_each_time_and_a_stranger_does_not_lock_the_owner_out(local, ada, clock):
    for _ in range(5):
        with pytest.raises(IdentityError):
            local.login("Ada", "wrong", "203.0.113.7")
    waits = []
    for _ in range(12):
        with pytest.raises(Throttled) as refused:
            local.login("Ada", SOUND, "203.0.113.7")
        waits.append(refused.value.wait)
        clock.forward(refused.value.wait)
        with pytest.raises(IdentityError):
            local.login("Ada", "wrong", "203.0.113.7")
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]
    assert local.login("Ada", SOUND, "198.51.100.1")


def test_one_name_from_many_addresses_and_many_names_from_one_are_slowed_down(local, ada, clock):
    for host in range(20):
        with pytest.raises(IdentityError):
            local.login("ADA", "wrong", f"203.0.113.{host}")
    with pytest.raises(Throttled) as refused:
        local.login("Ada", SOUND, "198.51.100.1")
    clock.forward(refused.value.wait)
    assert local.login("Ada", SOUND, "198.51.100.1")
    for number in range(50):
        with pytest.raises(IdentityError):
            local.login(f"name{number}", "wrong", "192.0.2.1")
    with pytest.raises(Throttled):
        local.login("Ada", SOUND, "192.0.2.1")


def test_of_ipv6_a_network_counts_as_one_since_everybody_has_all_of_its_addresses(local, ada):
    for host in range(5):
        with pytest.raises(IdentityError):
            local.login("ada", "wrong", f"2001:db8:1:2::{host:x}")
    with pytest.raises(Throttled):
        local.login("ada", SOUND, "2001:db8:1:2:ffff::1")
    assert local.login("ada", SOUND, "2001:db8:1:3::1")


def test_an_old_address_counts_alike_however_it_is_spelt(local, ada):
    for host in range(5):
        with pytest.raises(IdentityError):
            local.login("ada", "wrong", ("::ffff:" if host % 2 else "") + "192.0.2.7")
    with pytest.raises(Throttled):
        local.login("ada", SOUND, "192.0.2.7")
    assert local.login("ada", SOUND, "::ffff:192.0.2.8")


def test_names_that_do_not_exist_wait_like_others(local, ada):
    def tried(name):
        texts = []
        for _ in range(7):
            with pytest.raises(ServiceError) as refused:
                local.login(name, "wrong", name)
            texts.append(str(refused.value))
        return texts

    assert tried("Ada") == tried("nobody")


def test_guesses_at_one_moment_are_all_counted(records, clock, passwords):
    local = Local(records, clock, passwords)
    Accounts(records, clock, passwords).first_administrator("Ada", SOUND)

    def guess(_):
        try:
            local.login("Ada", "wrong")
        except ServiceError as error:
            return type(error)

    with ThreadPoolExecutor(12) as pool:
        outcomes = list(pool.map(guess, range(24)))
    assert outcomes.count(IdentityError) == 5 and outcomes.count(Throttled) == 19


def test_failures_are_forgotten_and_success_forgets_them(local, ada, clock):
    for _ in range(3):
        for _ in range(4):
            with pytest.raises(IdentityError):
                local.login("Ada", "wrong")
        local.login("Ada", SOUND)
    for _ in range(2):
        for _ in range(5):
            with pytest.raises(IdentityError):
                local.login("x", "wrong")
        clock.forward(3601)


def test_a_clock_that_goes_back_locks_nobody_out_for_long(local, ada, clock):
    for _ in range(5):
        with pytest.raises(IdentityError):
            local.login("Ada", "wrong")
    clock.forward(-86_400)
    with pytest.raises(Throttled) as refused:
        local.login("Ada", SOUND)
    assert refused.value.wait == 1


def test_a_flood_of_logins_waits_its_turn_and_then_is_refused(local, ada):
    slow = threading.Event()

    class Slow(PasswordHasher):
        def verify(self, kept, password):
            slow.wait(10)
            return super().verify(kept, password)

    passwords = Passwords(Slow(time_cost=1, memory_cost=8, parallelism=1), at_once=1, patience=0.05)
    kept = passwords.hash(SOUND)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(passwords.fits, kept, SOUND)
        while passwords._places._value:
            pass
        with pytest.raises(TooMany):
            passwords.fits(kept, SOUND)
        slow.set()
        assert first.result()


@pytest.mark.parametrize("password", ["", "short", "aaaaaaaaaaaaaaaa", "Ada Lovelace of London", "x" * 1025])
def test_what_is_easily_guessed_is_no_password(accounts, password):
    with pytest.raises(Malformed):
        accounts.first_administrator("ada lovelace of london", password)


def test_a_password_may_be_long_and_in_any_script(accounts, local):
    accounts.first_administrator("Ada", "Ünïcödé ﬁne " + "é" * 900)
    assert local.login("Ada", "Ünïcödé fine " + "e\u0301" * 900)
    with pytest.raises(IdentityError):
        local.login("Ada", "Ünïcödé fine " + "é" * 900 + "x" * 200)
    with pytest.raises(IdentityError):
        local.login("Ada", "half a letter \ud800")


def test_a_new_password_ends_all_sessions_and_needs_the_old_one(local, ada):
    one, other = local.login("Ada", SOUND), local.login("Ada", SOUND)
    with pytest.raises(IdentityError):
        local.change_password(ada.sub, "wrong", "another sound password")
    with pytest.raises(Malformed):
        local.change_password(ada.sub, SOUND, "short")
    assert local.verify(one.access)
    local.change_password(ada.sub, SOUND, "another sound password")
    for token in (one.access, other.access):
        with pytest.raises(IdentityError):
            local.verify(token)
    with pytest.raises(IdentityError):
        local.login("Ada", SOUND)
    assert local.login("Ada", "another sound password")


def test_a_login_that_a_new_password_overtakes_begins_no_session(records, clock, passwords):
    accounts = Accounts(records, clock, passwords)
    ada = accounts.first_administrator("Ada", SOUND)

    class Overtaken(Local):
        def _proven(self, name, password):
            account = super()._proven(name, password)
            accounts.change(ada.sub, password="another sound password")
            return account

    with pytest.raises(IdentityError):
        Overtaken(records, clock, passwords).login("Ada", SOUND)


def test_costs_that_have_risen_are_taken_at_the_next_login(records, clock, passwords):
    Accounts(records, clock, passwords).first_administrator("Ada", SOUND)
    dearer = Passwords(PasswordHasher(time_cost=2, memory_cost=16, parallelism=1))
    local = Local(records, clock, dearer)
    assert local.login("Ada", SOUND) and "m=16,t=2" in records.account_named("ada").password
    assert local.login("Ada", SOUND)


def test_there_is_one_first_administrator(accounts, local):
    accounts.first_administrator("Ada", SOUND)
    with pytest.raises(Conflict):
        accounts.first_administrator("Eve", SOUND)
    with pytest.raises(IdentityError):
        local.login("Eve", SOUND)


def test_two_that_would_be_first_at_once_are_one(tmp_path, clock, passwords):
    path = tmp_path / "identity.sqlite"

    def claim(name):
        records = Records(path)
        try:
            return Accounts(records, clock, passwords).first_administrator(name, SOUND)
        except Conflict:
            return None
        finally:
            records.close()

    with ThreadPoolExecutor(8) as pool:
        assert sum(made is not None for made in pool.map(claim, [f"name{n}" for n in range(8)])) == 1


def test_a_name_is_one_however_it_is_written(accounts, local):
    accounts.first_administrator("  Ädá ", SOUND)
    assert local.login("äDÁ", SOUND).principal.name == "Ädá"
    for name in ("ÄDÁ", "A\u0308da\u0301"):
        with pytest.raises(Conflict):
            accounts.add(name, ["site"])
    for name in ("", "  ", "x" * 65, "a\nb", "a\u202eb", "a\0b"):
        with pytest.raises(Malformed):
            accounts.add(name, ["site"])
    assert accounts.add("<script>alert(1)</script>", ["viewer"]).name == "<script>alert(1)</script>"


def test_roles_are_those_of_now_and_a_disabled_account_is_out_at_once(accounts, local, ada):
    bob = accounts.add("bob", ["coordinator", "site"], SOUND)
    token = local.login("bob", SOUND).access
    accounts.change(bob.sub, roles=["viewer"])
    assert local.verify(token).roles == {"viewer"}
    accounts.change(bob.sub, disabled=True)
    for _ in range(2):
        with pytest.raises(IdentityError):
            local.verify(token)
        accounts.change(bob.sub, disabled=False)  # what was ended stays ended
    with pytest.raises(Malformed):
        accounts.change(bob.sub, roles=["root"])
    with pytest.raises(Unknown):
        accounts.change("nobody", disabled=True)


def test_the_last_administrator_stays(accounts, ada):
    for change in ({"disabled": True}, {"roles": ["viewer"]}):
        with pytest.raises(Conflict):
            accounts.change(ada.sub, **change)
    eve = accounts.add("eve", ["administrator"], SOUND)
    accounts.change(ada.sub, disabled=True)
    with pytest.raises(Conflict):
        accounts.change(eve.sub, roles=["site"])


def test_a_sites_credential_counts_for_years_as_a_site_until_it_is_revoked(accounts, local, ada, clock, records):
    north = accounts.add("north", ["site", "coordinator"])
    kept, token = accounts.add_credential(north.sub, "machine room")
    clock.forward(3 * 365 * 86_400)
    one = local.verify(token)
    assert (one.sub, one.roles, one.name) == (north.sub, {"site"}, "north")
    assert token not in repr(kept) and records.credentials(north.sub) == (kept,)
    for use in (local.refresh, lambda token: local.login("north", token)):
        with pytest.raises(IdentityError):
            use(token)
    other = accounts.add_credential(north.sub, "another")[1]
    records.revoke_credential(kept.id)
    with pytest.raises(IdentityError):
        local.verify(token)
    assert local.verify(other).sub == north.sub and records.credential(kept.id).revoked
    accounts.change(north.sub, disabled=True)
    with pytest.raises(IdentityError):
        local.verify(other)


def test_credentials_are_for_sites_and_few(accounts, ada):
    with pytest.raises(Conflict):
        accounts.add_credential(ada.sub, "x")
    with pytest.raises(Unknown):
        accounts.add_credential("nobody", "x")
    north = accounts.add("north", ["site"])
    for number in range(20):
        accounts.add_credential(north.sub, f"number {number}")
    with pytest.raises(Conflict):
        accounts.add_credential(north.sub, "one more")


def test_what_was_kept_is_there_after_a_restart_and_seen_by_other_processes(tmp_path, clock, passwords):
    path = tmp_path / "identity.sqlite"
    one, other = Records(path), Records(path)
    ada = Accounts(one, clock, passwords).first_administrator("Ada", SOUND)
    token = Local(other, clock, passwords).login("Ada", SOUND).access
    one.close()
    other.close()
    again = Records(path)
    assert Local(again, clock, passwords).verify(token).sub == ada.sub
    again.close()


def test_a_file_of_another_kind_or_version_is_refused(tmp_path):
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as base:
        base.execute("CREATE TABLE scans (id)")
    newer = tmp_path / "newer.sqlite"
    Records(newer).close()
    with sqlite3.connect(newer) as base:
        base.execute("PRAGMA user_version = 2")
    garbage = tmp_path / "garbage.sqlite"
    garbage.write_bytes(b"not a database" * 100)
    link = tmp_path / "link.sqlite"
    link.symlink_to(tmp_path / "elsewhere")
    for path in (other, newer, garbage, link, tmp_path, tmp_path / "missing" / "x.sqlite"):
        with pytest.raises(ServiceError) as refused:
            Records(path)
        assert str(tmp_path) not in refused.value.public


def test_a_database_that_is_gone_is_an_error_of_the_service(records, clock, passwords):
    local = Local(records, clock, passwords)
    records.close()
    with pytest.raises(ServiceError) as failed:
        local.verify("mna_" + "A" * 43)
    assert not isinstance(failed.value, IdentityError)
