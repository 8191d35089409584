"""An import that is told to end takes its workers with it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

ROOT = Path(__file__).parents[3]
#: Seconds of processor time: a worker begins with its scan after less than one of them, and needs more than ten for it.
_BUSY = 2


def children(pid):
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def seconds(pid):
    """Return the processor time of a process; enough of it means that it is making a scan."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ended(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Return a table of two heads that each take long to make."""
    folder = tmp_path_factory.mktemp("two")
    noise = np.random.default_rng(0).integers(1, 900, (190, 190, 190), np.int16)
    for name in "ab":
        nib.save(nib.Nifti1Image(noise, np.diag([1.1, 1.1, 1.1, 1])), folder / f"{name}.nii")
    (folder / "t.csv").write_text("subject,image,label\na,a.nii,\nb,b.nii,")
    return folder / "t.csv"


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_the_import(two, tmp_path, number):
    words = ["import", two, "--db", tmp_path / "site.db", "--jobs", "2", "--spacing", "0.5", "--grid", "400"]
    command = [sys.executable, "-m", "computation.cli", *map(str, words)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 150
        # The third child is multiprocessing's own tracker, which computes nothing.
        while sum(seconds(pid) > _BUSY for pid in children(process.pid)) < 2 and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.05)
        workers = [pid for pid in children(process.pid) if seconds(pid) > _BUSY]
        assert len(workers) == 2
        process.send_signal(number)
        told = process.communicate(timeout=60)[1].decode()
        deadline = time.monotonic() + 20
        while not all(map(ended, workers)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert all(map(ended, workers))
        assert "Traceback" not in told
        assert process.returncode == {signal.SIGINT: 130}.get(number, -number)
    finally:
        process.kill()
        process.wait()
