"""Tests on COINSTAC's own code. They need Node.js, and one mode real Docker, so a plain `pytest` leaves them out.

`MESHNET_PLATFORM=process`, or `MESHNET_PLATFORM=process,docker`, lets them in; `make platform-test` sets it.
"""

import os
import sys
from pathlib import Path

MODES = tuple(filter(None, os.environ.get("MESHNET_PLATFORM", "").split(",")))
collect_ignore_glob = [] if MODES else ["test_*.py"]

sys.path.insert(0, str(Path(__file__).parent))


def pytest_configure(config):
    config.addinivalue_line("markers", "process_only: containers would add nothing but time")
    config.addinivalue_line("markers", "docker_only: a matter of containers")


def pytest_generate_tests(metafunc):
    """Run a test that asks for `mode` once in each mode that was let in and that it is for."""
    if "mode" in metafunc.fixturenames:
        only = [mode for mode in ("process", "docker") if metafunc.definition.get_closest_marker(f"{mode}_only")]
        metafunc.parametrize("mode", [mode for mode in MODES if mode in (only or MODES)])


def pytest_terminal_summary(terminalreporter):
    """Say loudly what was not run, where a part of it was asked for."""
    if MODES and "docker" not in MODES:
        terminalreporter.write_line("##### REAL DOCKER WAS NOT USED: every run above was a process. #####", red=True)
