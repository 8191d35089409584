"""Any order of uploads, repeats, late ones, crashes, ended leases, pauses and ticks: every step is published once."""

import json
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from places import ANNA, ROOT, Clock, plain

from computation.wire.payload import HEADER_BYTES
from service.aggregate import Centre
from service.blobs.files import Files
from service.cases import closing, committing, coordinator, reading, site
from service.cases.desk import Desk
from service.protocol import Refusal
from service.store.memory import MemoryStore
from service.store.sqlite import SqliteStore

LEASE = 50_000
SITES = 3
who = st.integers(0, SITES - 1)


class Course(RuleBasedStateMachine):
    """One run in which everything may happen at any time."""

    store = staticmethod(lambda folder: MemoryStore())

    @initialize()
    def begin(self):
        self.folder = tempfile.TemporaryDirectory()
        place = Path(self.folder.name)
        self.clock = Clock()
        self.desk = Desk(self.store(place), Files(place / "files"), self.clock)
        self.run, self.sites = plain(
            self.desk, SITES, settings={"epochs": 2}, quorum=2, deadline=100, extensions=50, inactive_after=2
        )
        self.held, self.answers = [], []
        self.results, self.committed, self.sent = {}, {}, []
        self.number = 0
        # The join is done, so that rules begin where things can happen.
        self.claims()
        self.computes(0)
        self.publishes(0)

    @property
    def now(self):
        return reading.run(self.desk, ROOT, self.run)

    def try_(self, act):
        try:
            return act()
        except Refusal:
            return None

    @rule(one=who, seed=st.integers(0, 1), behind=st.integers(0, 2))
    def uploads(self, one, seed, behind):
        """A site commits to the open step, or to one before; the first content of each is the one that stays."""
        step = self.now.step - behind
        if step < 1:
            return
        content = self.sites[one].content(step, seed=seed)
        made = self.try_(lambda: committing.commit(self.desk, self.sites[one].who, self.run, step, content))
        if made:
            update, new = made
            assert new == ((step, one) not in self.committed)
            assert self.committed.setdefault((step, one), update.digest) == update.digest
            self.sent.append((one, step, content))

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def repeats(self, data):
        """A client whose answer was lost sends the same once more, however late."""
        one, step, content = data.draw(st.sampled_from(self.sent))
        made = self.try_(lambda: committing.commit(self.desk, self.sites[one].who, self.run, step, content))
        assert made is not None and not made[1]

    @rule()
    def claims(self):
        """A worker looks for something to do."""
        self.number += 1
        if claim := closing.claim(self.desk, self.run, f"worker-{self.number}", LEASE):
            self.held.append(claim)

    @precondition(lambda self: self.held)
    @rule(place=st.integers(0, 5))
    def computes(self, place):
        """One of the workers, which may long have lost its claim, computes from what was published."""
        claim = self.held[place % len(self.held)]
        number = claim.step.number
        before = self.desk.store.step(self.run, number - 1).result.state if number else ""
        if number and not self.there(before):
            return  # what it needs is gone, since others went on long ago
        centre = Centre(self.desk, self.run, Path(self.folder.name) / f"w{len(self.answers)}", before)
        try:
            self.answers.append((claim, centre.answer(claim)))
        finally:
            centre.close()

    def there(self, key):
        return (self.desk.blobs._folder / "content" / key).exists()

    @precondition(lambda self: self.answers)
    @rule(place=st.integers(0, 5))
    def publishes(self, place):
        """One of the workers publishes, perhaps twice, perhaps much too late."""
        claim, made = self.answers[place % len(self.answers)]
        self.try_(lambda: closing.publish(self.desk, claim, made))

    @precondition(lambda self: self.held)
    @rule(place=st.integers(0, 5))
    def stumbles(self, place):
        closing.stumble(self.desk, self.held[place % len(self.held)], "no luck", passing=True)

    @precondition(lambda self: self.held)
    @rule(place=st.integers(0, 5))
    def renews(self, place):
        self.try_(lambda: closing.renew(self.desk, self.held[place % len(self.held)], LEASE))

    @rule(seconds=st.sampled_from([1, 51, 101]))
    def time_passes(self, seconds):
        self.clock.pass_(seconds)

    @rule()
    def pauses(self):
        self.try_(lambda: coordinator.pause(self.desk, ANNA, self.run))

    @rule()
    def resumes(self):
        self.try_(lambda: coordinator.resume(self.desk, ANNA, self.run))

    @rule(one=who)
    def comes_back(self, one):
        self.try_(lambda: site.rejoin(self.desk, self.sites[one].who, self.run))

    @invariant()
    def every_step_is_published_once(self):
        if not hasattr(self, "run"):
            return
        steps = self.desk.store.steps(self.run, "", 100)[0]
        assert [step.number for step in steps] == list(range(len(steps)))
        assert all(step.state == "published" for step in steps[:-1])
        assert len([step for step in steps if step.active]) <= 1
        published = [
            event.step for event in self.desk.store.events(self.run, "", 10_000)[0] if event.kind == "published"
        ]
        assert published == [step.number for step in steps if step.result]
        for step in steps:
            if step.result:
                assert self.results.setdefault(step.number, step.result) == step.result
            if step.phase == "train" and step.result and step.number not in self.__dict__.setdefault("checked", set()):
                self.checked.add(step.number)
                self.is_the_mean(step)

    def is_the_mean(self, step):
        frozen = dict(step.frozen)
        assert len(frozen) == len(step.frozen) >= 2
        assert set(frozen) <= set(step.expected)
        for name, digest in frozen.items():
            assert self.committed[step.number, int(name[-1])] == digest
        verdict = json.loads(step.result.message)
        assert set(verdict["counted"]) == set(frozen)
        data = reading.content(self.desk, ANNA, self.run, step.number, "__cx_combination.bin")
        values = [self.value(step.number, int(name[-1]), digest) for name, digest in frozen.items()]
        wanted = np.mean([value.astype("f8") for value in values], axis=0)
        np.testing.assert_allclose(np.frombuffer(data[HEADER_BYTES:], "<f4"), wanted, rtol=1e-5, atol=1e-6)

    def value(self, number, one, digest):
        """Return what a site committed to a step, found by its digest."""
        content = next(content for site, step, content in self.sent if (site, step) == (one, number))
        return np.frombuffer(content.inline["__cx_contribution.bin"][HEADER_BYTES:], "<f4")

    @invariant()
    def nothing_counts_that_was_not_committed(self):
        if hasattr(self, "run") and self.now.step > 0:
            held = {one.site: one.digest for one in self.desk.store.updates(self.run, self.now.step)}
            known = {f"local{one}": digest for (step, one), digest in self.committed.items() if step == self.now.step}
            if reading.step(self.desk, ROOT, self.run).phase == "train":
                assert held == known

    def teardown(self):
        if hasattr(self, "folder"):
            self.desk.store.close()
            self.folder.cleanup()


class SqliteCourse(Course):
    store = staticmethod(lambda folder: SqliteStore(folder / "service.db"))


TestCourse = Course.TestCase
TestCourse.settings = settings(
    max_examples=12, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestSqliteCourse = SqliteCourse.TestCase
TestSqliteCourse.settings = settings(
    max_examples=4, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
