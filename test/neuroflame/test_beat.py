"""A job process that is frozen is noticed, and one that starts slowly is not."""

import threading
import time

from neuroflame.beat import Beat
from neuroflame.places import Timing


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_silence_counts_from_the_last_sign_and_before_the_first_as_long_as_a_start_may_take(tmp_path):
    clock, path = Clock(), tmp_path / "beat"
    beat = Beat(path, Timing(silence=10, start=30), clock)
    clock.now = 29
    assert beat.fault == ""
    clock.now = 31
    assert "no sign of life for 30 s" in beat.fault
    path.touch()
    assert beat.fault == ""
    clock.now = 41
    assert beat.fault == ""
    clock.now = 42
    assert "no sign of life for 10 s" in beat.fault


def test_signs_are_given_also_when_one_cannot_be_written(tmp_path):
    folder = tmp_path / "folder"
    beat = Beat(folder / "beat", Timing(pulse=0.01))
    threading.Thread(target=beat.give, daemon=True).start()
    time.sleep(0.05)
    folder.mkdir()
    end = time.monotonic() + 30
    while not (folder / "beat").exists():
        assert time.monotonic() < end
        time.sleep(0.01)
