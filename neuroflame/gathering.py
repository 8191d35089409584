"""What the centre has of one round: answers, signs of life, and a wait that ends with the last answer and not later.

NVFlare's own waiting looks once in 0.2 seconds; an event of our own wakes the centre with the answer itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence

from computation.errors import MessageError
from neuroflame.packet import LONGEST, Packet
from neuroflame.places import Timing

__all__ = ["Gathering"]

_LOOK = 0.5  # seconds between two looks at who has fallen silent


class Gathering:
    """Answers of all sites, put in by NVFlare's threads and awaited by the controller's.

    Parameters
    ----------
    sites : iterable of str
        Ids.
    timing : Timing
        Limits.
    clock : callable
        Seconds, monotonic.
    called : callable
        Gives what a site of an id is called in a sentence.
    """

    def __init__(
        self,
        sites: Iterable[str],
        timing: Timing,
        clock: Callable[[], float] = time.monotonic,
        called: Callable[[str], str] = str,
    ) -> None:
        self._sites, self._timing, self._clock, self._called = tuple(sorted(sites)), timing, clock, called
        self._began = self._opened = clock()
        self._heard: dict[str, float] = {}
        self._change = threading.Condition()
        self._answers: dict[str, Packet] = {}
        self._fault = ""

    @property
    def sites(self) -> tuple[str, ...]:
        """Ids of all sites, sorted."""
        return self._sites

    def open(self) -> None:
        """Forget the answers of the round before."""
        with self._change:
            self._answers, self._opened = {}, self._clock()

    @property
    def late(self) -> str:
        """A sentence about whom the others have waited for since long; empty where they wait for nobody."""
        with self._change:
            missing = [site for site in self._sites if site not in self._answers]
            if not missing or self._clock() - self._opened < self._timing.notice:
                return ""
        return f"waiting for {self._named(missing)}"[:LONGEST]

    def _named(self, sites: Sequence[str]) -> str:
        return f"{'site' if len(sites) == 1 else 'sites'} {', '.join(map(self._called, sites))}"

    def heard(self, site: str) -> None:
        """Take a sign of life."""
        if site in self._sites:
            with self._change:
                self._heard[site] = self._clock()

    def put(self, site: str, packet: Packet) -> None:
        """Take a site's answer; a second one counts for nothing."""
        self.heard(site)
        with self._change:
            if site in self._sites:
                self._answers.setdefault(site, packet)
                self._change.notify_all()

    def fail(self, sentence: str) -> None:
        """End the wait with an error; the first one stays."""
        with self._change:
            self._fault = self._fault or sentence
            self._change.notify_all()

    def wait(self, aborted: Callable[[], bool]) -> dict[str, Packet]:
        """Wait until all have answered.

        Parameters
        ----------
        aborted : callable
            Whether somebody ended the run.

        Returns
        -------
        dict of Packet
            By site id, sorted.

        Raises
        ------
        MessageError
            If a site has fallen silent or gone, or the run was aborted.
        """
        with self._change:
            while len(self._answers) < len(self._sites):
                if fault := self._fault or self._silent() or (aborted() and "the run was aborted at the centre"):
                    raise MessageError(fault)
                self._change.wait(_LOOK)
            return dict(sorted(self._answers.items()))

    def farewell(self, aborted: Callable[[], bool]) -> None:
        """Wait until all who still live have heard how the run ended, and no longer than that may take."""
        end = self._clock() + self._timing.farewell
        with self._change:
            while self._clock() < end and not aborted():
                if all(site in self._answers or self._is_silent(site) for site in self._sites):
                    return
                self._change.wait(_LOOK)

    def _silent(self) -> str:
        silent = [site for site in self._sites if self._is_silent(site)]
        if not silent:
            return ""
        since = self._timing.silence if silent[0] in self._heard else self._timing.start
        if len(silent) == 1:
            rest = f"has given no sign of life for {since:g} s; its process or its network is gone"
        else:  # at once: hardly their own doing
            rest = f"have given no sign of life for {since:g} s; their network is gone, or the centre's"
        return f"{self._named(silent)} {rest}"

    def _is_silent(self, site: str) -> bool:
        if site in self._heard:
            return self._clock() - self._heard[site] > self._timing.silence
        return self._clock() - self._began > self._timing.start
