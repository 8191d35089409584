"""Who fails to log in has to wait, longer each time."""

from __future__ import annotations

import hashlib
import ipaddress
import math
from dataclasses import dataclass

from service.clock import Clock
from service.identity.records import Records
from service.protocol.refusals import TooMany

__all__ = ["Rule", "Throttle", "Throttled"]

#: Milliseconds after which failures are forgotten.
_FORGOTTEN = 3_600_000
#: Bits of an address of IPv6 that whoever has it did not choose.
_NETWORK = 64


class Throttled(TooMany):
    """Too many attempts.

    Attributes
    ----------
    wait : int
        Seconds after which the next may be made.
    """

    def __init__(self, wait: int) -> None:
        super().__init__("attempts", f"too many attempts; try again in {wait} s", wait=wait)
        self.wait = wait


@dataclass(frozen=True)
class Rule:
    """How many failures are free, and the longest wait after them, in seconds; waits double from one second on."""

    free: int
    longest: int

    def wait(self, failures: int) -> int:
        """Return how many milliseconds after the last failure the next attempt may come."""
        return 1000 * min(2 ** min(failures - self.free, 30), self.longest) if failures >= self.free else 0


#: For a name from one address; for a name from everywhere, shorter, so that strangers cannot lock its owner out for
#: long; and for an address whatever the names.
_RULES = {"both": Rule(5, 900), "name": Rule(20, 30), "address": Rule(50, 900)}


class Throttle:
    """Counts attempts by name and by address; names that do not exist count like others."""

    def __init__(self, records: Records, clock: Clock) -> None:
        self._records, self._clock = records, clock

    def admit(self, name: str, address: str) -> None:
        """Let an attempt be made and count it as failed, until `succeeded` takes it back.

        It is counted before its outcome is known: of many at once each sees those before it.

        Raises
        ------
        Throttled
            If it comes too early; it is not counted.
        """
        now = self._clock()
        with self._records.changing():
            self._records.sweep(now, _FORGOTTEN)
            counted = {key: (rule, *self._records.attempts(key)) for key, rule in _keys(name, address).items()}
            wait = max(min(last, now) + rule.wait(failures) - now for rule, failures, last in counted.values())
            if wait > 0:
                raise Throttled(math.ceil(wait / 1000))
            for key, (_, failures, _last) in counted.items():
                self._records.put_attempts(key, failures + 1, now)

    def succeeded(self, name: str, address: str) -> None:
        """Forget the failures of a name from an address; of the address with other names, this attempt alone."""
        with self._records.changing():
            for key, rule in _keys(name, address).items():
                failures, last = self._records.attempts(key)
                self._records.put_attempts(key, failures - 1 if rule is _RULES["address"] else 0, last)


def _keys(name: str, address: str) -> dict[str, Rule]:
    address = _neighbours(address)
    parts = {"both": (name.casefold(), address), "name": (name.casefold(),), "address": (address,)}
    return {_digest(kind, *parts[kind]): rule for kind, rule in _RULES.items()}


def _neighbours(address: str) -> str:
    """Return what one is counted by: of IPv6, whose addresses anybody has 2**64 of, the network."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    return str(found.ipv4_mapped or ipaddress.ip_network((int(found), _NETWORK), strict=False))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()
