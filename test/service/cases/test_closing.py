"""Steps are closed once: claims, leases, attempts, deadlines, quorums, sites that go and come back."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from places import ANNA, ROOT, Plain, go, kinds, plain

from computation.errors import MessageError, unwritable
from computation.wire.payload import HEADER_BYTES
from service.aggregate import Centre
from service.blobs.base import BlobError
from service.cases import closing, coordinator, reading, site
from service.cases.closing import MOST_ATTEMPTS
from service.protocol import Conflict, Gone
from service.protocol.course import follow
from service.worker import Worker

LEASE = 60_000


@pytest.fixture
def opened(desk, worker):
    """A run of three sites at its first round, which all have answered."""
    run, made = plain(desk, 3, deadline=100, quorum=2, extensions=1, inactive_after=2)
    worker.work(run)
    return run, made


def commit(made, number):
    for one in made:
        one.commit(number)


def answered(desk, claim, tmp_path):
    """Return what the centre answers to a claim, computed cold."""
    before = desk.store.step(claim.run.id, claim.step.number - 1).result.state
    centre = Centre(desk, claim.run.id, tmp_path / f"cold-{claim.step.attempt}", before)
    try:
        return centre.answer(claim)
    finally:
        centre.close()


def test_a_step_is_claimed_once_of_sixteen_at_once(desk, opened):
    run, made = opened
    commit(made, 1)
    with ThreadPoolExecutor(16) as pool:
        claims = [one for one in pool.map(lambda n: closing.claim(desk, run, f"w{n}", LEASE), range(16)) if one]
    assert len(claims) == 1
    assert claims[0].step.attempt == 1
    assert [update.site for update in claims[0].updates] == ["local0", "local1", "local2"]


def test_an_open_step_waits_for_all_who_are_expected(desk, worker, opened):
    run, made = opened
    for one in made:
        assert worker.work(run) == 0
        one.commit(1)
    assert worker.work(run) == 1


def test_an_abandoned_claim_is_taken_over_after_its_lease_with_the_same_list(desk, opened):
    run, made = opened
    commit(made, 1)
    first = closing.claim(desk, run, "a", LEASE)
    assert closing.claim(desk, run, "b", LEASE) is None
    desk.clock.pass_(61)
    second = closing.claim(desk, run, "b", LEASE)
    assert (second.step.attempt, second.step.frozen, second.updates) == (2, first.step.frozen, first.updates)


def test_a_clock_that_is_set_back_leaves_no_abandoned_claim_for_longer(desk, opened, tmp_path):
    """A machine that starts with a clock far ahead sets it right when the network is there."""
    run, made = opened
    commit(made, 1)
    first = closing.claim(desk, run, "a", LEASE)
    desk.clock.pass_(-3600)
    second = closing.claim(desk, run, "b", LEASE)
    assert (second.step.attempt, second.step.frozen) == (2, first.step.frozen)
    assert closing.claim(desk, run, "c", LEASE) is None
    result = answered(desk, second, tmp_path)
    with pytest.raises(Conflict):
        closing.publish(desk, first, result)
    closing.publish(desk, second, result)


def test_a_clock_that_is_set_back_lets_no_step_wait_longer_than_steps_do(desk, worker, opened):
    run, made = opened
    commit(made[:2], 1)
    desk.clock.pass_(-86_400)
    assert worker.look() == 0
    assert desk.store.step(run, 1).deadline == desk.clock() + 100_000
    desk.clock.pass_(99)
    assert worker.look() == 0
    desk.clock.pass_(1)
    assert worker.look() == 1
    assert [site for site, _ in desk.store.step(run, 1).frozen] == ["local0", "local1"]


def test_a_renewed_claim_holds(desk, opened):
    run, made = opened
    commit(made, 1)
    first = closing.claim(desk, run, "a", LEASE)
    desk.clock.pass_(50)
    closing.renew(desk, first, LEASE)
    desk.clock.pass_(50)
    assert closing.claim(desk, run, "b", LEASE) is None
    desk.clock.pass_(11)
    assert closing.claim(desk, run, "b", LEASE)
    with pytest.raises(Conflict):
        closing.renew(desk, first, LEASE)


def test_whoever_lost_its_claim_publishes_nothing(desk, opened, tmp_path):
    run, made = opened
    commit(made, 1)
    first = closing.claim(desk, run, "a", LEASE)
    made_by_first = answered(desk, first, tmp_path)
    desk.clock.pass_(61)
    second = closing.claim(desk, run, "b", LEASE)
    with pytest.raises(Conflict) as caught:
        closing.publish(desk, first, made_by_first)
    assert caught.value.code == "fenced"
    assert reading.run(desk, ROOT, run).step == 1
    made_by_second = answered(desk, second, tmp_path)
    closing.publish(desk, second, made_by_second)
    # Too late, the first comes again: the same bytes are published, so it is content.
    assert made_by_first.result.digest == made_by_second.result.digest
    assert closing.publish(desk, first, made_by_first).step == 2
    other = replace(made_by_first, result=replace(made_by_first.result, digest="0" * 64))
    with pytest.raises(Conflict):
        closing.publish(desk, first, other)
    assert kinds(desk, run).count("published") == 2


def test_two_attempts_come_to_the_same_bytes(desk, opened, tmp_path):
    run, made = opened
    commit(made, 1)
    results = []
    for owner in "abc":
        results.append(answered(desk, closing.claim(desk, run, owner, LEASE), tmp_path).result)
        desk.clock.pass_(61)
    assert len({(one.digest, one.message, one.files) for one in results}) == 1


def test_a_publication_whose_answer_was_lost_can_be_repeated(desk, opened, tmp_path):
    run, made = opened
    commit(made, 1)
    claim = closing.claim(desk, run, "a", LEASE)
    answer = answered(desk, claim, tmp_path)
    for _ in range(3):
        assert closing.publish(desk, claim, answer).step == 2
    assert kinds(desk, run).count("published") == 2
    assert len(desk.store.steps(run, "", 9)[0]) == 3


def test_an_abort_while_the_centre_computes_publishes_nothing(desk, opened, tmp_path):
    run, made = opened
    commit(made, 1)
    claim = closing.claim(desk, run, "a", LEASE)
    answer = answered(desk, claim, tmp_path)
    coordinator.abort(desk, ANNA, run)
    with pytest.raises(Conflict):
        closing.publish(desk, claim, answer)
    closing.stumble(desk, claim, "too late")
    assert reading.run(desk, ROOT, run).state == "aborted"
    assert closing.claim(desk, run, "b", LEASE) is None


def test_a_pause_while_the_centre_computes_is_kept(desk, worker, opened, tmp_path):
    run, made = opened
    commit(made, 1)
    claim = closing.claim(desk, run, "a", LEASE)
    coordinator.pause(desk, ANNA, run)
    answer = answered(desk, claim, tmp_path)
    after = closing.publish(desk, claim, answer)
    assert (after.state, after.step) == ("paused", 2)
    clock = desk.clock
    clock.pass_(1000)
    assert worker.look() == 0
    coordinator.resume(desk, ANNA, run)
    assert desk.store.step(run, 2).deadline == clock.now + 100_000


def test_a_run_that_has_been_forgotten_publishes_nothing(desk, opened, tmp_path):
    run, made = opened
    commit(made, 1)
    claim = closing.claim(desk, run, "a", LEASE)
    answer = answered(desk, claim, tmp_path)
    desk.store.forget(run)
    with pytest.raises(Conflict):
        closing.publish(desk, claim, answer)


def test_a_deadline_closes_with_the_quorum(desk, worker, opened):
    run, made = opened
    commit(made[:2], 1)
    desk.clock.pass_(99)
    assert worker.look() == 0
    desk.clock.pass_(1)
    assert worker.look() == 1
    verdict = json.loads(desk.store.step(run, 1).result.message)
    assert verdict["counted"] == ["local0", "local1"]
    assert verdict["skipped"] == {"local2": "absent"}


def test_below_the_quorum_a_deadline_is_moved_and_then_the_run_fails(desk, worker, opened):
    run, made = opened
    made[0].commit(1)
    desk.clock.pass_(100)
    assert worker.look() == 0
    assert desk.store.step(run, 1).extended == 1
    made[1].commit(1)
    desk.clock.pass_(100)
    assert worker.look() == 1
    for _ in range(3):
        assert worker.look() == 0
        desk.clock.pass_(100)
    now = reading.run(desk, ROOT, run)
    assert (now.state, now.reason) == ("failed", "quorum")
    assert now.detail == "0 sites had committed to step 2; wanted the quorum of 2"
    assert desk.store.active("", 9) == ((), "")
    with pytest.raises(Gone):
        made[0].commit(2)
    assert kinds(desk, run)[-3:] == ["published", "extended", "failed"]


def test_a_site_that_misses_steps_is_not_waited_for_and_may_come_back(desk, worker, opened):
    run, made = opened
    for number in (1, 2):
        commit(made[:2], number)
        desk.clock.pass_(100)
        assert worker.look() == 1
    assert reading.own(desk, made[2].who, run).state == "inactive"
    with pytest.raises(Conflict, match="rejoin"):
        made[2].commit(3)
    commit(made[:2], 3)
    assert worker.work(run) == 1  # at once: nobody is waited for
    site.rejoin(desk, made[2].who, run)
    assert site.rejoin(desk, made[2].who, run).state == "accepted"
    assert desk.store.step(run, 4).expected == ("local0", "local1", "local2")
    commit(made, 4)
    worker.work(run)
    assert len(desk.store.step(run, 4).frozen) == 3
    assert go(desk, worker, run, made).state == "completed"


def test_a_step_missed_now_and_then_is_forgiven(desk, worker, opened):
    run, made = opened
    for number in (1, 2, 3):
        commit(made if number == 2 else made[:2], number)
        desk.clock.pass_(100)
        assert worker.look() == 1
    assert reading.own(desk, made[2].who, run).state == "accepted"


def test_a_site_that_leaves_is_not_waited_for(desk, worker, opened):
    run, made = opened
    commit(made[:2], 1)
    assert worker.work(run) == 0
    site.leave(desk, made[2].who, run, "its disk died")
    assert worker.work(run) == 1
    assert desk.store.events(run, "", 99)[0][-2].detail == {"why": "its disk died"}
    with pytest.raises(Gone):
        made[2].commit(2)
    with pytest.raises(Conflict):
        site.rejoin(desk, made[2].who, run)


def test_what_a_site_committed_before_it_left_does_not_count(desk, worker, opened):
    run, made = opened
    commit(made, 1)
    site.leave(desk, made[2].who, run)
    worker.work(run)
    assert dict(desk.store.step(run, 1).frozen).keys() == {"local0", "local1"}


def test_a_run_that_all_sites_leave_ends(desk, worker, opened):
    run, made = opened
    for one in made:
        site.leave(desk, one.who, run)
    for _ in range(3):
        desk.clock.pass_(100)
        worker.look()
    assert reading.run(desk, ROOT, run).reason == "quorum"


def test_who_leaves_between_the_claim_and_the_list_does_not_count(desk, opened, monkeypatch):
    """The claim closes the step, and only then is the list made: nothing can slip in between."""
    run, made = opened
    commit(made[:2], 1)
    desk.clock.pass_(100)
    write = desk.store.write

    def late(*changes):
        write(*changes)
        monkeypatch.setattr(desk.store, "write", write)
        with pytest.raises(Conflict):
            made[2].commit(1)

    monkeypatch.setattr(desk.store, "write", late)
    claim = closing.claim(desk, run, "a", LEASE)
    assert [update.site for update in claim.updates] == ["local0", "local1"]


def test_a_claim_that_died_before_its_list_is_taken_over(desk, opened, monkeypatch):
    run, made = opened
    commit(made[:2], 1)
    desk.clock.pass_(100)
    write, calls = desk.store.write, []

    def dies(*changes):
        calls.append(changes)
        if len(calls) == 2:
            raise KeyboardInterrupt
        write(*changes)

    monkeypatch.setattr(desk.store, "write", dies)
    with pytest.raises(KeyboardInterrupt):
        closing.claim(desk, run, "a", LEASE)
    monkeypatch.undo()
    assert desk.store.step(run, 1).frozen == ()
    desk.clock.pass_(61)
    claim = closing.claim(desk, run, "b", LEASE)
    assert [site for site, _ in claim.step.frozen] == ["local0", "local1"]


def test_the_result_is_the_mean_of_the_list(desk, worker, opened):
    run, made = opened
    commit(made[1:], 1)
    desk.clock.pass_(100)
    worker.look()
    data = reading.content(desk, ANNA, run, 1, "__cx_combination.bin")
    wanted = np.mean([one.values(1).astype("f8") for one in made[1:]], axis=0)
    np.testing.assert_allclose(np.frombuffer(data[HEADER_BYTES:], "<f4"), wanted, rtol=1e-6, atol=1e-7)


def test_what_fails_is_tried_again_and_then_ends_the_run(desk, worker, opened, monkeypatch, caplog):
    run, made = opened
    commit(made, 1)

    def fails(self, claim):
        raise MessageError("the centre's call 2: no luck")

    with monkeypatch.context() as patched:
        patched.setattr(Centre, "answer", fails)
        worker.work(run)
    now = reading.run(desk, ROOT, run)
    assert (now.state, now.reason, now.detail) == ("failed", "centre", "the centre's call 2: no luck")
    assert kinds(desk, run).count("attempt failed") == 1
    assert "Traceback" not in caplog.text


def test_what_fails_once_leaves_the_same_result(desk, worker, opened, monkeypatch, tmp_path):
    run, made = opened
    commit(made, 1)
    answer, failed = Centre.answer, []

    def once(self, claim):
        result = answer(self, claim)
        if not failed:
            failed.append(result.result.digest)
            raise OSError(28, "no space")
        return result

    monkeypatch.setattr(Centre, "answer", once)
    assert worker.work(run) == 0
    desk.clock.pass_(2)
    assert worker.work(run) == 1
    assert desk.store.step(run, 1).attempt == 2
    assert desk.store.step(run, 1).result.digest == failed[0]


@pytest.mark.parametrize(
    "error",
    [OSError(28, "no space"), BlobError("its disk is full"), MessageError(f"x: {unwritable('output')}")],
    ids=repr,
)
def test_a_disk_that_is_full_for_minutes_ends_no_run(desk, worker, opened, monkeypatch, error):
    run, made = opened
    commit(made, 1)

    def full(self, claim):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(Centre, "answer", full)
        for _ in range(240):
            desk.clock.pass_(1)
            worker.look()
    assert desk.store.step(run, 1).attempt < MOST_ATTEMPTS
    desk.clock.pass_(60)
    assert worker.look() == 1


def test_a_worker_that_dies_again_and_again_ends_the_run(desk, opened):
    run, made = opened
    commit(made, 1)
    for number in range(MOST_ATTEMPTS):
        assert closing.claim(desk, run, f"w{number}", LEASE)
        desk.clock.pass_(61)
    assert closing.claim(desk, run, "w", LEASE) is None
    assert reading.run(desk, ROOT, run).reason == "attempts"


def test_two_workers_take_turns_and_end_in_the_same_model(desk, worker, tmp_path):
    run, made = plain(desk, 2)
    go(desk, worker, run, made)
    other, again = plain(desk, 2)
    with Worker(desk, tmp_path / "more") as second:
        for number in range(100):
            (worker, second)[number % 2].work(other)
            now = reading.run(desk, ROOT, other)
            if now.state != "running":
                break
            commit(again, now.step)
    digests = [json.loads(desk.store.step(one, 7).result.message)["model_digest"] for one in (run, other)]
    assert digests[0] == digests[1]


def test_updates_are_deleted_when_they_are_in_a_result_and_states_when_they_are_old(desk, worker, tmp_path):
    run, made = plain(desk, 2, settings={"epochs": 40})
    content = tmp_path / "files/content/runs" / run
    worker.work(run)
    for number in range(1, 41):
        commit(made, number)
        worker.work(run)
        assert not list(content.glob("steps/*/*/*"))
        assert len(list(content.glob("state/*"))) <= 33
    go(desk, worker, run, made)
    assert sorted(path.name for path in content.iterdir()) == ["content"]


def test_a_cold_worker_goes_on_from_any_piece_of_the_state(desk, tmp_path):
    run, made = plain(desk, 1, settings={"epochs": 40})
    for number in range(100):
        with Worker(desk, tmp_path / "work") as worker:
            worker.work(run)
            now = reading.run(desk, ROOT, run)
            if now.state != "running":
                break
            if number % 3:
                commit(made, now.step)
                worker.work(run)
                now = reading.run(desk, ROOT, run)
                if now.state != "running":
                    break
            commit(made, now.step)
    assert now.state == "completed"
    journal = reading.content(desk, ANNA, run, now.step, "journal.jsonl").decode()
    rounds = [line["round"] for line in map(json.loads, journal.splitlines()) if line["event"] == "round"]
    assert rounds == list(range(1, 41))


def test_a_course_is_what_the_centre_says(desk, opened):
    run, _ = opened
    now, step = reading.run(desk, ROOT, run), reading.step(desk, ROOT, run)
    assert (now.rounds, now.payload, step.phase, step.round) == (5, 22764, "train", 1)
    with pytest.raises(MessageError):
        follow(step, {})
    with pytest.raises(MessageError):
        follow(replace(step, phase="done"), {})


def test_who_never_joined_is_not_waited_for(desk, worker):
    run, _ = plain(desk, 2)
    assert reading.step(desk, ROOT, run).number == 0
    worker.work(run)
    assert reading.step(desk, ROOT, run).expected == ("local0", "local1")
    assert Plain(desk, "local0", run).commit(1)[1]
