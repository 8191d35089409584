"""Whatever a header says: a scan or one named error, the next one is taken, in little time and memory.

`FUZZ_HEADERS=5000` makes as many mutants.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("header_fuzz.py")


def test_mutated_headers(tmp_path):
    count = int(os.environ.get("FUZZ_HEADERS", "300"))
    command = [sys.executable, str(SCRIPT), str(tmp_path), "11", str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout)
    assert found["taken"] + found["left_out"] == count
    assert found["taken"] > 0.1 * count and found["left_out"] > 0.2 * count, "mutants of both kinds"
    assert found["slowest_s"] < 5 and found["peak_gb"] < 1
