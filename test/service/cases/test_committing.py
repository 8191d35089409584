"""Attacks on a commit: wrong order, wrong step, wrong content, another's, too late, too large, twice, all at once."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from places import ANNA, EVE, FILE, ROOT, Plain, go, kinds, plain, send, spec, who

from computation.errors import MeshNetError
from computation.wire.payload import COMBINATION, MODEL
from service.blobs.files import Files
from service.cases import committing, coordinator, reading, site
from service.cases.committing import Content
from service.cases.desk import Desk
from service.protocol import Conflict, Forbidden, Gone, Malformed, Refusal, TooLarge, TooMany, Unknown
from service.store.base import StoreBroken
from service.store.sqlite import SqliteStore
from service.worker import Worker


@pytest.fixture
def opened(desk, worker):
    """A run of three sites at its first round."""
    run, made = plain(desk, 3, deadline=100)
    worker.work(run)
    return SimpleNamespace(run=run, sites=made, base=reading.step(desk, ROOT, run).base)


def refused(code, kind, act):
    with pytest.raises(kind) as caught:
        act()
    assert caught.value.code == code, caught.value.code
    return caught.value


def test_a_commit_is_made_once_however_often_it_comes(desk, opened):
    first, new = opened.sites[0].commit(1)
    assert new
    for _ in range(3):
        assert opened.sites[0].commit(1) == (first, False)
    assert len(desk.store.updates(opened.run, 1)) == 1
    assert kinds(desk, opened.run).count("committed") == 4


def test_the_same_commit_is_the_same_after_the_step_and_after_the_run(desk, worker, opened):
    contents = [one.content(1) for one in opened.sites]
    for one, content in zip(opened.sites, contents, strict=True):
        committing.commit(desk, one.who, opened.run, 1, content)
    worker.work(opened.run)
    assert not committing.commit(desk, opened.sites[0].who, opened.run, 1, contents[0])[1]
    coordinator.abort(desk, ANNA, opened.run)
    assert not committing.commit(desk, opened.sites[0].who, opened.run, 1, contents[0])[1]


def test_another_content_of_the_same_site_is_refused(desk, opened):
    opened.sites[0].commit(1)
    refused("other_content", Conflict, lambda: opened.sites[0].commit(1, seed=1))
    refused("other_content", Conflict, lambda: opened.sites[0].commit(1, loss=2.0))
    assert len(desk.store.updates(opened.run, 1)) == 1


@pytest.mark.parametrize("number", [-1, 0, 2, 7, 2**63, 10**30, None, "1", 1.0, True])
def test_no_other_step_takes_a_commit(desk, opened, number):
    content = opened.sites[0].content(1)
    who = opened.sites[0].who
    with pytest.raises(Conflict) as caught:
        committing.commit(desk, who, opened.run, number, content)
    assert caught.value.code == "not_open"
    with pytest.raises(Refusal):
        committing.reserve(desk, who, opened.run, number, FILE, 100, "0" * 64)


def test_a_commit_to_a_step_of_before_is_late_and_never_counts(desk, worker, opened):
    late = opened.sites[2].content(1)
    for one in opened.sites[:2]:
        one.commit(1)
    desk.clock.pass_(101)
    worker.look()
    who = opened.sites[2].who
    for _ in range(3):
        why = refused("round_closed", Conflict, lambda: committing.commit(desk, who, opened.run, 1, late))
    assert why.detail == {"step": 2}
    assert kinds(desk, opened.run).count("late") == 1
    assert dict(reading.step(desk, ROOT, opened.run, 1).frozen).keys() == {"local0", "local1"}
    assert len(desk.store.updates(opened.run, 1)) == 2


def test_a_deadline_is_the_servers_and_exact(desk, opened):
    desk.clock.pass_(99.999)
    opened.sites[0].commit(1)
    desk.clock.pass_(0.001)
    refused("deadline_passed", Conflict, lambda: opened.sites[1].commit(1))
    refused(
        "deadline_passed",
        Conflict,
        lambda: committing.reserve(desk, opened.sites[1].who, opened.run, 1, FILE, 9, "0" * 64),
    )
    assert [one.site for one in desk.store.updates(opened.run, 1)] == ["local0"]
    assert desk.store.uploads(opened.run, 1) == ()


def test_nothing_is_committed_while_paused_or_after_an_abort(desk, opened):
    coordinator.pause(desk, ANNA, opened.run)
    refused("run_paused", Conflict, lambda: opened.sites[0].commit(1))
    coordinator.resume(desk, ANNA, opened.run)
    opened.sites[0].commit(1)
    coordinator.abort(desk, ANNA, opened.run)
    refused("run_ended", Gone, lambda: opened.sites[1].commit(1))
    assert [one.site for one in desk.store.updates(opened.run, 1)] == ["local0"]


def test_who_is_no_site_of_the_run_commits_nothing(desk, opened):
    content = opened.sites[0].content(1)
    refused("run", Unknown, lambda: committing.commit(desk, EVE, opened.run, 1, content))
    refused("not_site", Forbidden, lambda: committing.commit(desk, ANNA, opened.run, 1, content))
    refused("not_site", Forbidden, lambda: committing.commit(desk, ROOT, opened.run, 1, content))
    assert desk.store.updates(opened.run, 1) == ()


def test_a_site_answers_the_last_result_and_no_other(desk, opened):
    for base in ("", "0" * 64, None, 5):
        refused(
            "wrong_base",
            Conflict,
            lambda base=base: committing.commit(
                desk, opened.sites[0].who, opened.run, 1, Content(opened.sites[0].content(1).message, base)
            ),
        )
    assert kinds(desk, opened.run).count("refused") == 1


def test_a_site_with_another_model_is_told_to_begin_anew(desk, opened):
    why = refused("wrong_model", Conflict, lambda: opened.sites[0].commit(1, model="0" * 64))
    assert "begin this site anew" in why.public


# What is sent by URL.


def test_an_upload_is_sent_and_committed(desk, opened):
    one = opened.sites[0]
    content = one.content(1)
    upload = send(desk, opened.run, 1, FILE, content.inline[FILE], one.who)
    by_url = Content(content.message, content.base, uploads=[upload.id])
    update, new = committing.commit(desk, one.who, opened.run, 1, by_url)
    assert new
    assert not committing.commit(desk, one.who, opened.run, 1, by_url)[1]
    # However it came, it is the same content.
    assert committing.commit(desk, one.who, opened.run, 1, content) == (update, False)


def test_a_commit_without_its_file_is_refused_and_can_be_made_good(desk, opened):
    one = opened.sites[0]
    content = one.content(1)
    data = content.inline[FILE]
    upload, _ = committing.reserve(desk, one.who, opened.run, 1, FILE, len(data), hashlib.sha256(data).hexdigest())
    wanted = Content(content.message, content.base, uploads=[upload.id])
    refused("not_uploaded", Conflict, lambda: committing.commit(desk, one.who, opened.run, 1, wanted))
    desk.blobs.write(upload.file.key, data)
    assert committing.commit(desk, one.who, opened.run, 1, wanted)[1]


def test_another_sites_upload_is_none_of_its_business(desk, opened):
    one, other = opened.sites[:2]
    content = one.content(1)
    upload = send(desk, opened.run, 1, FILE, content.inline[FILE], one.who)
    stolen = Content(other.content(1).message, content.base, uploads=[upload.id])
    refused("upload", Unknown, lambda: committing.commit(desk, other.who, opened.run, 1, stolen))
    for id in ("", "x", upload.id[:-1] + "x", None, 5, "../x"):
        wanted = Content(content.message, content.base, uploads=[id])
        refused("upload", Unknown, lambda wanted=wanted: committing.commit(desk, one.who, opened.run, 1, wanted))
    assert desk.store.updates(opened.run, 1) == ()


def test_bytes_that_were_changed_where_they_lie_are_found(desk, opened):
    one = opened.sites[0]
    content = one.content(1)
    data = content.inline[FILE]
    for changed in (data[:-1], data[:-1] + b"x", b""):
        upload, _ = committing.reserve(desk, one.who, opened.run, 1, FILE, len(data), hashlib.sha256(data).hexdigest())
        desk.blobs.write(upload.file.key, changed)
        wanted = Content(content.message, content.base, uploads=[upload.id])
        refused("altered", Malformed, lambda wanted=wanted: committing.commit(desk, one.who, opened.run, 1, wanted))
    upload, _ = committing.reserve(desk, one.who, opened.run, 1, FILE, len(data), hashlib.sha256(data).hexdigest())
    desk.blobs.write(upload.file.key, data + b"x")
    wanted = Content(content.message, content.base, uploads=[upload.id])
    refused("not_uploaded", Conflict, lambda: committing.commit(desk, one.who, opened.run, 1, wanted))
    assert desk.store.updates(opened.run, 1) == ()


@pytest.mark.parametrize(
    ("name", "size", "sha256", "kind"),
    [
        ("other.bin", 22764, "0" * 64, Malformed),
        ("../x", 22764, "0" * 64, Malformed),
        ("__cx_model.bin", 22764, "0" * 64, Malformed),
        (None, 22764, "0" * 64, Malformed),
        (FILE, 22763, "0" * 64, Malformed),
        (FILE, 22765, "0" * 64, TooLarge),
        (FILE, 2**63, "0" * 64, TooLarge),
        (FILE, 10**40, "0" * 64, TooLarge),
        (FILE, -1, "0" * 64, Malformed),
        (FILE, 0, "0" * 64, Malformed),
        (FILE, True, "0" * 64, Malformed),
        (FILE, 22764.0, "0" * 64, Malformed),
        (FILE, 22764, "0" * 63, Malformed),
        (FILE, 22764, "G" * 64, Malformed),
        (FILE, 22764, None, Malformed),
    ],
)
def test_what_no_site_sends_gets_no_room(desk, opened, name, size, sha256, kind):
    with pytest.raises(kind):
        committing.reserve(desk, opened.sites[0].who, opened.run, 1, name, size, sha256)
    assert desk.store.uploads(opened.run, 1) == ()


def test_nobody_reserves_for_ever(desk, opened):
    def reserve():
        committing.reserve(desk, opened.sites[0].who, opened.run, 1, FILE, 22764, "0" * 64)

    for _ in range(32):
        reserve()
    with pytest.raises(TooMany):
        reserve()
    committing.reserve(desk, opened.sites[1].who, opened.run, 1, FILE, 22764, "0" * 64)


# What is in it.


def changed(values, index, value):
    values = values.copy()
    values[index] = value
    return values


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused(desk, opened, value):
    one = opened.sites[0]
    why = refused("payload", Malformed, lambda: one.commit(1, changed(one.values(1), 7, value)))
    assert "NaN or infinite" in why.public


def test_denormal_values_are_values(opened):
    assert opened.sites[0].commit(1, np.full_like(opened.sites[0].values(1), 1e-45))[1]


@pytest.mark.parametrize(
    "changes",
    [
        {"site": "local1"},
        {"site": ""},
        {"run": "another"},
        {"round": 2},
        {"round": 0},
        {"kind": MODEL},
        {"kind": COMBINATION},
        {"model": "0" * 64},
        {"manifest": SimpleNamespace(digest="0" * 64)},
    ],
    ids=str,
)
def test_a_payload_of_another_place_is_refused(desk, opened, changes):
    one = opened.sites[0]
    data = one.payload(reading.step(desk, ROOT, opened.run), one.values(1), **changes)
    refused("payload", Malformed, lambda: one.commit(1, data=data))
    assert desk.store.updates(opened.run, 1) == ()


def test_a_payload_of_another_type_or_length_is_refused(desk, opened):
    one = opened.sites[0]
    step, values = reading.step(desk, ROOT, opened.run), one.values(1)
    for other in (values.astype("<f8")[: values.size // 2], values[:-1], np.append(values, values[:1])):
        with pytest.raises((Malformed, TooLarge)):
            one.commit(1, data=one.payload(step, other))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_changed_byte_gets_in(desk, opened, data):
    one = opened.sites[0]
    whole = one.content(1).inline[FILE]
    place = data.draw(st.integers(0, len(whole) - 1) | st.integers(0, 200))
    bad = bytearray(whole)
    bad[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Malformed):
        one.commit(1, data=bytes(bad))
    assert desk.store.updates(opened.run, 1) == ()


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\x80\x04.", b"x" * 192, b"\x00" * 22764], ids=len)
def test_what_is_no_payload_is_refused(opened, data):
    with pytest.raises(Malformed):
        opened.sites[0].commit(1, data=data)


@pytest.mark.parametrize(
    "changes",
    [
        {"samples": 0},
        {"samples": -1},
        {"samples": float("nan")},
        {"samples": 2**63},
        {"samples": "1"},
        {"samples": True},
        {"loss": float("inf")},
        {"loss": None},
        {"loss": 10**400},
        {"round": 2},
        {"round": 0},
        {"status": "fine"},
        {"reason": "failed"},
        {"reason": "x" * 10**7},
        {"more": 1},
        {"phase": "finish"},
        {"protocol": 1},
        {"validation": {"x": 1}},
        {"seconds": -1},
        {"status": "skipped", "reason": "<script>alert(1)</script>"},
        {"status": "skipped", "reason": "outlier"},
        {"success": True},
    ],
    ids=lambda changes: str(changes)[:60],
)
def test_a_message_that_cannot_be_is_refused(desk, opened, changes):
    with pytest.raises((Malformed, TooLarge)):
        opened.sites[0].commit(1, **changes)
    assert desk.store.updates(opened.run, 1) == ()


COUNTS = {"round": 0, "intersection": [1, 1, 1], "predicted": [1, 1, 1], "truth": [1, 1, 1], "scans": 1}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"samples": 2}, "says 2 sub-volumes"),
        ({"samples": 2**31 - 1}, "sub-volumes"),
        ({"unreadable": 5}, "5 unreadable scans"),
        ({"validation": COUNTS}, "validates nothing"),
        ({"status": "evaluates", "samples": 0, "loss": 0.0}, "joined with 1 training scans"),
    ],
    ids=str,
)
def test_a_claim_for_which_the_centre_would_end_the_run_is_refused_at_the_door(desk, worker, opened, changes, said):
    """What one site says costs that site, and not the others their run."""
    one = opened.sites[0]
    why = refused("claim", Malformed, lambda: one.commit(1, **changes))
    assert said in why.public
    for other in opened.sites:
        other.commit(1)
    assert worker.work(opened.run) == 1


def test_a_site_that_counts_more_than_it_has_at_the_end_is_refused_at_the_door(desk, worker):
    run, made = plain(desk, 2, settings={"epochs": 1})
    worker.work(run)
    for one in made:
        one.commit(1)
    worker.work(run)
    many = {"valid": {**COUNTS, "round": 1}}
    refused("claim", Malformed, lambda: made[0].commit(2, evaluations=many))
    assert go(desk, worker, run, made).state == "completed"


@pytest.mark.parametrize("message", [None, [], "x", 1, {}, {"protocol": 2}, {"a": b"bytes"}, {1: set()}], ids=str)
def test_what_is_no_message_is_refused(desk, opened, message):
    with pytest.raises(Malformed):
        committing.commit(desk, opened.sites[0].who, opened.run, 1, Content(message, opened.base))


def test_a_message_too_deep_for_json_is_refused(desk, opened):
    deep = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(Malformed):
        committing.commit(desk, opened.sites[0].who, opened.run, 1, Content({"x": deep}, opened.base))


def test_files_belong_to_the_message(desk, opened):
    one = opened.sites[0]
    content = one.content(1)
    data, message = content.inline[FILE], content.message
    skipped = one.signed({**message, "status": "skipped", "reason": "failed"}, one.charter)
    for inline, said in (
        ({}, message),
        ({FILE: data}, skipped),
        ({FILE: data, "__cx_other.bin": data}, message),
        ({"__cx_model.bin": data}, message),
        ({"../contribution.bin": data}, message),
        ({f"__cx_{n}.bin": b"" for n in range(9)}, message),
    ):
        with pytest.raises((Malformed, TooLarge)):
            committing.commit(desk, one.who, opened.run, 1, Content(said, content.base, inline=inline))
    assert committing.commit(desk, one.who, opened.run, 1, Content(skipped, content.base))[1]


def test_a_message_is_no_place_for_tensors(desk, opened):
    refused("message", TooLarge, lambda: opened.sites[0].commit(1, reason="x" * committing.MOST_MESSAGE))
    assert desk.store.updates(opened.run, 1) == ()


def test_files_are_few_and_each_has_a_name_of_its_own(desk, opened):
    one, content = opened.sites[0], opened.sites[0].content(1)
    upload = send(desk, opened.run, 1, FILE, content.inline[FILE], one.who)
    many = {f"__cx_{n}.bin": b"" for n in range(4)}
    for inline, said in ((content.inline, "two files have one name"), (many, "more than 4 files")):
        wanted = Content(content.message, content.base, uploads=[upload.id], inline=inline)
        why = refused("file", Malformed, lambda wanted=wanted: committing.commit(desk, one.who, opened.run, 1, wanted))
        assert said in why.public


def test_a_large_file_does_not_come_inline(desk, opened):
    content = Content(opened.sites[0].content(1).message, opened.base, inline={FILE: b"x" * (2**20 + 1)})
    refused("inline", TooLarge, lambda: committing.commit(desk, opened.sites[0].who, opened.run, 1, content))
    assert desk.store.updates(opened.run, 1) == ()


# The join.


@pytest.fixture
def invited(desk):
    run = coordinator.create(desk, ANNA, spec(2, preparation={"spacing": "1 mm"})).id
    coordinator.invite(desk, ANNA, run)
    return run


def test_consent_is_to_the_spec_that_was_read(desk, invited):
    one = Plain(desk, "local0", invited)
    for digest in ("", "0" * 64, None):
        refused(
            "consent",
            Conflict,
            lambda digest=digest: committing.accept(desk, one.who, invited, digest, Content(one.joins())),
        )
    one.accept()
    member = reading.own(desk, one.who, invited)
    assert (member.state, member.consent) == ("accepted", reading.run(desk, one.who, invited).digest)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"classes": ("background", "other", "grey matter")}, "classes"),
        ({"classes": ("background", "white matter")}, "classes"),
        ({"settings": {}}, "settings"),
        ({"preparation": {"spacing": "2 mm"}}, "preparation"),
        ({"preparation": {}}, "preparation"),
        ({"steps": -1}, "message"),
        ({"steps": 7}, "claim"),
        ({"scans": {"train": 0, "valid": 0, "test": 0}}, "message"),
        ({"scans": {"train": 2**63, "valid": 0, "test": 0}}, "message"),
    ],
    ids=str,
)
def test_a_site_that_does_not_fit_is_told_when_it_accepts(desk, invited, changes, code):
    one = Plain(desk, "local0", invited)
    refused(code, Malformed, lambda: one.accept(**changes))
    assert reading.own(desk, one.who, invited).state == "invited"


def test_a_site_that_declines_is_out(desk, invited):
    one = Plain(desk, "local0", invited)
    site.decline(desk, one.who, invited)
    assert site.decline(desk, one.who, invited).state == "declined"
    with pytest.raises(Gone):
        one.accept()
    with pytest.raises(Conflict):
        coordinator.start(desk, ANNA, invited)


def test_who_accepts_too_late_is_not_in_it(desk, invited):
    Plain(desk, "local0", invited).accept()
    coordinator.start(desk, ANNA, invited)
    refused("round_closed", Conflict, Plain(desk, "local1", invited).accept)
    with pytest.raises(Forbidden):
        committing.commit(desk, who("local1"), invited, 1, Content({}))


def test_a_site_of_which_consent_is_taken_back_before_the_start_does_not_count(desk, worker, invited):
    made = [Plain(desk, f"local{n}", invited) for n in range(2)]
    for one in made:
        one.accept()
    site.leave(desk, made[1].who, invited, "no consent any more")
    coordinator.start(desk, ANNA, invited)
    worker.work(invited)
    assert dict(reading.step(desk, ROOT, invited, 0).frozen).keys() == {"local0"}
    assert reading.step(desk, ROOT, invited).expected == ("local0",)
    with pytest.raises(Gone):
        made[1].commit(1)


def test_models_are_for_those_who_have_accepted(desk, worker, invited):
    Plain(desk, "local0", invited).accept()
    coordinator.start(desk, ANNA, invited)
    worker.work(invited)
    for caller in (who("local0"), ANNA):
        assert reading.content(desk, caller, invited, 0, "__cx_model.bin")
    with pytest.raises(Forbidden):
        reading.link(desk, who("local1"), invited, 0, "__cx_model.bin")
    for name in ("", "x", "../key"):
        with pytest.raises(Unknown):
            reading.link(desk, ANNA, invited, 0, name)


# All at once.


def test_twelve_pairs_at_the_same_instant_lose_nothing(tmp_path):
    """What the original lost twelve times of twelve."""
    store = SqliteStore(tmp_path / "service.db")
    desk = Desk(store, Files(tmp_path / "files", small=store.shelf), together=store.together)
    with Worker(desk, tmp_path / "work") as worker:
        run, made = plain(desk, 2, settings={"epochs": 12})
        worker.work(run)
        with ThreadPoolExecutor(4) as pool:
            for number in range(1, 13):
                contents = [one.content(number) for one in made]
                # Each twice, as a client does whose answer got lost.
                sent = list(
                    pool.map(
                        lambda pair, number=number: committing.commit(desk, pair[0].who, run, number, pair[1]),
                        list(zip(made, contents, strict=True)) * 2,
                    )
                )
                assert sorted(new for _, new in sent) == [False, False, True, True]
                assert worker.work(run) == 1
                frozen = dict(desk.store.step(run, number).frozen)
                assert frozen == {update.site: update.digest for update, _ in sent}
    store.close()


def test_a_store_that_fails_in_the_middle_commits_nothing(desk, opened, monkeypatch):
    def broken(*changes):
        raise StoreBroken("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(desk.store, "write", broken)
        with pytest.raises(MeshNetError):
            opened.sites[0].commit(1)
    assert opened.sites[0].commit(1)[1]
