import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import ANNA, BARE, EVE, ROOT, Plain, go, kinds, plain, spec, who

from computation.errors import MeshNetError
from service.cases import coordinator, reading, site
from service.identity.principal import Principal
from service.protocol import Conflict, Forbidden, Gone, Malformed, Spec, Unknown

VERBS = [coordinator.invite, coordinator.start, coordinator.pause, coordinator.resume, coordinator.abort]


def test_a_run_passes_through_its_states(desk, worker):
    run = coordinator.create(desk, ANNA, spec(2))
    assert (run.state, run.step) == ("draft", -1)
    assert coordinator.invite(desk, ANNA, run.id).state == "inviting"
    for name in ("local0", "local1"):
        Plain(desk, name, run.id).accept()
    assert coordinator.start(desk, ANNA, run.id).state == "running"
    assert coordinator.pause(desk, ANNA, run.id).state == "paused"
    assert coordinator.resume(desk, ANNA, run.id).state == "running"
    assert coordinator.abort(desk, ANNA, run.id).state == "aborted"
    assert kinds(desk, run.id) == [
        *("created", "invited", "accepted", "committed", "accepted", "committed"),
        *("started", "paused", "resumed", "aborted"),
    ]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_can_be_repeated(desk, verb):
    run = coordinator.create(desk, ANNA, spec(1)).id
    before = {coordinator.invite: 0, coordinator.abort: 0, coordinator.start: 1, coordinator.pause: 2}.get(verb, 3)
    steps = [coordinator.invite, coordinator.start, coordinator.pause][:before]
    for step in steps:
        step(desk, ANNA, run)
        if step is coordinator.invite:
            Plain(desk, "local0", run).accept()
    first = verb(desk, ANNA, run)
    told = kinds(desk, run)
    assert verb(desk, ANNA, run) == first
    assert kinds(desk, run) == told


@pytest.mark.parametrize(
    ("state", "verb"),
    [
        ("draft", coordinator.start),
        ("draft", coordinator.pause),
        ("draft", coordinator.resume),
        ("inviting", coordinator.start),
        ("inviting", coordinator.pause),
        ("inviting", coordinator.resume),
        ("running", coordinator.invite),
        ("paused", coordinator.start),
        ("paused", coordinator.invite),
    ],
)
def test_what_a_state_does_not_allow_is_refused_and_changes_nothing(desk, state, verb):
    run = coordinator.create(desk, ANNA, spec(1)).id
    if state != "draft":
        coordinator.invite(desk, ANNA, run)
    if state in ("running", "paused"):
        Plain(desk, "local0", run).accept()
        coordinator.start(desk, ANNA, run)
    if state == "paused":
        coordinator.pause(desk, ANNA, run)
    before, told = reading.run(desk, ANNA, run), kinds(desk, run)
    with pytest.raises(Conflict):
        verb(desk, ANNA, run)
    assert (reading.run(desk, ANNA, run), kinds(desk, run)) == (before, told)


def test_nothing_changes_a_run_that_has_ended(desk):
    run, _ = plain(desk, 1)
    coordinator.abort(desk, ANNA, run)
    for verb in (coordinator.invite, coordinator.start, coordinator.pause, coordinator.resume):
        with pytest.raises(Gone):
            verb(desk, ANNA, run)
    with pytest.raises(Gone):
        coordinator.remove(desk, ANNA, run, "local0")
    assert list(desk.store.active("", 9)[0]) == []


def test_a_pause_ends_with_its_run(desk):
    run, _ = plain(desk, 1)
    assert coordinator.pause(desk, ANNA, run).paused
    assert coordinator.abort(desk, ANNA, run).paused == 0


def test_a_draft_can_be_revised_until_somebody_was_asked(desk):
    run = coordinator.create(desk, ANNA, spec(1))
    revised = coordinator.revise(desk, ANNA, run.id, spec(2, name="another"))
    assert revised.wanted.name == "another"
    assert revised.digest != run.digest
    coordinator.invite(desk, ANNA, run.id)
    with pytest.raises(Conflict):
        coordinator.revise(desk, ANNA, run.id, spec(1))


def test_a_start_needs_its_quorum(desk):
    run = coordinator.create(desk, ANNA, spec(3, quorum=2)).id
    coordinator.invite(desk, ANNA, run)
    Plain(desk, "local0", run).accept()
    with pytest.raises(Conflict, match="1 sites have accepted; wanted the quorum of 2"):
        coordinator.start(desk, ANNA, run)
    Plain(desk, "local2", run).accept()
    assert coordinator.start(desk, ANNA, run).state == "running"


def test_a_run_may_ask_for_more_sites_to_start_than_to_go_on(desk, worker):
    run = coordinator.create(desk, ANNA, spec(3, quorum=1, start_quorum=3, settings=BARE)).id
    coordinator.invite(desk, ANNA, run)
    made = [Plain(desk, f"local{index}", run) for index in range(3)]
    for one in made[:2]:
        one.accept()
    with pytest.raises(Conflict, match="2 sites have accepted; wanted the quorum of 3"):
        coordinator.start(desk, ANNA, run)
    made[2].accept()
    assert coordinator.start(desk, ANNA, run).state == "running"
    worker.work(run)
    made[0].commit(1)
    desk.clock.pass_(4000)
    worker.work(run)
    assert reading.run(desk, ANNA, run).step == 2


