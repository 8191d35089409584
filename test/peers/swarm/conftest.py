"""Says loudly, once, where the extra `swarm` is missing and what needs it was left out."""

import importlib.util

MISSING = [name for name in ("libp2p", "cryptography") if importlib.util.find_spec(name) is None]


def pytest_terminal_summary(terminalreporter):
    if MISSING:
        names = " and ".join(MISSING)
        terminalreporter.write_line(f"SWARM TESTS NOT RUN: {names} not installed (pip install .[swarm])", red=True)
