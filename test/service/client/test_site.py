"""A site before a service that is late, confused or hostile: it goes on where it can, and stops where it must."""

import random

import pytest

pytest.importorskip("httpx", reason="THE SERVICE IS NOT TESTED: its extra is not installed")

from computation.coinstac.carried import Answer
from computation.errors import MeshNetError
from service.client import site as sites
from service.client.journal import Begun, Journal, Pending
from service.client.link import Refused
from service.client.replies import Linked, Moment, Signed, Told
from service.client.site import RunEnded, Site

BASES = ["", *(f"{number:064x}" for number in range(1, 20))]


class Handler:
    """Answers like `Carried`, and remembers what it was asked."""

    def __init__(self, iteration=0):
        self.iteration, self.calls = iteration, []

    def call(self, iteration, message, files=None, *, missed=False):
        assert iteration in (self.iteration, self.iteration + 1)
        self.iteration = iteration
        self.calls.append((iteration - 1, missed))
        return Answer({"of": iteration - 1}, {} if missed else {"__cx_contribution.bin": b"x"})


class Served:
    """A run with a few steps: what others commit and when is the test's."""

    def __init__(self, last=3, at=0):
        self.last, self.at, self.state, self.member, self.expected = last, at, "running", "accepted", True
        self.commits, self.refusals, self.open = [], [], True

    def moment(self):
        if self.at > self.last:
            return Moment("completed", "", "", self.last, False, True, BASES[self.last], self.member)
        return Moment(self.state, "why", "", self.at, self.open, self.expected, BASES[self.at], self.member)

    def accept(self, consent, answer):
        self.commit(answer)

    def commit(self, answer, wait=0):
        if self.refusals:
            status, code, then = self.refusals.pop(0)
            then(self)
            raise Refused(status, code, "refused", {})
        assert answer.step == self.at and answer.base == BASES[self.at]
        self.commits.append(answer.step)
        self.at += 1
        return self.told(answer.step, wait) if wait else None

    def told(self, step, wait=0):
        file = Linked("__cx_model.bin", 1, "", Signed("/x"), b"y")
        return Told({"step": step}, (file,), BASES[step + 1], step == self.last) if step < self.at else None

    def file(self, step, told, name):
        return b"y"

    def rejoin(self):
        self.member, self.expected = "accepted", True


@pytest.fixture
def begun(tmp_path, monkeypatch):
    monkeypatch.setattr(sites.time, "sleep", lambda seconds: None)

    def made(served, handler=None):
        handler = handler or Handler()
        return Site(served, handler, Journal(tmp_path), {"set": 1}), handler

    return made


def test_a_run_from_the_join_to_its_end(begun):
    served = Served()
    site, handler = begun(served)
    site.join("consent")
    site.work()
    assert served.commits == [0, 1, 2, 3]
    assert handler.calls == [(0, False), (1, False), (2, False), (3, False)]


def test_who_comes_late_takes_over_and_computes_only_the_open_step(begun):
    served = Served(last=6, at=4)
    site, handler = begun(served, Handler(1))
    site.work()
    assert handler.calls == [(1, True), (2, True), (3, True), (4, False), (5, False), (6, False)]
    assert served.commits == [4, 5, 6]


def test_who_comes_after_the_end_still_takes_all_results(begun):
    served = Served(last=3, at=4)
    site, handler = begun(served, Handler(2))
    site.work()
    assert handler.calls == [(2, True), (3, True)] and not served.commits


def moved(served):
    served.at += 1


def away(served):
    served.member, served.expected = "inactive", False


@pytest.mark.parametrize(
    ("refusal", "commits"),
    [
        ((409, "round_closed", moved), [1, 3]),
        ((409, "other_content", moved), [1, 3]),
        ((409, "run_paused", lambda served: None), [1, 2, 3]),
        ((409, "deadline_passed", lambda served: None), [1, 2, 3]),
        ((409, "inactive", away), [1, 2, 3]),
        ((409, "not_expected", away), [1, 2, 3]),
    ],
    ids=lambda one: one[1] if isinstance(one, tuple) else "",
)
def test_a_commit_that_does_not_count_is_gone_on_from(begun, refusal, commits):
    served = Served(at=1)
    site, handler = begun(served, Handler(1))
    commit = served.commit

    def once(answer, wait=0):
        if answer.step == 2 and refusal not in seen:
            seen.append(refusal)
            served.refusals.append(refusal)
        return commit(answer, wait)

    seen, served.commit = [], once
    site.work()
    assert served.commits == commits
    assert [step for step, _ in handler.calls] == [1, 2, 3]  # each is computed once


