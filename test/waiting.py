"""Waiting for what happens elsewhere, in another thread or process."""

import time


def until(happened, seconds):
    """Return what was awaited as soon as it is there; fail where it is not in so many seconds."""
    deadline = time.monotonic() + seconds
    while not (found := happened()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)
    return found
