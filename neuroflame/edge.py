"""A site's container: NVFlare's client, and an exit status and a sentence that say how the run ended here."""

from __future__ import annotations

import argparse
import json
import re
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from computation.errors import SettingsError, unwritable
from neuroflame import data, parameters, rules
from neuroflame.central import add_limits, timing
from neuroflame.places import ENDED, FAILED, Places
from neuroflame.processes import Child, copy_kit, exit_status, is_alive, private_folder
from neuroflame.words import complain, say

__all__ = ["main"]

_TURN = 0.5
_PROBE = 5.0  # seconds between two looks at whether the centre's port is open
_LEAVING = 20.0  # seconds for NVFlare's client to go by itself
_STARTS = 5  # NVFlare gives its client 15 s for something that takes longer on a busy machine
_DEAD = 5.0  # seconds in which a job process that has gone may still have said why


def main(arguments: Sequence[str] | None = None) -> int:
    """Take part in a run.

    Parameters
    ----------
    arguments : sequence of str, optional
        Command line; what the platform mounts by default.

    Returns
    -------
    int
        0 if the run succeeded, 1 if it failed, 2 for what was wrong before it began.
    """
    options = _parser().parse_args(arguments)

    def work() -> int:
        with private_folder(options.scratch) as folder:
            return _run(options, folder)

    return exit_status(work)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="A site of a run on NeuroFLAME.")
    parser.add_argument("--runkit", type=Path, default=Path("/workspace/runKit"))
    parser.add_argument("--data", type=Path, default=Path("/workspace/data"))
    parser.add_argument("--output", type=Path, default=Path("/workspace/output"))
    add_limits(parser)
    return parser


def _run(options: argparse.Namespace, folder: Path) -> int:
    told = parameters.read(options.runkit / "parameters.json")
    data.resolve(options.data, told.settings)  # what a member can mend is said at once, to this member
    _writable(options.output)
    site, host, port = _whereabouts(options.runkit)
    kit = folder / "kit"
    copy_kit(options.runkit, kit, "startup", "local")
    (kit / "transfer").mkdir()
    rules.rule_site(kit)
    places = Places(
        site,
        folder,
        (options.runkit / "parameters.json").absolute(),
        options.output.absolute(),
        options.data.absolute(),
        timing=timing(options),
    )
    child = Child(kit, places, site)
    try:
        said = _Watch(child, places, (host, port)).until_over()
    finally:
        child.close()
        child.keep_log(options.output)
    if said["state"] == ENDED:
        say("the run has succeeded")
        return 0
    complain(f"the run failed: {said['reason']}")
    return 1


def _writable(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
        probe = output / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise SettingsError(unwritable("output"), str(error)) from error


def _whereabouts(kit: Path) -> tuple[str, str, int]:
    """Return the site's id, and where the centre is."""
    try:
        script = (kit / "startup" / "sub_start.sh").read_text(encoding="utf-8")
        raw = json.loads((kit / "startup" / "fed_client.json").read_text(encoding="utf-8"))
        host, _, port = str(raw["servers"][0]["service"]["target"]).rpartition(":")
        found = re.search(r"\buid=([A-Za-z0-9_-]{1,63})\b", script)
        if found is None:
            raise ValueError("no uid")
        return found[1], host, int(port)
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise SettingsError("the run kit is none of a site; provision the run again", str(error)) from error


class _Watch:
    """Looks at the job process, at NVFlare's client and at the centre's port until one of them says that it is over."""

    def __init__(self, child: Child, places: Places, centre: tuple[str, int]) -> None:
        self._child, self._places, self._centre = child, places, centre
        self._reached, self._probed = time.monotonic(), 0.0
        self._first = 0.0
        self._gone, self._job = 0.0, 0
        self._starts = _STARTS

    def until_over(self) -> dict[str, Any]:
        """Return how it ended."""
        waiting = ""
        while not self._places.status.over:
            waiting = self._places.pass_on(waiting)
            if sentence := self._fault():
                self._places.status.say(FAILED, sentence)
            time.sleep(_TURN)
        end = time.monotonic() + _LEAVING
        while self._child.alive and time.monotonic() < end:
            time.sleep(_TURN)
        return self._places.status.read()

    def _fault(self) -> str:
        if not self._child.alive:
            return self._end_fault()
        return self._job_fault() or self._centre_fault() or self._begin_fault()

    def _end_fault(self) -> str:
        if self._places.status.over:  # the job process writes its end before NVFlare's client goes
            return ""
        if self._job or not self._child.failed:
            return "the run was ended at the centre before its end, and no reason came"
        if not self._starts:
            return "this site's NVFlare client ends before it begins; look at nvflare.log"
        self._starts -= 1
        self._child.start_again()
        return ""

    def _job_fault(self) -> str:
        job = self._child.job
        self._job = job or self._job
        if not self._job or job or is_alive(self._job):
            self._gone = 0.0
            return ""
        self._gone = self._gone or time.monotonic()
        over = time.monotonic() - self._gone > _DEAD and not self._places.status.over
        return "this site's job process has ended before the run did; look at nvflare.log" if over else ""

    def _centre_fault(self) -> str:
        now = time.monotonic()
        if now - self._probed < _PROBE:
            return ""
        self._probed = now
        if _is_open(self._centre):
            self._reached, self._first = now, self._first or now
        timing = self._places.timing
        # A job came from the centre, whether or not a look fell into the time since.
        limit = timing.silence if self._first or self._job else timing.joining
        return f"the centre cannot be reached for {limit:g} s" if now - self._reached > limit else ""

    def _begin_fault(self) -> str:
        """Return what is wrong where the centre's port is open, and nothing comes: anybody may listen there."""
        timing = self._places.timing
        limit = timing.joining + timing.start
        if not self._first or time.monotonic() - self._first < limit or self._places.status.read()["state"]:
            return ""
        return f"the centre has begun no run within {limit:g} s; is its address right, and do all members have its kit?"


def _is_open(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=5.0).close()
    except OSError:
        return False
    return True
