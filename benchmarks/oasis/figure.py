"""The figure: a column for each arm and effect, once on the whole axis and once near the best."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.oasis.intervals import complete, per_person, seeds, summary
from benchmarks.oasis.report import Group, groups
from benchmarks.oasis.results import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Largest distance of an arm's mean from the best one's in the second panel.
_NEAR = 0.06


def draw(rows: Sequence[Row], path: Path) -> None:
    """Write the figure as PNG and SVG; wants matplotlib."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    found = groups(rows)
    # A second panel that shows what the first one does is none.
    panels = [found, near(found)] if len(near(found)) < len(found) else [found]
    canvas = Figure(figsize=(max(5.0, 1.0 + 1.05 * len(found)), 0.6 + 4.0 * len(panels)), layout="constrained")
    FigureCanvasAgg(canvas)
    drawn = canvas.subplots(len(panels), squeeze=False)[:, 0]
    for axes, panel in zip(drawn, panels, strict=True):
        _panel(axes, panel, sorted({row.person for row in rows}))
    drawn[0].set_title(f"OASIS, four simulated sites, {rows[0].spacing:g} mm", fontsize=10)
    for axes in drawn[1:]:
        axes.set_title(f"means within {_NEAR:g} of the best, on an axis of their own", fontsize=10)
    _legend(canvas, drawn[0], rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.savefig(path.with_suffix(".png"), dpi=150)
    with matplotlib.rc_context({"svg.hashsalt": "oasis"}):
        canvas.savefig(path.with_suffix(".svg"), metadata={"Date": None})


def near(found: dict[Group, list[Row]]) -> dict[Group, list[Row]]:
    """Return the arms whose mean is near the best one's: on an axis that holds all, these look the same."""
    means = {key: summary(some, "foreground").mean for key, some in found.items()}
    return {key: some for key, some in found.items() if max(means.values()) - means[key] <= _NEAR}


def label(group: Group, rows: Sequence[Row]) -> str:
    """Return what stands below an arm's column."""
    effect, arm = group
    count = len(seeds(complete(rows)))
    return "\n".join([arm, *([f"({effect})"] if effect != "none" else []), f"{count} seed{'s' if count > 1 else ''}"])


def _panel(axes: Axes, found: dict[Group, list[Row]], people: Sequence[str]) -> None:
    """Draw a dot for each person, the mean, and its interval."""
    for place, some in enumerate(found.values()):
        values = per_person(some, "foreground")
        for rank, person in enumerate(people):
            if person in values:
                axes.plot(place - 0.16 + 0.08 * rank, values[person], "o", color=f"C{rank}", ms=5, alpha=0.8)
        middle = summary(some, "foreground")
        error = [[middle.mean - middle.low], [middle.high - middle.mean]]
        axes.errorbar([place + 0.32], [middle.mean], yerr=error, fmt="D", color="black", ms=5, capsize=4)
        # The interval of a single person is not a number.
        top = max(middle.mean, middle.high)
        axes.annotate(
            f"{middle.mean:.3f}", (place + 0.32, top), (0, 4), textcoords="offset points", ha="center", fontsize=8
        )
    axes.set_xticks(range(len(found)), [label(*item) for item in found.items()], rotation=30, ha="right", fontsize=8)
    axes.set_ylabel("foreground Dice of a person")
    axes.margins(y=0.12)
    axes.grid(axis="y", alpha=0.3)


def _legend(canvas: Figure, axes: Axes, rows: Sequence[Row]) -> None:
    """Put it below all panels, where it covers nobody."""
    ages = {row.person: row.age for row in rows}
    for rank, person in enumerate(sorted(ages)):
        axes.plot([], [], "o", color=f"C{rank}", label=f"{ages[person]} years" if ages[person] else person)
    axes.plot([], [], "D", color="black", label="mean, 95 % interval over people")
    canvas.legend(fontsize=7, loc="outside lower center", ncols=len(ages) + 1)
