"""A site's and the centre's side of a run, whatever carries the packets; see `computation.coinstac.carried`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from computation.checks import is_text
from computation.coinstac.carried import Answer, Carried
from computation.errors import MessageError, SettingsError
from neuroflame import data, parameters
from neuroflame.packet import ERROR, LONGEST, Packet
from neuroflame.places import ENDED, FAILED, RUNNING, Places
from neuroflame.results import keep_farewell

__all__ = ["Centre", "Site"]


class Site:
    """A site: answers every call of the centre with its handler, and says how the run ended.

    Parameters
    ----------
    places : Places
        Where its files lie.
    """

    def __init__(self, places: Places) -> None:
        self._places, self._last = places, Packet(0)  # of no call yet
        self._carried: Carried | None = None

    def begin(self) -> None:
        """Say that the job process is there."""
        self._places.status.say(RUNNING)

    def answer(self, raw: Any) -> Packet:
        """Answer one call; what goes wrong is an answer too. Never raises.

        Parameters
        ----------
        raw : object
            What the centre sent.
        """
        iteration = self._last.iteration + 1
        try:
            call = Packet.parse("the centre", raw)
            iteration = call.iteration
            if call.iteration == self._last.iteration:  # the answer was lost on its way
                return self._last
            self._last = self._call(call)
        except Exception as error:
            return Packet.failed(iteration, self._places.status.fail(error))
        return self._last

    def _call(self, call: Packet) -> Packet:
        message = dict(call.message)
        if self._carried is None:
            self._carried, message = self._open()
        answer = self._carried.call(call.iteration, message, call.files)
        return Packet(call.iteration, message=answer.output, files=answer.files)

    def _open(self) -> tuple[Carried, dict[str, Any]]:
        from computation import local  # PyTorch: not before this process has given its first sign of life

        places = self._places
        told = parameters.read(places.parameters)
        if places.data is None:
            raise SettingsError("this site has no data folder; mount one")
        member, lent = data.resolve(places.data, told.settings)
        folder, client = places.folder / "side", told.name(places.client)
        carried = Carried(local.create(), folder, client, output=places.output, lent=lent)
        return carried, {**told.settings, **member}

    def end(self, raw: Any) -> None:
        """Take in how the run ended. Never raises."""
        try:
            last = Packet.parse("the centre", raw)
            if last.kind == ERROR:
                self._places.status.say(FAILED, last.error)
                return
            keep_farewell(self._places.output, last)
        except Exception as error:
            self._places.status.fail(error)
            return
        self._places.status.say(ENDED)

    def waits(self, sentence: Any) -> None:
        """Take in what the centre says of who is waited for; what is no sentence says nothing. Never raises."""
        now = sentence if is_text(sentence, LONGEST) else ""
        with suppress(OSError):
            if now != self._places.waiting.read()["reason"]:
                self._places.waiting.say(RUNNING, now)

    def give_up(self, sentence: str) -> None:
        """Say that this site ends by itself."""
        self._places.status.say(FAILED, sentence)


class Centre:
    """The centre: turns what all sites answered into the next call.

    Parameters
    ----------
    places : Places
        Where its files lie.
    """

    def __init__(self, places: Places) -> None:
        from computation import remote

        self._places = places
        self._told = parameters.read(places.parameters)
        self._carried = Carried(remote.create(), places.folder / "side", "centre", output=places.output)
        self.rounds: list[dict[str, Any]] = []
        self._clock = time.perf_counter()

    def answer(self, iteration: int, packets: Mapping[str, Packet]) -> Answer:
        """Combine one round.

        Parameters
        ----------
        iteration : int
            From 1.
        packets : mapping of Packet
            What each site answered, by its id.

        Raises
        ------
        MessageError
            If a site failed, naming it, or the handler refuses.
        """
        named = {self._told.name(site): packet for site, packet in packets.items()}
        for site, packet in sorted(named.items()):
            if packet.error:
                raise MessageError(f"site {site}: {packet.error}"[:LONGEST])
            if packet.iteration != iteration:
                raise MessageError(f"site {site} answered call {packet.iteration}; wanted {iteration}")
        messages = {site: dict(packet.message) for site, packet in named.items()}
        answer = self._carried.call(iteration, messages, {site: packet.files for site, packet in named.items()})
        self._count(iteration, named, answer)
        return answer

    def _count(self, iteration: int, packets: Mapping[str, Packet], answer: Answer) -> None:
        now = time.perf_counter()
        self.rounds.append(
            {
                "iteration": iteration,
                "seconds": now - self._clock,
                "files_up": sum(len(content) for packet in packets.values() for content in packet.files.values()),
                "files_down": sum(map(len, answer.files.values())) * len(packets),
            }
        )
        self._clock = now

    def end(self, answer: Answer) -> None:
        """Write down that the run succeeded, and what it came to."""
        self._places.status.say(ENDED, output=answer.output, rounds=self.rounds)

    @property
    def page(self) -> bytes:
        """The centre's page, for the sites: the platform keeps no output of the centre."""
        return (self._places.output / "index.html").read_bytes()
