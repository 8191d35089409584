"""What every store must do; each test runs over each of them."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.protocol import (
    Answer,
    Event,
    File,
    Membership,
    Presence,
    Result,
    Run,
    Session,
    Step,
    Stored,
    Update,
    Upload,
    identifier,
)
from service.protocol.transitions import moved
from service.store.base import Contended, Create, Drop, Hold, Put, Replace

A, B = identifier(1_000), identifier(2_000)
RUN = Run(A, "anna", "draft", "{}", "d" * 64, 1, 1)
STEP = Step(A, 3, "train", ("a", "b"), 10, frozen=(("a", "x"),), round=2)
RESULT = Result(
    "{}",
    (File("__cx_model.bin", 5, "e" * 64),),
    (File("index.html", 9, "e" * 64),),
    "runs/x/state",
    "f" * 64,
    False,
    12,
)
STORED = Stored("__cx_contribution.bin", 5, "e" * 64, "runs/x")
UPDATE = Update(A, 3, "a", "site-a", '{"loss":1.5}', (STORED,), "d" * 64, 11)
UPLOAD = Upload(A, 3, "a", "site-a", B, STORED, 900)
MEMBER = Membership(A, "site-a", "site", "invited", site="a")
EVENT = Event(A, B, 5, "created", "coordinator", -1, {"spec": "ü", "deep": [1, None, {"x": 1.5}]})
ANSWER = Answer("anna", "runs", "key", "b" * 64, A, 800)
SESSION = Session("c" * 64, "anna", "sealed", 700, 800)


def test_every_record_comes_back_as_it_went(store):
    presence = Presence(A, "site-a", 7, "training")
    step = replace(STEP, result=RESULT, state="published")
    store.write(*map(Create, (RUN, step, UPDATE, UPLOAD, MEMBER, EVENT, ANSWER, SESSION)), Put(presence))
    assert store.run(A) == RUN
    assert store.step(A, 3) == step
    assert store.update(A, 3, "a") == UPDATE
    assert store.upload(A, 3, "a", B) == UPLOAD
    assert store.membership(A, "site-a") == MEMBER
    assert store.presences(A) == (presence,)
    assert store.events(A, "", 10) == ((EVENT,), B)
    assert store.answer("anna", "runs", "key") == ANSWER
    assert store.session("c" * 64) == SESSION


def test_what_is_not_there_is_none_or_nothing(store):
    assert store.run(A) is None
    assert store.step(A, 0) is None
    assert store.membership(A, "x") is None
    assert store.update(A, 0, "a") is None
    assert store.upload(A, 0, "a", B) is None
    assert store.answer("a", "b", "c") is None
    assert store.session("") is store.session(A) is store.session("c" * 64) is None
    assert store.updates(A, 0) == store.uploads(A, 0) == store.memberships(A) == store.presences(A) == ()
    assert store.events(A, "", 5) == ((), "")
    assert store.runs("", 5) == store.active("", 5) == store.steps(A, "", 5) == ((), "")


def test_a_record_is_created_once(store):
    store.write(Create(RUN))
    with pytest.raises(Contended):
        store.write(Create(replace(RUN, owner="bert")))
    assert store.run(A).owner == "anna"


def test_a_record_is_replaced_from_the_version_before_only(store):
    store.write(Create(RUN))
    second = moved(RUN, state="inviting")
    store.write(Replace(second))
    for stale in (moved(RUN, state="aborted"), replace(second, version=5), replace(second, version=0)):
        with pytest.raises(Contended):
            store.write(Replace(stale))
    with pytest.raises(Contended):
        store.write(Replace(replace(second, id=B)))
    assert store.run(A) == second


def test_a_record_can_be_held_without_changing_it(store):
    store.write(Create(STEP))
    store.write(Hold(STEP), Create(UPDATE))
    store.write(Replace(moved(STEP)))
    with pytest.raises(Contended):
        store.write(Hold(STEP), Create(replace(UPDATE, site="b")))
    with pytest.raises(Contended):
        store.write(Hold(RUN))
    assert len(store.updates(A, 3)) == 1


def test_all_changes_happen_or_none(store):
    store.write(Create(RUN))
    changes = [Create(STEP), Put(Presence(A, "x", 1, "training")), Create(EVENT), Create(RUN)]
    with pytest.raises(Contended):
        store.write(*changes)
    with pytest.raises(Contended):
        store.write(Create(STEP), Replace(replace(RUN, version=9)))
    assert store.step(A, 3) is None
    assert store.presences(A) == ()
    assert store.events(A, "", 9) == ((), "")
    assert store.active("", 9) == ((), "")


def test_what_may_go_goes(store):
    store.write(Create(UPLOAD), Create(ANSWER), Create(SESSION))
    store.write(Drop(UPLOAD), Drop(ANSWER), Drop(SESSION))
    store.write(Drop(UPLOAD))
    assert store.uploads(A, 3) == ()
    assert store.answer("anna", "runs", "key") is None
    assert store.session(SESSION.id) is None


def test_a_session_changes_by_its_version_and_outlives_every_run(store):
    store.write(Create(RUN), Create(SESSION))
    newer = moved(SESSION, sealed="x" * 9_000)
    store.write(Replace(newer))
    for stale in (moved(SESSION), moved(replace(SESSION, id="e" * 64))):
        with pytest.raises(Contended):
            store.write(Replace(stale))
    with pytest.raises(Contended):
        store.write(Create(SESSION))
    store.forget(A)
    store.forget(SESSION.id)
    assert store.session(SESSION.id) == newer
    store.write(Drop(newer))
    with pytest.raises(Contended):  # renewed by another tab after the logout
        store.write(Replace(moved(newer)))
    assert store.session(SESSION.id) is None


def test_a_presence_is_the_last_one(store):
    for seen in (1, 2):
        store.write(Put(Presence(A, "site-a", seen, "training")))
    assert [one.seen for one in store.presences(A)] == [2]


def test_lists_are_of_one_run_and_one_step_only(store):
    for run in (A, B):
        store.write(Create(replace(MEMBER, run=run)), Put(Presence(run, "site-a", 1, "waiting")))
        for step in (1, 12, 2):
            upload = replace(UPLOAD, run=run, step=step)
            store.write(
                Create(replace(UPDATE, run=run, step=step)), Create(upload), Create(replace(STEP, run=run, number=step))
            )
    assert [(one.run, one.step) for one in store.updates(B, 1)] == [(B, 1)]
    assert [(one.run, one.step) for one in store.uploads(A, 2)] == [(A, 2)]
    assert [one.run for one in store.memberships(B)] == [B]
    assert [one.run for one in store.presences(B)] == [B]
    assert [one.number for one in store.steps(A, "", 9)[0]] == [1, 2, 12]


def test_lists_are_sorted(store):
    for site in ("c", "a", "B", "b"):
        store.write(Create(replace(UPDATE, site=site)), Create(replace(MEMBER, subject=site)))
    assert [one.site for one in store.updates(A, 3)] == ["B", "a", "b", "c"]
    assert [one.subject for one in store.memberships(A)] == ["B", "a", "b", "c"]


def _paged(read, limit):
    found, cursor = [], ""
    while True:
        page, cursor = read(cursor, limit)
        assert len(page) <= limit
        found += page
        if not cursor or not page:
            return found


@pytest.mark.parametrize("limit", [1, 2, 5, 6, 7])
def test_cursors_lose_nothing_and_repeat_nothing(store, limit):
    runs = [replace(RUN, id=identifier(1_000 * number)) for number in range(6)]
    for number, run in enumerate(runs):
        store.write(
            Create(run),
            Create(replace(MEMBER, run=run.id)),
            Create(replace(MEMBER, run=run.id, subject="site-b")),
            Create(replace(STEP, run=run.id, number=0)),
            Create(replace(STEP, run=A, number=number + 20)),
            Create(replace(EVENT, id=identifier(5_000 + number))),
        )
    ids = [run.id for run in runs]
    assert [run.id for run in _paged(store.runs, limit)] == ids[::-1]
    of = _paged(lambda after, most: store.memberships_of("site-a", after, most), limit)
    assert [one.run for one in of] == ids[::-1]
    steps = _paged(lambda after, most: store.steps(A, after, most), limit)
    assert [step.number for step in steps] == list(range(20, 26))
    assert {(step.run, step.number) for step in _paged(store.active, limit)} == {
        *((id, 0) for id in ids),
        *((A, number) for number in range(20, 26)),
    }
    assert len(_paged(store.active, limit)) == 12
    events = _paged(lambda after, most: store.events(A, after, most), limit)
    assert len({event.id for event in events}) == len(events) == 6


def test_an_event_cursor_finds_what_came_after_it(store):
    store.write(Create(EVENT))
    _, cursor = store.events(A, "", 5)
    assert store.events(A, cursor, 5) == ((), cursor)
    later = replace(EVENT, id=identifier(9_000_000))
    store.write(Create(later))
    assert store.events(A, cursor, 5) == ((later,), later.id)


def test_a_step_is_active_until_it_is_published_or_cancelled(store):
    step = STEP
    store.write(Create(step))
    for state, active in (("aggregating", 1), ("open", 1), ("published", 0), ("open", 1), ("cancelled", 0)):
        step = moved(step, state=state)
        store.write(Replace(step))
        assert len(store.active("", 5)[0]) == active


def test_a_run_is_forgotten_whole_and_alone(store):
    for run in (A, B):
        store.write(
            Create(replace(RUN, id=run)),
            *(Create(replace(record, run=run)) for record in (STEP, UPDATE, UPLOAD, MEMBER, EVENT)),
            Put(Presence(run, "site-a", 1, "waiting")),
        )
    for _ in range(2):
        store.forget(A)
    assert store.run(A) is None
    assert store.updates(A, 3) == store.uploads(A, 3) == store.memberships(A) == store.presences(A) == ()
    assert store.memberships_of("site-a", "", 9)[0] == (replace(MEMBER, run=B),)
    assert store.events(A, "", 9)[0] == store.steps(A, "", 9)[0] == ()
    assert len(store.active("", 9)[0]) == 1
    assert store.step(B, 3) == replace(STEP, run=B)
    store.write(Create(RUN))


def test_what_has_expired_may_be_swept_and_nothing_else(store):
    fresh = replace(UPLOAD, id=A, expires=5_000)
    lasting = replace(SESSION, id="e" * 64, expires=5_000)
    store.write(*map(Create, (UPLOAD, fresh, ANSWER, RUN, SESSION, lasting)))
    store.sweep(1_000)
    assert store.session(lasting.id) == lasting
    assert fresh in store.uploads(A, 3)
    assert store.run(A) == RUN


@pytest.mark.parametrize("text", ["", "ünïcode ☃ 🧠", "a\x00b", "'; DROP TABLE run; --", "x" * 190_000])
def test_any_text_can_be_kept(store, text):
    store.write(Create(replace(UPDATE, message=text)))
    assert store.update(A, 3, "a").message == text


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), st.integers(0, 2**53))
def test_any_name_and_time_can_be_kept(store, text, number):
    run = Run(identifier(number % 2**40), text, "draft", text, "", number, number)
    store.write(Create(run))
    assert store.run(run.id) == run


def test_of_many_that_create_one_record_one_does(store):
    def create(number):
        try:
            store.write(Create(replace(RUN, owner=str(number))))
        except Contended:
            return 0
        return 1

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(create, range(16))) == 1


def test_of_many_that_replace_one_version_one_does(store):
    store.write(Create(STEP))

    def claim(number):
        try:
            store.write(Replace(moved(STEP, owner=str(number))))
        except Contended:
            return []
        return [str(number)]

    with ThreadPoolExecutor(16) as pool:
        winners = [owner for owners in pool.map(claim, range(16)) for owner in owners]
    assert [store.step(A, 3).owner] == winners


def test_many_writers_lose_nothing(store):
    def count(number):
        for index in range(5):
            while True:
                run = store.run(A)
                try:
                    store.write(
                        Replace(moved(run, step=run.step + 1)), Create(replace(UPDATE, step=index, site=f"s{number}"))
                    )
                    break
                except Contended:
                    pass

    store.write(Create(replace(RUN, step=0)))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, range(8)))
    assert store.run(A).step == store.run(A).version == 40
    assert sum(len(store.updates(A, step)) for step in range(5)) == 40
