"""What a run lets others see while it goes on: live progress hangs on it, and so do tests that injure a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simulator.result import Cycle

__all__ = ["Observer"]


class Observer:
    """Is told everything and does nothing; override what you want to know.

    The run waits for each method, so what is done to a node in one happens exactly between two messages.
    """

    def on_resume(self, iteration: int, plan: Mapping[str, Any]) -> None:
        """An interrupted run goes on after this iteration; `plan` is what the centre said first."""

    def on_start(self, client: str, pid: int) -> None:
        """A node's process was started, or started again."""

    def on_call(self, client: str, iteration: int) -> None:
        """A call is about to be sent; once more if it is sent again after the process died."""

    def on_reply(self, client: str, iteration: int, output: Mapping[str, Any]) -> None:
        """A node answered; its files have not been moved yet."""

    def on_cycle(self, cycle: Cycle, output: Mapping[str, Any]) -> None:
        """All sites and the centre answered and all files are in place; `output` is the centre's."""
