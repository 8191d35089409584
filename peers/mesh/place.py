"""Where a node says that it is: a hint, which measured round trips can refute."""

from __future__ import annotations

import math
from dataclasses import dataclass

from computation.errors import PeersError

__all__ = ["Place", "distance", "refuted"]

_EARTH_KM = 6371.0
#: Kilometres there and back in a second: light in glass does 200,000 one way.
_KM_PER_SECOND = 100_000.0


@dataclass(frozen=True)
class Place:
    """Latitude and longitude in degrees.

    Raises
    ------
    PeersError
        If there is no such place.
    """

    latitude: float
    longitude: float

    def __post_init__(self) -> None:
        if not (-90 <= self.latitude <= 90 and -180 <= self.longitude <= 180):
            raise PeersError(f"there is no place {self.latitude}, {self.longitude}; wanted degrees, as 43.47,-80.54")

    @classmethod
    def read(cls, text: str) -> Place:
        """Read LATITUDE,LONGITUDE."""
        first, _, second = text.partition(",")
        try:
            return cls(float(first), float(second))
        except ValueError:
            raise PeersError(f"{text[:40]!r} is no place; wanted degrees, such as 43.47,-80.54") from None


def distance(one: Place, other: Place) -> float:
    """Return kilometres along the great circle, by the haversine formula."""
    a, b = math.radians(one.latitude), math.radians(other.latitude)
    wide = math.radians(other.longitude - one.longitude)
    square = math.sin((b - a) / 2) ** 2 + math.cos(a) * math.cos(b) * math.sin(wide / 2) ** 2
    return 2 * _EARTH_KM * math.asin(min(math.sqrt(square), 1.0))


def refuted(kilometres: float, round_trip: float) -> bool:
    """Tell whether an answer came sooner than it can from so far away; a late one says nothing."""
    return round_trip > 0 and kilometres > round_trip * _KM_PER_SECOND
