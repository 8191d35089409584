"""Published texts that spread from neighbour to neighbour: who has a new one passes it on, who has it drops it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Protocol

import numpy as np

from peers.traffic import Count, Traffic

__all__ = ["World", "neighbours", "spread"]


class World(Protocol):
    """What spreading needs of virtual time."""

    traffic: Traffic

    def carry(
        self, sender: str, receiver: str, values: int, size: int, arrive: Callable[[], None], reliable: bool = True
    ) -> None:
        """Take something from one end of a link to the other, or lose it."""
        ...

    def alive(self, name: str) -> bool:
        """Tell whether a peer is there."""
        ...


@lru_cache(maxsize=16)
def neighbours(names: tuple[str, ...], degree: int, seed: int) -> dict[str, tuple[str, ...]]:
    """Return each one's neighbours: on a circle in an order by chance, the `degree` nearest ones, or all others."""
    order = [names[place] for place in np.random.default_rng(seed).permutation(len(names))]
    reach = range(1, min(degree, len(names) - 1) // 2 + 1)
    steps = {step for one in reach for step in (one, -one)} | ({len(names) // 2} if degree % 2 else set())
    return {name: _stepped(order, place, steps) for place, name in enumerate(order)}


def _stepped(order: Sequence[str], place: int, steps: set[int]) -> tuple[str, ...]:
    return tuple(sorted({order[(place + step) % len(order)] for step in steps} - {order[place]}))


def spread(
    world: World, near: dict[str, tuple[str, ...]], sender: str, size: int, arrive: Callable[[str], None]
) -> None:
    """Let something spread; `arrive` is told of each other peer that has it, once."""
    has = {sender}

    def pass_on(own: str, source: str) -> None:
        for name in near[own]:
            if name not in (source, sender) and world.alive(name):
                world.carry(own, name, 0, size, lambda name=name: come(own, name), False)  # type: ignore[misc]

    def come(source: str, own: str) -> None:
        if own in has:
            world.traffic.count(source, own, Count(duplicates=1, again=size))
            return
        has.add(own)
        arrive(own)
        pass_on(own, source)

    pass_on(sender, sender)
