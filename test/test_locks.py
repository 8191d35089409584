"""One process at a time, and none for ever."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from computation.locks import locked


def listed(folder):
    return [path.name for path in folder.iterdir()]


ROOT = Path(__file__).parents[1]

_HOLDER = """
import sys, time
from pathlib import Path
from computation.locks import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, tmp_path / "table"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_file_that_is_held_is_waited_for_and_not_for_ever(tmp_path, holder):
    with pytest.raises(TimeoutError), locked(tmp_path / "table", patience=0.2):
        pass
    with locked(tmp_path / "other", patience=0.2):
        pass


def test_a_process_that_was_killed_holds_nothing(tmp_path, holder):
    holder.kill()
    began = time.monotonic()
    with locked(tmp_path / "table", patience=10):
        assert listed(tmp_path) == [".table.lock"]
    assert time.monotonic() - began < 5
    assert listed(tmp_path) == []


def test_a_lock_whose_file_was_taken_away_locks_nobody_out(tmp_path):
    """The one who waited holds a file that is no longer there: it takes the new one."""
    with locked(tmp_path / "table"):
        (tmp_path / ".table.lock").unlink()
        with locked(tmp_path / "table", patience=0.2):
            pass


def test_what_the_block_raises_passes_and_the_lock_goes(tmp_path):
    with pytest.raises(KeyError), locked(tmp_path / "table"):
        raise KeyError
    assert listed(tmp_path) == []
    with pytest.raises(FileNotFoundError), locked(tmp_path / "none" / "table"):
        pass
