"""A little of `make fuzz` in every run: sound bytes are read, and changed ones are taken or refused, never else."""

import itertools
import time
import traceback

import pytest
from fuzz import __main__ as command
from fuzz.mutating import mutants
from fuzz.targets import TARGETS, Reading

TRIES = {"image": 25, "database": 60, "model": 60}


@pytest.mark.parametrize("name", TARGETS)
def test_sound_and_changed_bytes_are_read_or_refused(name):
    target = TARGETS[name]
    seeds = target.seeds()
    for blob in itertools.chain(seeds, itertools.islice(mutants(seeds, seed=7), TRIES.get(name, 200))):
        assert not _finding(target, blob), blob


def _finding(target, blob):
    """Return the traceback of what a reader raised that is no refusal; empty where it took or refused the bytes."""
    try:
        target.read(blob)
    except Exception:
        return traceback.format_exc()
    return ""


def test_every_target_has_its_name_on_the_command_line():
    assert tuple(TARGETS) == command.NAMES


def test_the_same_seed_changes_bytes_in_the_same_way():
    first, again = (list(itertools.islice(mutants([b"abc", b"{}"], 3), 50)) for _ in range(2))
    assert first == again and len(set(first)) > 30


def test_what_a_reader_raises_that_is_no_refusal_is_found(monkeypatch):
    monkeypatch.setattr("fuzz.targets.messages.Verdict.parse", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        TARGETS["messages"].read(b"{}")


def test_an_input_that_takes_the_processor_for_too_long_is_found_and_one_that_waits_for_it_is_not(monkeypatch):
    monkeypatch.setattr(command, "SECONDS", 0.2)
    command.read(Reading(lambda blob: time.sleep(0.3), None), b"")
    with pytest.raises(AssertionError, match="too long"):
        command.read(Reading(_busy, None), b"")


def _busy(blob):
    until = time.process_time() + 0.3
    while time.process_time() < until:
        pass