@pytest.mark.parametrize("code", ["wrong_model", "wrong_base", "malformed", ""])
def test_a_refusal_that_time_does_not_mend_ends_the_site(begun, code):
    served = Served(at=1)
    served.refusals.append((422, code, lambda served: None))
    with pytest.raises(Refused):
        begun(served, Handler(1))[0].work()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"state": "failed"}, r"the run is failed \(why\)"),
        ({"state": "aborted"}, "the run is aborted"),
        ({"member": "removed"}, "been taken out of the run"),
        ({"member": "left"}, "left the run"),
    ],
)
def test_a_run_that_ends_otherwise_is_told(begun, change, told):
    served = Served(at=1)
    vars(served).update(change)
    with pytest.raises(RunEnded, match=told):
        begun(served, Handler(1))[0].work()


def test_a_service_that_forgets_or_answers_something_else_is_left(begun):
    with pytest.raises(MeshNetError, match="forgotten"):
        begun(Served(at=1), Handler(5))[0].work()
    served = Served(at=2)
    served.moment = lambda: Moment("running", "", "", 2, True, True, "ff" * 32, "accepted")
    with pytest.raises(MeshNetError, match="answers another result"):
        begun(served, Handler(2))[0].work()
    served = Served(at=3)
    served.told = lambda step, wait=0: None
    with pytest.raises(MeshNetError, match="no result of step 0"):
        begun(served, Handler(1))[0].work()


def test_who_is_started_again_sends_what_was_written_down_and_computes_nothing_twice(begun, tmp_path):
    Journal(tmp_path).keep(Pending(2, BASES[2], {"of": "before"}, {"__cx_contribution.bin": b"kept"}))
    served = Served(last=2, at=2)
    seen = []
    commit = served.commit
    served.commit = lambda answer, wait=0: (seen.append(answer), commit(answer, wait))[1]
    site, handler = begun(served, Handler(3))
    site.work()
    assert not handler.calls and seen[0].message == {"of": "before"}


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", '{"step": 2}', '{"step": 2, "files": 7}'])
def test_a_damaged_answer_is_computed_again(begun, tmp_path, damage):
    (tmp_path / "answer.bin").write_text(damage)
    served = Served(last=2, at=2)
    site, handler = begun(served, Handler(3))
    site.work()
    assert handler.calls == [(2, False)] and served.commits == [2]


def test_a_file_that_changed_after_it_was_written_down_is_made_again(tmp_path):
    journal = Journal(tmp_path)
    journal.keep(Pending(1, BASES[1], {}, {"__cx_contribution.bin": b"kept"}))
    assert journal.pending(1).files == {"__cx_contribution.bin": b"kept"} and journal.pending(2) is None
    whole = (tmp_path / "answer.bin").read_bytes()
    for damaged in (whole[:-1], whole[:-4] + b"keep", whole[1:], whole.replace(b"4", b"5", 1), b"\n" + whole):
        (tmp_path / "answer.bin").write_bytes(damaged)
        assert journal.pending(1) is None


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"run": 1}', '{"run": "a", "site": "b", "spec": "c", "more": 1}'])
def test_a_damaged_record_of_the_run_is_said(tmp_path, damage):
    journal = Journal(tmp_path)
    assert journal.begun() is None
    journal.begin(Begun("run", "site", "spec"))
    assert journal.begun() == Begun("run", "site", "spec")
    (tmp_path / "joined.json").write_text(damage)
    with pytest.raises(MeshNetError, match="damaged"):
        journal.begun()


def test_any_order_of_refusals_and_steps_ends(begun, tmp_path):
    draws = random.Random(0)
    kinds = [("round_closed", moved), ("other_content", moved), ("run_paused", lambda served: None), ("inactive", away)]
    for _ in range(50):
        served = Served(last=8, at=1)
        commit = served.commit

        def hindered(answer, wait=0, commit=commit, served=served):
            if draws.random() < 0.4 and served.at < served.last:
                code, then = draws.choice(kinds)
                served.refusals.append((409, code, then))
            return commit(answer, wait)

        served.commit = hindered
        site, handler = begun(served, Handler(1))
        site.work()
        steps = [step for step, _ in handler.calls]
        assert steps == list(range(1, 9)) and served.commits == sorted(set(served.commits))
