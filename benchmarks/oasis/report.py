"""The table of the arms, and their differences, from the rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.oasis.intervals import complete, difference, per_person, seeds, summary
from benchmarks.oasis.options import ARMS
from benchmarks.oasis.results import Row

_COLUMNS = (("white", "white"), ("grey", "grey"), ("foreground", "foreground"), ("with_background", "with background"))
#: In the scans' own space; older files do not have them.
_NATIVE = (("native_white", "native white"), ("native_grey", "native grey"), ("native", "native foreground"))
Group = tuple[str, str]


def groups(rows: Sequence[Row]) -> dict[Group, list[Row]]:
    """Return the rows of each (effect, arm): effects as they first appear, arms in the order of `ARMS`."""
    effects = dict.fromkeys(row.effect for row in rows)
    found = {
        (effect, arm): [row for row in rows if (row.effect, row.arm) == (effect, arm)]
        for effect in effects
        for arm in ARMS
    }
    return {key: some for key, some in found.items() if some}


def table(rows: Sequence[Row]) -> str:
    """Return the table: Dice with 95 % intervals over people, the worst person, and the costs."""
    people, spacing = len({row.person for row in rows}), rows[0].spacing
    columns = _columns(rows)
    lines = [
        f"{spacing:g} mm, {people} people; Dice, mean [95 % t interval over people]; costs of one training",
        f"{'effect':<9} {'arm':<14} {'seeds':>5} "
        + " ".join(f"{title:>20}" for _, title in columns)
        + f" {'worst':>6} {'seconds':>8} {'cpu s':>8} {'steps':>6} {'kB sent':>8} {'kB recvd':>8} {'parameters':>10}",
    ]
    found = groups(rows)
    return "\n".join(
        [*lines, *(_line(*key, complete(some), columns) for key, some in found.items()), *_left_out(found)]
    )


def _columns(rows: Sequence[Row]) -> tuple[tuple[str, str], ...]:
    return _COLUMNS + (_NATIVE if all(row.native is not None for row in rows) else ())


def _line(effect: str, arm: str, rows: Sequence[Row], columns: Sequence[tuple[str, str]]) -> str:
    means = " ".join(f"{summary(rows, name)!s:>20}" for name, _ in columns)
    sent, received = (np.mean([getattr(row, name) for row in rows]) / 1e3 for name in ("bytes_sent", "bytes_received"))
    seconds, steps = (float(np.mean([getattr(row, name) for row in rows])) for name in ("seconds", "steps"))
    busy = [row.cpu_seconds for row in rows if row.cpu_seconds is not None]
    worst = min(per_person(rows, "foreground").values())
    return (
        f"{effect:<9} {arm:<14} {len(seeds(rows)):>5} {means} {worst:>6.3f} {seconds:>8.0f} "
        f"{f'{np.mean(busy):.0f}' if busy else '':>8} {steps:>6.0f} {sent:>8.0f} {received:>8.0f} "
        f"{rows[0].parameters:>10}"
    )


def _left_out(found: dict[Group, list[Row]]) -> list[str]:
    """Say which seeds do not count."""
    return [
        f"not counted: {arm} ({effect}), seed {seed}, which lacks sites or people that another seed has"
        for (effect, arm), rows in found.items()
        for seed in sorted({*seeds(rows)} - {*seeds(complete(rows))})
    ]


def comparisons(rows: Sequence[Row], reference: str = "gradient-mean") -> str:
    """Return the paired differences of foreground Dice between gradient averaging and every other arm and effect."""
    found = groups(rows)
    lines = [f"foreground Dice of {reference} minus that of the other, paired by person and seed"]
    for (effect, arm), some in found.items():
        for other in dict.fromkeys(((effect, reference), ("none", reference))):
            # Under an effect: against the arm beside it, and the reference against itself without the effect.
            if other == (effect, arm) or other not in found or (other[0] != effect and arm != reference):
                continue
            gap = difference(found[other], some, "foreground")
            if gap is not None:
                lines.append(f"{other[1]} ({other[0]}) - {arm} ({effect}): {gap}")
    return "\n".join(lines) if len(lines) > 1 else ""
