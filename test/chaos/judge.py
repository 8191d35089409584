"""Runs a scenario and says whether it ended as it must: in the bits of the same run without faults, or with a reason.

The oracle is the same run again, undisturbed, in which the same sites are left out of the same rounds: so a fault may
cost a site its round, which everybody is told, and nothing else.
"""

import csv
import re
import shutil
from dataclasses import dataclass, replace

from consortium import SHORT, database

from chaos.carrying import Platform, Stopped
from chaos.scenario import CENTRE, HARMLESS, drawn
from computation.tracking import notices, read

#: The sites' databases, made once in a process: they are the same for every seed.
_made = {}


class Wrong(AssertionError):
    """The run ended as none may."""


@dataclass(frozen=True)
class Ended:
    """How a run under faults ended.

    Attributes
    ----------
    how : str
        `unbroken`: in the bits of the run without faults. `course`: in those of the run in which the same sites were
        left out. `stopped`: with one reason.
    told : str
        The digest, or the reason.
    """

    how: str
    told: str


def judge(seed, folder):
    """Run a seed's scenario in a folder of its own, and return how it ended; raises `Wrong`."""
    scenario = drawn(seed)
    run = platform(scenario, folder / "faults")
    try:
        output = run.run()
    except Stopped as error:
        return _stopped(scenario, run, str(error))
    course = left_out(run.verdicts)
    clean = platform(replace(scenario, faults=()), folder / "clean", course)
    wanted = clean.run()
    if output != wanted:
        raise Wrong(f"ended in {output['model_digest'][:12]}; wanted {wanted['model_digest'][:12]} without {course}")
    if scenario.harmless and course:
        raise Wrong(f"left out {sorted(course)}, although nothing was lost")
    if scenario.harmless:
        _alike(scenario, run, clean)
    _tidy(scenario, run, max(said["round"] for said in run.verdicts if "counted" in said))
    return Ended("course" if course else "unbroken", output["model_digest"])


def platform(scenario, folder, missing=None):
    """Return a run of a scenario that is yet to begin, without (site, round) of what is missing."""
    if not _made:
        raise RuntimeError("no databases yet; call `prepare` first")
    folder.mkdir(parents=True)
    return Platform(folder, scenario, {name: _made[name] for name in scenario.sites}, inputs(scenario), missing)


def inputs(scenario):
    """Return what every site is told at first."""
    return {**SHORT, **scenario.settings}


def made(name):
    """Return a site's database."""
    return _made[name]


def prepare(folder):
    """Make the sites' databases, once for all seeds of this process."""
    for index in range(4):
        name = f"local{index}"
        _made[name] = database(folder / name / "site.db", seed=index, scans=(1 + index % 2, 1, 0))


def tidy(folder):
    """Remove what a seed has left."""
    shutil.rmtree(folder, ignore_errors=True)


def left_out(told):
    """Return why anybody did not count, by (site, round), from all that the centre said."""
    return {(name, said["round"]): why for said in told if "skipped" in said for name, why in said["skipped"].items()}


def _stopped(scenario, run, reason):
    """Hold a reason against the faults: it must be a sentence of ours, and name who or what it was."""
    if scenario.harmless:
        raise Wrong(f"stopped, although nothing was lost: {reason}")
    if "unexpected" in reason or str(run.folder) in reason or len(reason) > 700:
        raise Wrong(f"stopped with no sentence of ours: {reason}")
    guilty = {one.client for one in scenario.faults if one.kind not in HARMLESS}
    named = set(re.findall(r"local\d", reason))
    if not guilty & named and not (CENTRE in guilty and reason.startswith(f"{CENTRE}: ")):
        raise Wrong(f"stopped and named nobody of {sorted(guilty)}: {reason}")
    if named - guilty:
        raise Wrong(f"stopped and named {sorted(named - guilty)}, where nothing was wrong: {reason}")
    return Ended("stopped", reason)


def _alike(scenario, run, clean):
    """Every node must have written down the same as without faults, once, besides what became of its own journal."""
    for client in (*scenario.sites, CENTRE):
        journals = [one.at("output", client) / "journal.jsonl" for one in (run, clean)]
        told, wanted = (
            [(note.kind, note.text, note.times) for note in notices(read(path)) if note.kind != "journal"]
            for path in journals
        )
        if told != wanted:
            raise Wrong(f"{client} noted {told}; wanted {wanted}")


def _tidy(scenario, run, rounds):
    for client in (*scenario.sites, CENTRE):
        output = run.at("output", client)
        with (output / "metrics.csv").open(newline="") as file:
            listed = [int(row["round"]) for row in csv.DictReader(file)]
        if listed != list(range(1, rounds + 1)):
            raise Wrong(f"{client}'s metrics.csv has rounds {listed}; wanted 1 to {rounds}")
        kept = list((output / "checkpoints").glob("checkpoint-*.bin"))
        if len(kept) > scenario.settings["keep_checkpoints"]:
            raise Wrong(f"{client} keeps {len(kept)} checkpoints")
        if not (output / "index.html").is_file():
            raise Wrong(f"{client} has no page")
