"""What the scripts say aloud. Nobody may listen any more: a run of hours goes on without."""

from __future__ import annotations

import sys
from contextlib import suppress

__all__ = ["complain", "say"]


def say(sentence: str) -> None:
    """Write a sentence to stdout, if it is open."""
    with suppress(OSError):
        print(f"coinstac-meshnet: {sentence}", flush=True)


def complain(sentence: str) -> None:
    """Write a sentence to stderr, if it is open."""
    with suppress(OSError):
        print(f"coinstac-meshnet: {sentence}", file=sys.stderr, flush=True)