def test_what_sites_consented_to_before_there_was_a_start_quorum_keeps_its_digest():
    assert "start_quorum" not in Spec.parse(spec(2)).text
    assert Spec.parse(spec(2)).digest == Spec.parse(spec(2, start_quorum=0)).digest
    assert Spec.parse(spec(2, start_quorum=2)).as_json()["start_quorum"] == 2
    assert Spec.parse(Spec.parse(spec(2, start_quorum=2)).as_json()).starts == 2


def test_one_key_makes_one_run(desk):
    first = coordinator.create(desk, ANNA, spec(1), "key")
    assert coordinator.create(desk, ANNA, spec(1), "key") == first
    with pytest.raises(Conflict, match="another spec"):
        coordinator.create(desk, ANNA, spec(2), "key")
    assert coordinator.create(desk, EVE, spec(1), "key").id != first.id
    assert coordinator.create(desk, ANNA, spec(1), "another").id != first.id
    assert coordinator.create(desk, ANNA, spec(1)).id != coordinator.create(desk, ANNA, spec(1)).id


@pytest.mark.parametrize("name", ["site", "viewer"])
def test_only_coordinators_make_runs(desk, name):
    with pytest.raises(Forbidden):
        coordinator.create(desk, Principal("x", frozenset({name})), spec(1))


def test_a_strangers_run_is_no_run(desk):
    run, _ = plain(desk, 1)
    for verb in VERBS:
        with pytest.raises(Unknown):
            verb(desk, EVE, run)
    for read in (reading.run, reading.members, reading.step, reading.events, reading.steps):
        with pytest.raises(Unknown):
            read(desk, EVE, run)
    assert reading.runs(desk, EVE) == ((), "")


@pytest.mark.parametrize(
    "id", ["", "x", "../../etc/passwd", "00000000-0005-7000-9a7b-345bfcfe258e", "a" * 10_000, None, 7, "ü"]
)
def test_what_is_no_run_is_no_run(desk, id):
    for verb in (coordinator.start, reading.run, site.decline):
        with pytest.raises(Unknown):
            verb(desk, ROOT, id)


def test_a_member_that_does_not_decide_may_not(desk):
    run, made = plain(desk, 1, viewers=["vera"])
    vera = Principal("vera", frozenset({"viewer", "coordinator"}))
    for caller in (made[0].who, vera):
        assert reading.run(desk, caller, run).state == "running"
        for verb in VERBS:
            with pytest.raises(Forbidden):
                verb(desk, caller, run)
        with pytest.raises(Forbidden):
            coordinator.remove(desk, caller, run, "local0")
    with pytest.raises(Forbidden):
        coordinator.pause(desk, replace(ANNA, roles=frozenset({"viewer"})), run)


def test_an_administrator_sees_and_stops_every_run(desk):
    run, _ = plain(desk, 1)
    assert [one.id for one in reading.runs(desk, ROOT)[0]] == [run]
    assert coordinator.abort(desk, ROOT, run).state == "aborted"
    assert desk.store.events(run, "", 99)[0][-1].who == "administrator"


def test_a_removed_site_sees_nothing_any_more(desk, worker):
    run, made = plain(desk, 2)
    worker.work(run)
    coordinator.remove(desk, ANNA, run, "local1")
    with pytest.raises(Unknown):
        made[1].commit(1)
    with pytest.raises(Unknown):
        reading.run(desk, made[1].who, run)
    assert reading.runs(desk, made[1].who)[0] == ()
    assert go(desk, worker, run, made[:1]).state == "completed"
    with pytest.raises(Gone):
        coordinator.remove(desk, ANNA, run, "local0")


def test_who_is_not_there_cannot_be_removed(desk):
    run, _ = plain(desk, 1)
    for name in ("", "local7", "../x"):
        with pytest.raises(Unknown):
            coordinator.remove(desk, ANNA, run, name)


def test_a_pause_takes_no_time_away(desk, worker, clock):
    run, made = plain(desk, 2, deadline=100)
    worker.work(run)
    clock.pass_(60)
    coordinator.pause(desk, ANNA, run)
    with pytest.raises(Conflict, match="paused"):
        made[0].commit(1)
    clock.pass_(1000)
    assert worker.look() == 0
    coordinator.resume(desk, ANNA, run)
    clock.pass_(39)
    made[0].commit(1)
    assert worker.look() == 0
    clock.pass_(2)
    assert worker.look() == 1


