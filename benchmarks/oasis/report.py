"""One table and one figure from the rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.oasis.intervals import difference, per_person, summary
from benchmarks.oasis.results import Row

_COLUMNS = (("white", "white"), ("grey", "grey"), ("foreground", "foreground"), ("with_background", "with background"))
Group = tuple[str, str]


def groups(rows: Sequence[Row]) -> dict[Group, list[Row]]:
    """Return the rows of each (effect, arm), in the order in which effects and arms first appear."""
    effects, arms = (list(dict.fromkeys(getattr(row, name) for row in rows)) for name in ("effect", "arm"))
    found = {
        (effect, arm): [row for row in rows if (row.effect, row.arm) == (effect, arm)]
        for effect in effects
        for arm in arms
    }
    return {key: some for key, some in found.items() if some}


def table(rows: Sequence[Row]) -> str:
    """Return the table: Dice with 95 % intervals over people, the worst person, and the costs."""
    people, spacing = len({row.person for row in rows}), rows[0].spacing
    lines = [
        f"{spacing:g} mm, {people} people; Dice, mean [95 % bootstrap interval over people]; costs of one training",
        f"{'effect':<9} {'arm':<14} {'seeds':>5} "
        + " ".join(f"{title:>20}" for _, title in _COLUMNS)
        + f" {'worst':>6} {'seconds':>8} {'steps':>6} {'kB sent':>8} {'kB recvd':>8} {'parameters':>10}",
    ]
    return "\n".join([*lines, *(_line(*key, some) for key, some in groups(rows).items())])


def _line(effect: str, arm: str, rows: Sequence[Row]) -> str:
    means = " ".join(f"{summary(rows, name)!s:>20}" for name, _ in _COLUMNS)
    sent, received = (np.mean([getattr(row, name) for row in rows]) / 1e3 for name in ("bytes_sent", "bytes_received"))
    seconds, steps = (float(np.mean([getattr(row, name) for row in rows])) for name in ("seconds", "steps"))
    worst = min(per_person(rows, "foreground").values())
    seeds = len({row.seed for row in rows})
    return (
        f"{effect:<9} {arm:<14} {seeds:>5} {means} {worst:>6.3f} {seconds:>8.0f} {steps:>6.0f} "
        f"{sent:>8.0f} {received:>8.0f} {rows[0].parameters:>10}"
    )


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


def figure(rows: Sequence[Row], path: Path) -> None:
    """Draw a column for each arm and effect: a dot for each person, the mean, and its interval; wants matplotlib."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    found = groups(rows)
    canvas = Figure(figsize=(max(5.0, 1.0 + 1.05 * len(found)), 4.6), layout="constrained")
    FigureCanvasAgg(canvas)
    axes = canvas.add_subplot()
    people = sorted({row.person for row in rows})
    ages = {row.person: row.age for row in rows}
    colours = {person: f"C{place}" for place, person in enumerate(people)}
    for place, some in enumerate(found.values()):
        values = per_person(some, "foreground")
        for rank, person in enumerate(people):
            if person in values:
                axes.plot(place - 0.16 + 0.08 * rank, values[person], "o", color=colours[person], ms=5, alpha=0.8)
        middle = summary(some, "foreground")
        error = [[middle.mean - middle.low], [middle.high - middle.mean]]
        axes.errorbar([place + 0.32], [middle.mean], yerr=error, fmt="D", color="black", ms=5, capsize=4)
        axes.annotate(
            f"{middle.mean:.3f}",
            (place + 0.32, middle.high),
            (0, 4),
            textcoords="offset points",
            ha="center",
            fontsize=8,
        )
    for person in people:
        axes.plot([], [], "o", color=colours[person], label=f"{ages[person]} years" if ages[person] else person)
    axes.plot([], [], "D", color="black", label="mean, 95 % interval")
    names = [arm if effect == "none" else f"{arm}\n({effect})" for effect, arm in found]
    axes.set_xticks(range(len(found)), names, rotation=30, ha="right", fontsize=8)
    axes.set_ylabel("foreground Dice of a person")
    axes.set_title(f"OASIS, four simulated sites, {rows[0].spacing:g} mm", fontsize=10)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=7, loc="lower left", ncols=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.savefig(path.with_suffix(".png"), dpi=150)
    with matplotlib.rc_context({"svg.hashsalt": "oasis"}):
        canvas.savefig(path.with_suffix(".svg"), metadata={"Date": None})
