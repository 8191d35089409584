"""How far false contributions move each rule, and how long each takes; no network, vectors only.

Run: `.venv/bin/python -m benchmarks.rules`. Each honest site's vector is a common one, an own shift as large and noise
as large as both: gradients of single sub-volumes at sites that differ. Distances are from the mean of the honest
vectors, in units of how far these lie from it (root mean square): the mean of the honest ones themselves would be off
by 1 / sqrt(number) of one site's vector. Prints one table and writes benchmarks/results/rules.csv.
"""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, median

import numpy as np

from benchmarks.oasis.options import commit
from benchmarks.poison import little
from computation.settings import RULES
from computation.strategies.average import weighted_mean
from computation.strategies.rules import Rule
from computation.strategies.rules.base import Array
from computation.tracking import lines

COUNT, FALSE, SIZE, DRAWS = 5, 1, 5_688, 20
WAYS = [
    Rule(),
    Rule("mean", FALSE, clips=True),
    *(Rule(name, FALSE, mixes) for name in RULES[1:] for mixes in (False, True)),
]
TIMED = [(4, 5_688), (32, 2_000_000)]
RESULTS = Path(__file__).parent / "results" / "rules.csv"

Attack = Callable[[Array], Array]

#: What a false site sends, from what the honest ones do.
ATTACKS: dict[str, Attack] = {
    "none": lambda honest: honest[0],
    "x1000": lambda honest: honest[0] * 1000,
    "flip x1": lambda honest: -honest[0],
    "flip x10": lambda honest: -10 * honest[0],
    "zeros": lambda honest: honest[0] * 0,
    # Baruch et al. 2019, arXiv 1902.06156.
    "ALIE": lambda honest: little(list(honest)),
    # Xie et al. 2020, arXiv 1903.03936, the small one and the one that turns a plain mean round.
    "inner product 0.5": lambda honest: -0.5 * honest.mean(axis=0),
    "inner product 10": lambda honest: -10 * honest.mean(axis=0),
    # Karimireddy et al. 2022, arXiv 2006.09365: all false sites say what one honest site says.
    "mimic": lambda honest: honest[2],
}


def main() -> None:
    rows = [{"rule": title(rule), **moved(rule), **timed(rule), "commit": commit()} for rule in WAYS]
    print(f"{COUNT} sites, {FALSE} false; {'  '.join(list(rows[0])[1:-1])}")
    for row in rows:
        print(f"{row['rule']:<28}", "  ".join(f"{value:>9}" for value in list(row.values())[1:-1]))
    text = io.StringIO()
    table = csv.DictWriter(text, rows[0], lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    lines.replace(RESULTS, text.getvalue())


def title(rule: Rule) -> str:
    return ("clipped " if rule.clips else "") + ("mixed " if rule.mixes else "") + rule.name


def moved(rule: Rule) -> dict[str, float]:
    """Return, by attack, how far a rule's result is from the honest mean, over some draws."""
    found: dict[str, list[float]] = {name: [] for name in ATTACKS}
    for draw in range(DRAWS):
        rng = np.random.default_rng(draw)
        honest = rng.normal(size=SIZE) + rng.normal(size=(COUNT - FALSE, SIZE))
        honest += math.sqrt(2) * rng.normal(size=honest.shape)
        centre = honest.mean(axis=0)
        apart = math.sqrt(fmean(((honest - centre) ** 2).sum(axis=1)))
        for name, attack in ATTACKS.items():
            vectors = [*honest, *[attack(honest)] * FALSE]
            made = np.mean(vectors, axis=0) if rule.plain else rule.combine(vectors)
            found[name].append(float(np.linalg.norm(made - centre)) / apart)
    return {name: round(fmean(distances), 2) for name, distances in found.items()}


def timed(rule: Rule) -> dict[str, float]:
    """Return the milliseconds of processor time that one round takes, by number of sites and values."""
    table = {}
    for count, size in TIMED:
        rng = np.random.default_rng(0)
        vectors = [rng.standard_normal(size).astype(np.float32) for _ in range(count)]
        one = Rule(rule.name, 1 if count > 4 else 0, rule.mixes, rule.clips)
        spent = []
        for _ in range(21 if size < 100_000 else 1):
            began = time.process_time()
            if one.plain:
                weighted_mean(vectors, [1 / count] * count)
            else:
                one.combine(vectors)
            spent.append(1e3 * (time.process_time() - began))
        table[f"ms, {count} x {size}"] = round(median(spent), 2)
    return table


if __name__ == "__main__":
    main()
