"""What a requester wants, put right: each value is kept, replaced or refused, as the report's functions should."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from computation.errors import PeersError
from peers.mesh.offers import DEVICES

__all__ = ["Wish", "settled"]

Told = Callable[[str], None]

_BATCH, _MOST_BATCH = 16, 65_536
_RATE, _ODD_RATE, _MOST_RATE = 0.001, 1.0, 100.0
_MOST_EPOCHS, _MOST_AGGREGATIONS = 1000, 1000
_MOST_PROVIDERS = 1000


@dataclass(frozen=True)
class Wish:
    """A task's numbers.

    Attributes
    ----------
    model, configuration : str
        Type, and JSON of its numbers.
    batch, epochs, providers : int
    rate : float
    device : str
        One of `DEVICES`, or nothing for whatever most have.
    aggregations : int
        Means in an epoch.
    staleness : int
        Cycles that a follower may be ahead of the slowest.
    seed : int
    """

    model: str
    configuration: str
    batch: int
    rate: float
    epochs: int
    providers: int
    device: str
    aggregations: int
    staleness: int
    seed: int

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return dict(vars(self))


def settled(raw: dict[str, Any], told: Told) -> Wish:
    """Return a wish from what a person said; what is put right is told.

    Parameters
    ----------
    raw : dict
        By the names of `Wish`; what is missing or None has its default.
    told : callable
        Hears of each value that is replaced.

    Raises
    ------
    PeersError
        If something can only be a mistake.
    """
    given = {name: value for name, value in raw.items() if value is not None}
    configuration = given.get("configuration", {})
    if not isinstance(configuration, dict):
        raise PeersError('the model\'s configuration is no object; wanted JSON such as {"classes": 10}')
    device = str(given.get("device", "")).replace("gpu", "cuda")
    if device not in ("", *DEVICES):
        raise PeersError(f"the device is {device[:20]!r}; wanted one of {', '.join(DEVICES)}, or none for any")
    return Wish(
        model=str(given.get("model", "simple-cnn")),
        configuration=json.dumps(configuration, sort_keys=True),
        batch=_whole("batch size", given.get("batch", _BATCH), 1, _MOST_BATCH, _BATCH, told),
        rate=_rate(given.get("rate", _RATE), told),
        epochs=_clipped("epochs", given.get("epochs", 1), _MOST_EPOCHS, told),
        providers=_clipped("providers", given.get("providers", 1), _MOST_PROVIDERS, told),
        device=device,
        aggregations=_clipped("aggregations in an epoch", given.get("aggregations", 1), _MOST_AGGREGATIONS, told),
        staleness=_whole("staleness", given.get("staleness", 16), 0, 1 << 20, 16, told),
        seed=_whole("seed", given.get("seed", 0), 0, (1 << 32) - 1, 0, told),
    )


def _number(what: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise PeersError(f"the {what} is {str(value)[:40]!r}; wanted a number")
    return number


def _whole(what: str, value: Any, least: int, most: int, default: int, told: Told) -> int:
    """Return a whole number, or the default where it is out of range."""
    number = int(_number(what, value))
    if least <= number <= most:
        return number
    told(f"a {what} of {number} is out of range, {least} to {most}; {default} is taken")
    return default


def _clipped(what: str, value: Any, most: int, told: Told) -> int:
    """Return a whole number from 1, cut off where it is absurd."""
    number = _number(f"number of {what}", value)
    whole = min(max(int(number), 1), most)
    if whole != number:
        told(f"{number:g} {what} are not possible; {whole} are taken")
    return whole


def _rate(value: Any, told: Told) -> float:
    rate = _number("learning rate", value)
    if rate <= 0:
        told(f"a learning rate of {rate:g} learns nothing; {_RATE} is taken")
        return _RATE
    if rate >= _MOST_RATE:
        raise PeersError(f"a learning rate of {rate:g} makes every model infinite; wanted less than {_MOST_RATE:g}")
    if rate > _ODD_RATE:
        told(f"a learning rate of {rate:g} is unusually high")
    return rate
