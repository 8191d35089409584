"""Finite poison: updates too large, copied, empty, turned or to one side of the others' are found before any mean.

Whoever holds single contributions screens in this one place, after reading and before `combine`. `norms` compares
sizes, `copies` values that were there before, `direction` where updates point, `drift` where they lead in many rounds;
`judging` puts them together. `screen` judges a round's contributions and has no memory: it takes the `State` and
returns the next one, which is plain JSON in a checkpoint. `Arrivals` judges those that come one by one.

What this does not see: a wrong direction in one round, or one that leads no farther than honest scans do. With two
sites there is no majority: then only size and copies are judged; with three, no drift.
"""

from computation.federation.screening.arriving import Arrivals
from computation.federation.screening.state import NO_BOUNDS, Bounds, Finding, Past, State
from computation.federation.screening.telling import report, tell
from computation.federation.screening.together import Screened, screen

__all__ = ["NO_BOUNDS", "Arrivals", "Bounds", "Finding", "Past", "Screened", "State", "report", "screen", "tell"]
