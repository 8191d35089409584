"""The centre's wait: ends with the last answer, and with a site that is gone; the clock is the test's."""

import json
import threading
import time
from pathlib import Path

import pytest

from computation.errors import MessageError
from neuroflame import rules
from neuroflame.gathering import Gathering
from neuroflame.packet import Packet
from neuroflame.places import Timing

TIMING = Timing(silence=10, start=30, farewell=5)


def never():
    return False


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def gathering(clock):
    return Gathering(["b", "a"], TIMING, clock)


def test_answers_come_out_sorted_whatever_order_they_came_in(gathering):
    gathering.put("b", Packet(1, message={"of": "b"}))
    gathering.put("a", Packet(1, message={"of": "a"}))
    assert list(gathering.wait(never)) == ["a", "b"]


def test_a_second_answer_and_a_strangers_count_for_nothing(gathering):
    gathering.put("a", Packet(1, message={"first": 1}))
    gathering.put("a", Packet(1, message={"second": 1}))
    gathering.put("stranger", Packet(1))
    gathering.put("b", Packet(1))
    answers = gathering.wait(never)
    assert set(answers) == {"a", "b"} and answers["a"].message == {"first": 1}


def test_the_last_answer_wakes_who_waits():
    gathering = Gathering(["a"], TIMING)
    threading.Timer(0.05, gathering.put, ("a", Packet(1))).start()
    assert set(gathering.wait(never)) == {"a"}


def test_a_network_that_is_gone_for_six_minutes_ends_no_run(clock):
    gathering = Gathering(["a", "b"], Timing(), clock)
    gathering.heard("a")
    gathering.put("b", Packet(1))
    clock.now += 360
    gathering.put("b", Packet(1))
    gathering.put("a", Packet(1))
    assert set(gathering.wait(never)) == {"a", "b"}
    gathering.open()
    clock.now += 1000
    with pytest.raises(MessageError, match="sites a, b have given no sign of life for 900 s"):
        gathering.wait(never)


def test_nvflare_gives_nobody_up_before_we_do(tmp_path):
    for kind in ("startup", "local"):
        (tmp_path / kind).mkdir()
    for name in ("server.crt", "server.key"):
        (tmp_path / "startup" / name).touch()
    rules.rule_server(tmp_path, tmp_path)
    server = json.loads((tmp_path / "local" / "resources.json").read_text())["servers"][0]
    job = json.loads((Path(rules.__file__).parent / "job" / "config_fed_server.json").read_text())["server"]
    assert min(server["heart_beat_timeout"], job["heart_beat_timeout"]) > 10 * Timing().silence


def test_a_slow_site_that_gives_signs_of_life_is_waited_for(gathering, clock):
    def later():
        clock.now += 9
        for site in "ab":
            gathering.heard(site)
        if clock.now > 7200:  # two hours: nothing ends a run for its length
            for site in "ab":
                gathering.put(site, Packet(1))
        return False

    gathering._change.wait = lambda seconds: None
    assert set(gathering.wait(later)) == {"a", "b"}
    assert clock.now > 7200


@pytest.mark.parametrize(("heard", "after", "limit"), [(True, 11, "10 s"), (False, 31, "30 s")])
def test_a_site_that_falls_silent_is_named(gathering, clock, heard, after, limit):
    if heard:
        gathering.heard("a")
    gathering.heard("b")
    clock.now = after
    gathering.heard("b")
    with pytest.raises(MessageError, match=f"site a has given no sign of life for {limit}"):
        gathering.wait(never)


def test_sites_that_fall_silent_together_are_all_named(gathering, clock):
    for site in "ab":
        gathering.heard(site)
    clock.now = 11
    with pytest.raises(MessageError, match=r"sites a, b have given no sign of life for 10 s.*or the centre's"):
        gathering.wait(never)


def test_one_that_is_known_to_be_gone_is_named_at_once(gathering):
    gathering.fail("site a's job process has ended")
    gathering.fail("and another thing")
    with pytest.raises(MessageError, match="site a's job process has ended"):
        gathering.wait(never)


def test_an_aborted_run_ends(gathering):
    with pytest.raises(MessageError, match="aborted at the centre"):
        gathering.wait(lambda: True)


def test_a_farewell_waits_for_those_who_live_and_for_no_one_else(clock):
    gathering = Gathering(["a", "b"], TIMING, clock)
    clock.now = 31  # neither was ever heard of
    gathering.farewell(never)
    gathering.heard("a")
    began = time.monotonic()
    threading.Timer(0.05, gathering.put, ("a", Packet(1))).start()
    gathering.farewell(never)
    assert time.monotonic() - began < 30


def test_who_keeps_the_others_waiting_is_named_by_name_after_a_while(clock):
    gathering = Gathering(["a", "b"], Timing(notice=60), clock, {"a": "Hospital A", "b": "Hospital B"}.get)
    gathering.open()
    assert gathering.late == ""
    clock.now = 60
    assert gathering.late == "waiting for sites Hospital A, Hospital B"
    gathering.put("a", Packet(1))
    assert gathering.late == "waiting for site Hospital B"
    gathering.put("b", Packet(1))
    assert gathering.late == ""
    gathering.open()
    assert gathering.late == ""
    clock.now = 1e6
    with pytest.raises(MessageError, match="sites Hospital A, Hospital B have given no sign of life"):
        gathering.wait(never)
    assert len(Gathering(["a" * 60] * 20, Timing(notice=0), clock).late) == 600
