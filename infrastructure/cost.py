"""What the service costs on AWS, computed and never measured: public prices times what a run asks for.

    python -m infrastructure.cost                            # the table of docs/service-aws.md
    python -m infrastructure.cost --sites 8 --rounds 300 --seconds 30 --kilobytes 400

Prices are list prices for us-east-1 without any free tier, in US dollars, from AWS's price pages as last read in 2025:
look them up before you rely on them. Other regions differ by up to a fifth. How often a run asks for what is written
beside each number; durations are an emulator's.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["PRICES", "Course", "idle", "main", "run"]

#: US dollars for one.
PRICES: Mapping[str, float] = {
    "gateway request": 1.00e-6,
    "function call": 0.20e-6,
    "function GB second": 16.6667e-6,
    "table write unit": 0.625e-6,
    "table read unit": 0.125e-6,
    "bucket write": 5.0e-6,
    "bucket read": 0.4e-6,
    "bucket GB month": 0.023,
    "queue request": 0.40e-6,
    "log GB": 0.50,
    "GB out": 0.09,
    "alarm month": 0.10,
    "image GB month": 0.10,
}
_MINUTES = 30 * 24 * 60
#: GB of memory and seconds of one call: the API, an aggregator for a step and for a note with nothing to do, the look.
_API, _STEP, _NOTE, _LOOK = (1.0, 0.06), (3.0, 1.0), (3.0, 0.05), (0.5, 0.2)
_IMAGE = 1.3


@dataclass(frozen=True)
class Course:
    """A run.

    Attributes
    ----------
    sites, rounds : int
        Of it.
    seconds : float
        That a site computes for a round.
    kilobytes : float
        Of one contribution, and of what is combined.
    """

    sites: int
    rounds: int
    seconds: float
    kilobytes: float


def _calls(number: float, each: tuple[float, float]) -> dict[str, float]:
    memory, seconds = each
    return {"function call": number, "function GB second": number * memory * seconds}


def _together(*parts: Mapping[str, float]) -> dict[str, float]:
    return {name: sum(part.get(name, 0.0) for part in parts) for name in {name for part in parts for name in part}}


def asked(course: Course) -> dict[str, float]:
    """Return how often a run asks for each thing that has a price."""
    sites, steps = course.sites, course.rounds + 3
    # A commit, a dozen looks for the result, and a word every 15 seconds, from each site.
    requests = sites * steps * (13 + course.seconds / 15)
    # A record is 1 to 4 KB, and in a transaction counts twice. A commit writes three; a step is claimed and published.
    writes = sites * steps * 14 + steps * 40
    reads = requests * 4 + steps * (sites * 2 + 12)
    sent = course.kilobytes / 1e6 * sites * steps
    return _together(
        _calls(requests, _API),
        _calls(steps, _STEP),
        _calls(steps * sites, _NOTE),
        {
            "gateway request": requests,
            "table write unit": writes,
            "table read unit": reads,
            "bucket write": steps * (sites + 2),
            "bucket read": steps * sites * 2,
            "queue request": steps * sites * 3,
            "log GB": requests * 0.6e-6,
            "GB out": sent,
        },
    )


def run(course: Course) -> float:
    """Return US dollars of a run."""
    return _priced(asked(course))


def idle() -> float:
    """Return US dollars of a month in which nothing happens: looks, polls of the queue, alarms, the image."""
    looks = _together(_calls(_MINUTES, _LOOK), {"table read unit": _MINUTES * 1.0, "log GB": _MINUTES * 0.4e-6})
    # Lambda asks a queue with five pollers, for twenty seconds each.
    kept = {"queue request": _MINUTES * 15.0, "alarm month": 7.0, "image GB month": _IMAGE, "bucket GB month": 1.0}
    return _priced(_together(looks, kept))


def _priced(asked: Mapping[str, float]) -> float:
    return sum(PRICES[name] * number for name, number in asked.items())


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    options = _options().parse_args(arguments)
    given = (options.sites, options.rounds, options.seconds, options.kilobytes)
    courses = [Course(*given)] if all(given) else _USUAL
    print("| sites | rounds | seconds a round | KB a contribution | US dollars a run, computed |")
    print("| --- | --- | --- | --- | --- |")
    for one in courses:
        print(f"| {one.sites} | {one.rounds} | {one.seconds:g} | {one.kilobytes:g} | {run(one):.3f} |")
    print(f"\nA month in which nothing happens: {idle():.2f} US dollars, computed.")


_USUAL = [
    Course(2, 20, 5, 23),
    Course(4, 300, 20, 23),
    Course(10, 300, 20, 23),
    Course(10, 3000, 20, 23),
    Course(50, 300, 60, 400),
]


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name, kind in (("sites", int), ("rounds", int), ("seconds", float), ("kilobytes", float)):
        parser.add_argument(f"--{name}", type=kind)
    return parser


if __name__ == "__main__":
    main()