def test_a_run_is_forgotten_when_it_has_ended_and_was_meant(desk, worker, tmp_path):
    run, made = plain(desk, 1)
    with pytest.raises(Conflict):
        coordinator.forget(desk, ANNA, run, reading.run(desk, ANNA, run).digest)
    go(desk, worker, run, made)
    with pytest.raises(Malformed):
        coordinator.forget(desk, ANNA, run, "0" * 64)
    coordinator.forget(desk, ANNA, run, reading.run(desk, ANNA, run).digest)
    with pytest.raises(Unknown):
        reading.run(desk, ANNA, run)
    assert not [path for path in (tmp_path / "files/content").rglob("*") if path.is_file()]


def test_a_coordinator_is_no_participant_of_its_own_run(desk):
    for one in ({"participants": [{"subject": "anna", "site": "a"}]}, {"viewers": ["anna"]}):
        with pytest.raises(Malformed):
            coordinator.create(desk, ANNA, spec(1, **one))


def test_no_record_of_what_happened_holds_a_subject(desk, worker):
    run, made = plain(desk, 2)
    go(desk, worker, run, made)
    text = json.dumps([vars(event) for event in desk.store.events(run, "", 1000)[0]], default=vars)
    assert "site-local" not in text
    assert "anna" not in text


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"nam": "x"}, "did you mean 'name'"),
        ({"settings": {"epoch": 2}}, "did you mean 'epochs'"),
        ({"settings": {"data": ["x"]}}, "each site sets for itself"),
        ({"settings": {"epochs": "2"}}, "'epochs' is"),
        ({"settings": []}, "settings"),
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": None}, "name"),
        ({"quorum": 3}, "at most as many as take part"),
        ({"quorum": 0}, "quorum"),
        ({"quorum": True}, "quorum"),
        ({"start_quorum": 3}, "from the quorum to as many as take part"),
        ({"quorum": 2, "start_quorum": 1}, "from the quorum to as many as take part"),
        ({"start_quorum": -1}, "start_quorum"),
        ({"deadline": 0}, "deadline"),
        ({"deadline": 1e3}, "deadline"),
        ({"deadline": 10**9}, "deadline"),
        ({"extensions": -1}, "extensions"),
        ({"inactive_after": 0}, "inactive_after"),
        ({"participants": []}, "1 to 64"),
        ({"participants": [{"subject": "a", "site": "a"}] * 2}, "names one twice"),
        ({"participants": [{"subject": "a", "site": "a"}, {"subject": "b", "site": "A"}]}, "names one twice"),
        ({"participants": [{"subject": f"s{n}", "site": f"s{n}"} for n in range(65)]}, "1 to 64"),
        ({"participants": [{"subject": "a", "site": "../a"}]}, "A-Z"),
        ({"participants": [{"subject": "a", "site": ".a"}]}, "A-Z"),
        ({"participants": [{"subject": "a", "site": "ü"}]}, "A-Z"),
        ({"participants": [{"subject": "", "site": "a"}]}, "printable"),
        ({"participants": [{"subject": "a", "site": "a", "role": "x"}]}, "subject and site"),
        ({"participants": {}}, "participants"),
        ({"viewers": ["a", "a"]}, "once"),
        ({"viewers": ["site-local0"]}, "do not take part"),
        ({"viewers": [1]}, "viewers"),
        ({"preparation": {"spacing": 1}}, "texts"),
        ({"settings": {"secure_aggregation": True}}, "setting 'secure_aggregation' is on; a round of this service"),
    ],
    ids=str,
)
def test_a_spec_that_cannot_be_is_refused_and_says_why(desk, changes, named):
    with pytest.raises(Malformed, match=named):
        coordinator.create(desk, ANNA, {**spec(2), **changes})
    assert desk.store.runs("", 9) == ((), "")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_any_json_is_a_spec_or_is_refused(raw):
    try:
        Spec.parse(raw)
    except MeshNetError as error:
        assert isinstance(error, Malformed)


def test_equal_specs_have_equal_digests_however_they_are_written():
    raw = spec(2)
    turned = dict(reversed(raw.items()))
    turned["settings"] = dict(reversed(raw["settings"].items()))
    whole = {**raw, "settings": Spec.parse(raw).settings, "quorum": 1, "viewers": []}
    assert Spec.parse(raw).digest == Spec.parse(turned).digest == Spec.parse(whole).digest
    assert Spec.parse(raw).digest != Spec.parse(spec(2, settings={"seed": 4})).digest


def test_members_see_who_does_what(desk, worker):
    run, made = plain(desk, 2)
    worker.work(run)
    site.heartbeat(desk, made[1].who, run, "training")
    made[0].commit(1)
    first, second, last = reading.members(desk, ANNA, run)
    assert (first.membership.site, bool(first.committed), first.presence) == ("local0", True, None)
    assert (second.membership.site, second.committed, second.presence.status) == ("local1", 0, "training")
    assert last.membership.role == "coordinator"
    with pytest.raises(Malformed):
        site.heartbeat(desk, made[1].who, run, "<script>")
    with pytest.raises(Forbidden):
        site.heartbeat(desk, ANNA, run, "training")
    assert who("local0") == made[0].who
