"""Somebody else is faster: between what a verb reads and what it writes, anything may happen."""

import pytest
from places import ANNA, ROOT, Plain, plain, spec

from service.aggregate import Centre
from service.cases import closing, coordinator, reading, site
from service.protocol import Conflict, Gone, Refusal

LEASE = 60_000


@pytest.fixture
def interposed(desk, monkeypatch):
    """Return what lets something happen just before the next write."""

    def interpose(act):
        write = desk.store.write

        def later(*changes):
            monkeypatch.setattr(desk.store, "write", write)
            act()
            write(*changes)

        monkeypatch.setattr(desk.store, "write", later)

    return interpose


@pytest.fixture
def opened(desk, worker):
    run, made = plain(desk, 2, deadline=100)
    worker.work(run)
    return run, made


def closes(desk, run):
    def act():
        desk.clock.pass_(100)
        assert closing.claim(desk, run, "w", LEASE)

    return act


def test_a_commit_that_was_read_before_the_step_was_closed_is_late(desk, opened, interposed):
    run, made = opened
    made[0].commit(1)
    content = made[1]
    interposed(closes(desk, run))
    with pytest.raises(Conflict) as caught:
        content.commit(1)
    assert caught.value.code == "round_closed"
    assert [update.site for update in desk.store.updates(run, 1)] == ["local0"]
    assert [name for name, _ in desk.store.step(run, 1).frozen] == ["local0"]


@pytest.mark.parametrize(("verb", "error"), [(coordinator.pause, Conflict), (coordinator.abort, Gone)])
def test_a_commit_that_was_read_before_a_pause_or_an_abort_is_refused(desk, opened, interposed, verb, error):
    run, made = opened
    interposed(lambda: verb(desk, ANNA, run))
    with pytest.raises(error):
        made[0].commit(1)
    assert desk.store.updates(run, 1) == ()


def test_a_commit_of_a_site_that_was_just_removed_is_refused(desk, opened, interposed):
    run, made = opened
    interposed(lambda: coordinator.remove(desk, ANNA, run, "local0"))
    with pytest.raises(Refusal):
        made[0].commit(1)
    assert desk.store.updates(run, 1) == ()


def test_a_site_that_commits_twice_at_once_commits_once(desk, opened, interposed):
    run, made = opened
    interposed(lambda: made[0].commit(1))
    assert not made[0].commit(1)[1]
    assert len(desk.store.updates(run, 1)) == 1


def test_an_acceptance_that_was_read_before_the_start_is_too_late(desk, worker, interposed):
    run = coordinator.create(desk, ANNA, spec(2)).id
    coordinator.invite(desk, ANNA, run)
    made = [Plain(desk, f"local{number}", run) for number in range(2)]
    made[0].accept()
    interposed(lambda: coordinator.start(desk, ANNA, run))
    with pytest.raises(Conflict):
        made[1].accept()
    worker.work(run)
    assert reading.own(desk, made[1].who, run).state == "invited"
    assert [name for name, _ in desk.store.step(run, 0).frozen] == ["local0"]


def test_an_acceptance_that_was_read_before_a_removal_is_refused(desk, interposed):
    run = coordinator.create(desk, ANNA, spec(2)).id
    coordinator.invite(desk, ANNA, run)
    interposed(lambda: coordinator.remove(desk, ANNA, run, "local0"))
    with pytest.raises(Refusal):
        Plain(desk, "local0", run).accept()


def test_a_claim_that_was_read_before_a_site_left_is_made_without_it(desk, opened, interposed):
    run, made = opened
    for one in made:
        one.commit(1)
    interposed(lambda: site.leave(desk, made[0].who, run))
    claim = closing.claim(desk, run, "w", LEASE)
    assert [name for name, _ in claim.step.frozen] == ["local1"]


def test_a_claim_that_was_read_before_a_pause_is_not_made(desk, opened, interposed):
    run, made = opened
    for one in made:
        one.commit(1)
    interposed(lambda: coordinator.pause(desk, ANNA, run))
    assert closing.claim(desk, run, "w", LEASE) is None


def test_two_claims_at_once_are_one(desk, opened, interposed):
    run, made = opened
    for one in made:
        one.commit(1)
    interposed(lambda: closing.claim(desk, run, "a", LEASE))
    assert closing.claim(desk, run, "b", LEASE) is None
    assert desk.store.step(run, 1).owner == "a"


def test_a_deadline_is_moved_once_however_many_look(desk, worker, interposed):
    run, made = plain(desk, 2, deadline=100, quorum=2)
    worker.work(run)
    made[0].commit(1)
    desk.clock.pass_(100)
    interposed(lambda: closing.claim(desk, run, "a", LEASE))
    assert closing.claim(desk, run, "b", LEASE) is None
    assert desk.store.step(run, 1).extended == 1


def test_a_site_that_comes_back_while_the_step_is_claimed_is_in_the_next(desk, worker, interposed):
    run, made = plain(desk, 3, deadline=100, quorum=2, inactive_after=1)
    worker.work(run)
    for one in made[:2]:
        one.commit(1)
    desk.clock.pass_(100)
    worker.look()
    for one in made[:2]:
        one.commit(2)
    interposed(lambda: closing.claim(desk, run, "w", LEASE))
    site.rejoin(desk, made[2].who, run)
    assert [name for name, _ in desk.store.step(run, 2).frozen] == ["local0", "local1"]
    desk.clock.pass_(61)
    worker.look()
    assert desk.store.step(run, 3).expected == ("local0", "local1", "local2")


def test_a_site_that_comes_back_while_the_step_is_published_is_in_the_next(desk, worker, interposed, tmp_path):
    run, made = plain(desk, 3, deadline=100, quorum=2, inactive_after=1)
    worker.work(run)
    for one in made[:2]:
        one.commit(1)
    desk.clock.pass_(100)
    worker.look()
    for one in made[:2]:
        one.commit(2)
    claim = closing.claim(desk, run, "w", LEASE)
    centre = Centre(desk, run, tmp_path / "centre", desk.store.step(run, 1).result.state)
    answer = centre.answer(claim)
    centre.close()
    interposed(lambda: site.rejoin(desk, made[2].who, run))
    closing.publish(desk, claim, answer)
    assert desk.store.step(run, 3).expected == ("local0", "local1", "local2")


def test_who_comes_back_between_two_steps_looks_again(desk, worker, interposed):
    run, made = plain(desk, 3, deadline=100, quorum=2, inactive_after=1)
    worker.work(run)
    for number in (1, 2):
        for one in made[:2]:
            one.commit(number)
        if number == 1:
            desk.clock.pass_(100)
            worker.look()
    interposed(lambda: worker.work(run))
    site.rejoin(desk, made[2].who, run)
    assert desk.store.step(run, 3).expected == ("local0", "local1", "local2")


def test_of_two_coordinators_at_once_one_is_told(desk, opened, interposed):
    run, _ = opened
    interposed(lambda: coordinator.abort(desk, ROOT, run))
    with pytest.raises(Gone):
        coordinator.pause(desk, ANNA, run)
    assert reading.run(desk, ROOT, run).state == "aborted"
