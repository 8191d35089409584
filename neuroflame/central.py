"""The centre's container: a server, the job, and an exit status that says how it ended."""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from computation.errors import MeshNetError
from neuroflame import parameters, rules
from neuroflame.beat import Beat
from neuroflame.places import ENDED, FAILED, Places, Timing
from neuroflame.processes import Child, copy_kit, exit_status, private_folder
from neuroflame.words import complain, say

if TYPE_CHECKING:
    from neuroflame.session import Administrator

__all__ = ["main"]

_TURN = 0.5
_LEAVING = 60.0  # seconds for NVFlare to take in that its job is over


def main(arguments: Sequence[str] | None = None) -> int:
    """Lead a run.

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
    parser = argparse.ArgumentParser(description="The centre of a run on NeuroFLAME.")
    parser.add_argument("--runkit", type=Path, default=Path("/workspace/runKit"))
    parser.add_argument("--output", type=Path, help="keep the centre's results here; the platform mounts nothing")
    add_limits(parser)
    return parser


def add_limits(parser: argparse.ArgumentParser) -> None:
    """Declare where a node works and an option for each limit of `Timing`."""
    parser.add_argument("--scratch", type=Path, help="for what the run needs meanwhile; default: the temporary folder")
    for name, seconds in vars(Timing()).items():
        parser.add_argument(f"--{name}", type=float, default=seconds, metavar="SECONDS")


def timing(options: argparse.Namespace) -> Timing:
    """Return the limits that were given."""
    return Timing(**{name: getattr(options, name) for name in vars(Timing())})


def _run(options: argparse.Namespace, folder: Path) -> int:
    called = parameters.read(options.runkit / "parameters.json").name
    sites = _sites(options.runkit)
    output = options.output or folder / "output"
    output.mkdir(parents=True, exist_ok=True)
    server, admin = folder / "server", folder / "admin"
    for kit in (server, admin):
        copy_kit(options.runkit / kit.name, kit, "startup", "local")
        (kit / "transfer").mkdir()
    copy_kit(options.runkit, folder, "job")  # NVFlare signs it where it lies
    rules.rule_server(server, folder / "storage")
    places = Places(
        "centre",
        folder,
        (options.runkit / "parameters.json").absolute(),
        output.absolute(),
        None,
        sites,
        timing(options),
    )
    child = Child(server, places)
    try:
        said = _lead(folder / "job", admin, child, places, called)
    finally:
        child.close()
        child.keep_log(output)
    return _ended(said, output)


def _sites(runkit: Path) -> tuple[str, ...]:
    try:
        meta = json.loads((runkit / "job" / "meta.json").read_text(encoding="utf-8"))
        return tuple(site for site in meta["deploy_map"]["app"] if site != "server")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MeshNetError("the run kit holds no job of this computation; provision again", str(error)) from error


def _lead(job: Path, admin: Path, child: Child, places: Places, called: Callable[[str], str]) -> dict[str, Any]:
    from neuroflame.session import Administrator

    logging.basicConfig(filename=child.log, level=logging.WARNING)  # NVFlare's words are not for this script's stderr
    session = Administrator(admin, lambda: child.alive)
    try:
        session.wait_for(places.sites, places.timing.joining, called)
        say(f"all {len(places.sites)} sites are there")
        word = _until_over(session, session.submit(job), places)
        places.status.say(FAILED, f"the centre's job process has ended ({word[:60]}); look at its log")
    except Exception as error:
        logging.getLogger(__name__).exception("the centre's script")
        places.status.fail(error)
    finally:
        session.close()
    return places.status.read()


def _until_over(session: Administrator, job: str, places: Places) -> str:
    """Return how the job ended, in NVFlare's word, once its process has said so and its server knows it too."""
    waiting, beat, end = "", Beat(places.beat, places.timing), 0.0
    while not (word := session.status(job)):
        session.check()
        if places.status.over:
            end = end or time.monotonic() + places.timing.farewell + _LEAVING
            if time.monotonic() > end:  # a server that is frozen knows nothing
                return ""
        elif fault := beat.fault:
            raise MeshNetError(fault)
        waiting = places.pass_on(waiting)
        time.sleep(_TURN)
    return word


def _ended(said: dict[str, Any], output: Path) -> int:
    if said["state"] != ENDED:
        complain(f"the run failed: {said['reason']}")
        return 1
    rules.write(output / "run.json", {"output": said["output"], "rounds": said["rounds"]})
    say("the run has succeeded")
    return 0
