"""Real processes: workers that are killed at every moment, and four of them that share all runs."""

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import tracemalloc

import pytest
from places import ANNA, ROOT, digest, kinds, opened, plain, spec

from service import working
from service.aggregate import Centre
from service.bell import Bell
from service.cases import closing, coordinator, reading
from service.worker import Worker

LEASE = 150
#: The join, a round, the last counts, the end; of a run of two rounds.
STEPS = {"join": 0, "round": 2, "finish": 3, "done": 4}
MOMENTS = ("claimed", "answered", "kept", "published")


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def work(data, folder, run, moment, number):
    """Be a worker that is killed at a moment of one step; forked, so that it need not import everything again."""
    desk = opened(data, bell=Bell())
    answer, keep, publish = Centre.answer, Centre._keep_all, closing.publish

    def at(when, self=None, claim=None):
        if when == moment and claim.step.number == number:
            die()

    def answered(self, claim):
        at("claimed", claim=claim)
        Centre._keep_all = lambda self, files: at("answered", claim=claim) or keep(self, files)
        return answer(self, claim)

    def published(desk, claim, made):
        at("kept", claim=claim)
        publish(desk, claim, made)
        at("published", claim=claim)

    Centre.answer, closing.publish = answered, published
    with Worker(desk, folder, LEASE) as worker:
        worker.work(run)


def fork(target, *arguments):
    """Start a process that has imported everything already."""
    child = multiprocessing.get_context("fork").Process(target=target, args=arguments)
    child.start()
    return child


def through(data, folder, run, made, moment="", number=-1):
    """Go on with a run to its end, one step after the other; a worker is killed at one of them."""
    desk = made[0].desk
    with Worker(desk, folder) as worker:
        while True:
            now, step = reading.run(desk, ROOT, run), reading.step(desk, ROOT, run)
            if now.state != "running":
                return now
            for one in made if step.number else ():
                one.commit(step.number)
            if step.number == number:
                desk.store.close()  # what SQLite knows of its locks must not be forked; it opens itself again
                child = fork(work, data, folder, run, moment, number)
                child.join()
                assert child.exitcode == -signal.SIGKILL
                time.sleep(LEASE / 1000 + 0.02)
            worker.work(run)


@pytest.fixture
def data(tmp_path):
    return tmp_path / "data"


def test_a_worker_that_is_killed_at_any_moment_changes_nothing(data, tmp_path):
    desk = opened(data, bell=Bell())
    run, made = plain(desk, 2, settings={"epochs": 2})
    through(data, tmp_path / "work", run, made)
    wanted = digest(desk, run)
    for moment in MOMENTS:
        for number in STEPS.values():
            run, made = plain(desk, 2, settings={"epochs": 2})
            assert through(data, tmp_path / "work", run, made, moment, number).state == "completed"
            assert digest(desk, run) == wanted, (moment, number)
            assert kinds(desk, run).count("published") == 5
            attempts = [step.attempt for step in desk.store.steps(run, "", 9)[0]]
            assert sorted(attempts) == [1, 1, 1, 1, 1 if moment == "published" else 2]
    desk.store.close()


def go_on(desk, runs, until):
    """Commit what runs ask for until all have ended."""
    waits = dict.fromkeys(runs, 0)
    while waits and time.monotonic() < until:
        for run in list(waits):
            now = desk.store.run(run)
            if now.state != "running":
                del waits[run]
            elif now.step > waits[run]:
                waits[run] = now.step
                for one in runs[run]:
                    one.commit(now.step)
        time.sleep(0.002)
    assert not waits


def test_four_worker_processes_claim_each_of_200_steps_once(data):
    desk = opened(data)
    workers = [fork(working.main, data) for _ in range(4)]
    runs = dict(plain(desk, 2, settings={"epochs": 17}) for _ in range(10))
    try:
        go_on(desk, runs, time.monotonic() + 200)
    finally:
        for one in workers:
            one.terminate()
            one.join(30)
    assert [one.exitcode for one in workers] == [0] * 4
    steps = [step for run in runs for step in desk.store.steps(run, "", 99)[0]]
    assert len(steps) == 200
    assert [step.attempt for step in steps] == [1] * 200
    assert all(kinds(desk, run).count("published") == 20 for run in runs)
    assert all(desk.store.run(run).state == "completed" for run in runs)
    # Each ended in the model that its values make, whoever worked for it.
    assert len({digest(desk, run) for run in runs}) == 1
    assert len({step.owner for step in steps}) > 1
    assert not any((data / "work").iterdir())
    desk.store.close()


def test_a_worker_process_hears_what_is_to_be_done_and_ends_when_it_is_told_to(data):
    desk = opened(data)
    command = [sys.executable, "-m", "service.working", str(data)]
    worker = subprocess.Popen(command, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        runs = dict([plain(desk, 2, settings={"epochs": 2})])
        go_on(desk, runs, time.monotonic() + 100)
    finally:
        worker.send_signal(signal.SIGTERM)
        told = worker.communicate(timeout=60)[1].decode() + (data / "service.log").read_text()
    assert worker.returncode == 0, told
    assert "Traceback" not in told
    assert str(data) not in told
    desk.store.close()


def test_a_worker_forgets_what_expired_long_ago(desk, worker, clock):
    coordinator.create(desk, ANNA, spec(1), "key")
    clock.pass_(2 * 86_400 - 1)
    worker.sweep()
    assert desk.store.answer("anna", "runs", "key")
    clock.pass_(2)
    worker.sweep()
    assert desk.store.answer("anna", "runs", "key") is None


def test_a_worker_keeps_nothing_of_the_steps_that_are_done(data, tmp_path):
    desk = opened(data, bell=Bell())
    run, made = plain(desk, 2, settings={"epochs": 110})
    held = []
    with Worker(desk, tmp_path / "work") as worker:
        worker.work(run)
        for number in range(1, 111):
            for one in made:
                one.commit(number)
            worker.work(run)
            if number == 50:
                tracemalloc.start()
            if number in (60, 110):
                gc.collect()
                held.append(tracemalloc.get_traced_memory())
    tracemalloc.stop()
    (before, _), (after, peak) = held
    assert after - before < 70_000  # a kilobyte a round: nothing of the 23 that came with each is held on to
    assert peak < 10_000_000
    desk.store.close()
