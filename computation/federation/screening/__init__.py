"""Finite poison: updates that are far too large, copied, empty or turned against the others' are found before any mean.

Every engine with a centre screens in this one place, after reading and before `combine`. `norms` compares sizes,
`copies` values that were there before, `direction` where updates point; `judging` puts them together. Nothing here has
a memory: `screen` takes the `State` and returns the next one, which is plain JSON in a checkpoint.

What this does not see: a wrong direction in one round, or one that is not against the others'. With two sites there is
no majority: then only size and copies are judged.
"""

from computation.federation.screening.judging import Screened, screen
from computation.federation.screening.state import Bounds, Finding, Past, State
from computation.federation.screening.telling import report, tell

__all__ = ["Bounds", "Finding", "Past", "Screened", "State", "report", "screen", "tell"]
